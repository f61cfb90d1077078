"""The Spark session: what is missing on a machine is said in one line, before Spark's own scripts say it in theirs."""

import pytest

from tarloom.engines.spark_session import start
from tarloom.errors import EngineError


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("JAVA_HOME", r"Spark cannot start without \S*/absent/bin/java; it needs Java 17 or newer: check JAVA_HOME"),
        ("SPARK_HOME", r"SPARK_HOME: no Spark in \S*/absent; unset it"),
    ],
)
def test_a_java_or_spark_that_is_not_there_is_one_line_that_names_it(tmp_path, monkeypatch, capfd, name, said):
    for other in ("PYSPARK_GATEWAY_PORT", "SPARK_CONF_DIR", "SPARK_HOME"):
        monkeypatch.delenv(other, raising=False)
    monkeypatch.setenv(name, str(tmp_path / "absent"))
    with pytest.raises(EngineError, match=said):
        start(1, {})
    assert capfd.readouterr() == ("", "")
