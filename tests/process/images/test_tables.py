"""Which shards make which file of tables, and which files of earlier runs stay."""

from threading import Event

import pyarrow as pa
import pyarrow.dataset as pads
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tarloom.format.storage import open_storage
from tarloom.process.images.tables import Files, Tables
from tests.format.raw import write_parquet

SHARDS = [f"{number:05d}" for number in range(6)]


@given(st.integers(0, 40), st.integers(1, 12), st.integers(1, 50), st.randoms())
def test_each_shard_is_in_one_file_which_is_written_once_when_its_last_shard_is_through(
    shards, rows_per_shard, rows_per_file, dice
):
    names = [f"{number:05d}" for number in range(shards)]
    files = Files(names, rows_per_shard=rows_per_shard, rows_per_file=rows_per_file)
    through, written = set(), {}
    for name in dice.sample(names, len(names)):
        through.add(name)
        for number, made_of in files.with_shard(name):
            assert through.issuperset(made_of)
            assert number not in written
            written[number] = made_of
    assert [name for number in sorted(written) for name in written[number]] == names
    assert sorted(written) == list(range(len(written)))
    most = max(rows_per_file, rows_per_shard)
    assert all(len(made_of) * rows_per_shard <= most for made_of in written.values())


@pytest.fixture
def tables(tmp_path) -> Tables:
    """Of six shards with a row each."""
    for shard in SHARDS:
        write_parquet(tmp_path / "_shards" / f"{shard}.parquet", {"key": [shard], "status": ["failed_to_download"]})
    shards = open_storage(str(tmp_path / "_shards"))
    return Tables(shards=shards, storage=open_storage(str(tmp_path)), stages=(), member=None)


def write(tables: Tables, rows_per_file: int, *, least: int = 0, shards=tuple(SHARDS)) -> None:
    """Go on with a run; files before the least one are not reached."""
    files = Files(shards, rows_per_shard=1, rows_per_file=rows_per_file)
    tables.begin(files)
    for shard in shards:
        for number, made_of in files.with_shard(shard):
            if number >= least:
                tables.write(number, made_of, Event())


def keys(tables: Tables) -> list[str]:
    found = pads.dataset(tables.storage.url, pa.schema([("key", pa.string())]), format="parquet")
    return sorted(found.to_table().column("key").to_pylist())


@pytest.mark.parametrize("rows_per_file", [1, 3, 4, 6])
@pytest.mark.parametrize("least", [0, 1])
def test_no_row_is_in_two_files_of_a_run_that_goes_on_with_files_of_another_size(tables, rows_per_file, least):
    write(tables, 2)
    assert keys(tables) == SHARDS
    write(tables, rows_per_file, least=least)
    assert keys(tables) == SHARDS[least * rows_per_file :]


def test_files_beyond_the_last_go_and_the_others_stay(tables):
    write(tables, 2)
    before = tables.storage.head("part-00000.parquet")
    write(tables, 2, shards=SHARDS[:3])
    assert keys(tables) == SHARDS[:3]
    assert tables.storage.head("part-00000.parquet") == before
