"""Workers do not load what they have no use for."""

import subprocess
import sys

import pytest

PLANNING = "import tarloom.create.job"
LOOKS = "import sys, pyarrow; pyarrow.array(['a']); print('pandas' in sys.modules)"
SPARED = (
    f"from tarloom.create.lean import do_without_pandas as spare; spare(); {LOOKS}; import pandas; pandas.DataFrame()"
)


def printed_by(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_planning_loads_neither_a_web_client_nor_a_codec():
    heavy = "{'aiohttp', 'cv2', 'simplejpeg', 'uvloop'}"
    assert printed_by(f"import sys; {PLANNING}; print({heavy} & set(sys.modules))") == "set()"


def test_no_command_loads_pandas_before_it_knows_what_it_is_to_do():
    code = "import sys, tarloom.cli.commands; print('pandas' in sys.modules)"
    assert printed_by(code) == "False"


def test_pyarrow_does_not_load_pandas_where_it_is_told_to_do_without():
    pytest.importorskip("pandas")
    assert printed_by(SPARED) == "False"
    assert printed_by(LOOKS) == "True", "pyarrow no longer looks: lean.py has no use any more"
