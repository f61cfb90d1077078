"""The Spark session: what is missing on a machine is said in one line, before Spark's own scripts say it in theirs."""

import subprocess
import sys

import pytest

from tarloom.engines.spark_session import start
from tarloom.errors import EngineError

FAILING = """
from pyspark.errors import PySparkException
from tarloom.engines.spark_session import spark_session
from tarloom.errors import ShardError

def fail(batches):
    raise {error}("what was wrong")
    yield

with spark_session(1, {{}}) as spark:
    try:
        spark.range(1).mapInArrow(fail, "a int").collect()
    except PySparkException:
        print("told")
"""


@pytest.mark.slow
@pytest.mark.parametrize(("error", "is_ours"), [("ShardError", True), ("ValueError", False)])
def test_of_a_task_that_an_error_of_ours_ends_spark_says_nothing_beside_it(tmp_path, error, is_ours):
    (tmp_path / "job.py").write_text(FAILING.format(error=error))
    ended = subprocess.run([sys.executable, tmp_path / "job.py"], capture_output=True, text=True, timeout=300)
    assert ended.stdout == "told\n", ended.stderr
    assert "aborting job" not in ended.stderr
    assert ("Exception in task" in ended.stderr) != is_ours
    assert ("what was wrong" in ended.stderr) != is_ours


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
