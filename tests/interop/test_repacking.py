"""What img2dataset made can be cut anew, and nothing of it is lost."""

import json
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from tarloom.format.verify.dataset import verify
from tests.create.helpers import create
from tests.interop.conftest import FAILING, PICTURES


@pytest.fixture(scope="module")
def repacked(img2datasets_folder, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("repacked") / "set"
    create(img2datasets_folder, folder, number_sample_per_shard=30, disable_all_reencoding=True)
    return folder


def members(folder: Path) -> dict[str, bytes]:
    found = {}
    for path in sorted(folder.glob("*.tar")):
        with tarfile.open(path) as tar:
            found |= {member.name: tar.extractfile(member).read() for member in tar}
    return found


def metadata(folder: Path) -> pa.Table:
    return pa.concat_tables(pq.read_table(path) for path in sorted(folder.glob("*.parquet"))).sort_by("key")


def test_all_members_are_there_in_even_shards(img2datasets_folder, repacked):
    assert members(repacked) == members(img2datasets_folder)
    sizes = [json.loads(path.read_bytes())["successes"] for path in repacked.glob("*_stats.json")]
    assert sorted(sizes, reverse=True) == [30, 30, 30, PICTURES - 90]
    assert [finding for report in verify(repacked) for finding in report.findings] == []


def test_all_rows_and_columns_are_there_and_failures_have_names(img2datasets_folder, repacked):
    theirs, ours = metadata(img2datasets_folder), metadata(repacked)
    same = [name for name in theirs.column_names if name != "error_message"]
    assert ours.select(same) == theirs.select(same)
    failed = ours.filter(pc.is_valid(ours["error"]))
    assert len(failed) == len(FAILING)
    assert set(failed["error"].to_pylist()) == {"http_404", "not_an_image"}
