"""The catalogue spares an opening the look at every index, and is never believed about a tar that has changed."""

import os
import pickle
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import tarloom
from tarloom.errors import CorruptShard, ShardError, StaleIndex, UsageError
from tarloom.format.index_load import cache_storage
from tarloom.format.layout import CATALOG, PLAN
from tarloom.format.storage import open_storage
from tarloom.format.storage.local import LocalStorage
from tarloom.format.verify.dataset import verify
from tarloom.read.plan import indexes
from tarloom.read.plan.facts import HANDFUL
from tests.format.raw import packed_dataset, sample_members, some_samples, write_index, write_parquet, write_tar

SHARDS = HANDFUL + 2
ROWS = 3


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("TARLOOM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def many(tmp_path) -> Path:
    """Tars of someone else, more than a handful; number N holds the keys from N * ROWS on."""
    for number in range(SHARDS):
        write_tar(tmp_path / "many" / name(number), some_samples(ROWS, first=number * ROWS))
    return tmp_path / "many"


def name(number: int) -> str:
    return f"{number:05d}.tar"


def make_unreadable(folder: Path, *, but: tuple[int, ...] = (), indexes: Path | None = None) -> None:
    """All indexes go, and all tars but these are no tars, of the same size and time: to look at one is to fail."""
    shutil.rmtree(indexes or folder / "_tarloom" / "index")
    for number in set(range(SHARDS)) - set(but):
        tar = folder / name(number)
        found = tar.stat()
        tar.write_bytes(b"\1" * found.st_size)
        os.utime(tar, ns=(found.st_atime_ns, found.st_mtime_ns))


def test_an_opening_of_many_shards_spares_the_next_one_the_look_at_them(many):
    first = tarloom.open(many)
    assert len(first) == SHARDS * ROWS
    make_unreadable(many)
    second = tarloom.open(many)
    assert (len(second), second.members) == (SHARDS * ROWS, ("jpg", "json", "txt"))
    assert list(second.catalog.facts()) == list(first.catalog.facts())
    assert second.pieces() == first.pieces()


def test_only_shards_that_have_changed_are_looked_at_again(many):
    len(tarloom.open(many))
    make_unreadable(many)
    write_tar(many / name(3), some_samples(20, first=900))
    assert len(tarloom.open(many)) == (SHARDS - 1) * ROWS + 20
    os.utime(many / name(4), ns=(0, 0))  # of the same size, and not the tar that it was
    with pytest.raises(CorruptShard, match=name(4)):
        len(tarloom.open(many))


def test_shards_that_come_and_go_are_seen(many):
    len(tarloom.open(many))
    (many / name(0)).rename(many / "elsewhere.tar")
    (many / name(1)).unlink()
    assert [sample["__key__"] for sample in tarloom.open(many)][-ROWS:] == [key for key, _ in some_samples(ROWS)]
    assert len(tarloom.open(many)) == (SHARDS - 1) * ROWS


def test_a_few_shards_need_no_catalogue(many):
    for number in range(HANDFUL, SHARDS):
        (many / name(number)).unlink()
    assert len(tarloom.open(many)) == HANDFUL * ROWS
    assert len(tarloom.open(many / name(2))) == ROWS
    assert not (many / CATALOG).exists()


def damaged(path: Path, damage: str) -> None:
    table = pq.read_table(path)
    footer = dict(table.schema.metadata)
    if damage == "version":
        table = table.replace_schema_metadata(footer | {b"tarloom.format_version": b"0"})
    elif damage == "column":
        table = table.drop_columns(["rows"]).replace_schema_metadata(footer)
    elif damage == "counts":
        at = table.schema.get_field_index("rows")
        table = table.set_column(at, table.schema.field("rows"), pa.array([-1] * len(table), pa.int64()))
    elif damage == "foreign":
        table = pa.table({"a": [1]})
    else:
        data = path.read_bytes()
        path.write_bytes({"cut": data[:-50], "empty": b"", "flipped": data[:40] + b"\0" * 9 + data[49:]}[damage])
        return
    pq.write_table(table, path)


DAMAGES = ("version", "column", "counts", "foreign", "cut", "empty", "flipped")


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_catalogue_that_is_none_is_made_anew(many, damage):
    len(tarloom.open(many))
    sound = (many / CATALOG).read_bytes()
    damaged(many / CATALOG, damage)
    assert len(tarloom.open(many)) == SHARDS * ROWS
    assert (many / CATALOG).read_bytes() == sound


def test_a_catalogue_of_a_dataset_that_cannot_be_written_is_kept_in_the_cache_folder(many, cache):
    (many / "_tarloom").write_bytes(b"in the way")
    len(tarloom.open(many))
    assert cache_storage(open_storage(many)).head(CATALOG) is not None
    make_unreadable(many, indexes=next(cache.rglob("index")))
    assert len(tarloom.open(many)) == SHARDS * ROWS


def test_a_catalogue_that_can_be_kept_nowhere_is_no_error(many, cache):
    (many / "_tarloom").write_bytes(b"in the way")
    cache.write_bytes(b"in the way")
    assert len(tarloom.open(many)) == SHARDS * ROWS


def test_a_shard_that_cannot_be_opened_is_looked_at_each_time(many):
    sound = (many / name(5)).read_bytes()
    (many / name(5)).write_bytes(b"\1" * len(sound))
    for _ in range(2):
        with pytest.raises(CorruptShard, match=name(5)):
            len(tarloom.open(many))
        assert len(tarloom.open(many).on_error("skip")) == (SHARDS - 1) * ROWS
    (many / name(5)).write_bytes(sound)
    assert len(tarloom.open(many)) == SHARDS * ROWS


def test_an_index_that_was_replaced_is_found_at_the_next_opening(many):
    samples = some_samples(2)
    places = write_tar(many / name(0), samples)
    write_index(many, "00000", places, "sha256:one")
    len(tarloom.open(many))
    write_index(many, "00000", places, "sha256:other")
    with pytest.raises(StaleIndex, match="open the dataset again"):
        list(tarloom.open(many))
    assert len(list(tarloom.open(many))) == (SHARDS - 1) * ROWS + 2


def test_a_tar_that_changes_while_it_is_read_costs_no_catalogue(many):
    dataset = tarloom.open(many)
    assert len(dataset) == SHARDS * ROWS
    write_tar(many / name(0), some_samples(ROWS, first=700))
    with pytest.raises(StaleIndex, match="open the dataset again"):
        list(dataset)
    assert (many / CATALOG).exists()
    assert next(iter(tarloom.open(many)))["__key__"] == f"{700:09d}"


changes = st.sampled_from(["add", "remove", "replace", "rewrite", "damage", "forget", "open"])


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(changes, st.integers(0, SHARDS - 1)), max_size=8))
def test_whatever_was_done_to_the_shards_the_facts_are_those_of_the_indexes(tmp_path_factory, steps):
    folder = tmp_path_factory.mktemp("many")
    for number in range(SHARDS):
        write_tar(folder / name(number), some_samples(1, first=number))
    len(tarloom.open(folder))
    for step, (what, number) in enumerate(steps):
        change(folder, what, number, step)
    with_catalogue = tarloom.open(folder).catalog.facts()
    (folder / CATALOG).unlink(missing_ok=True)
    assert with_catalogue.table.equals(tarloom.open(folder).catalog.facts().table)


def change(folder: Path, what: str, number: int, step: int) -> None:
    tar, catalogue = folder / name(number), folder / CATALOG
    if what == "remove" and len(list(folder.glob("*.tar"))) > 1:
        tar.unlink(missing_ok=True)
    elif what in ("add", "replace"):
        write_tar(folder / name(number + (100 if what == "add" else 0)), some_samples(1 + step, first=500))
    elif what == "rewrite" and tar.exists():
        tar.write_bytes(tar.read_bytes())
    elif what == "damage" and catalogue.exists():
        catalogue.write_bytes(catalogue.read_bytes()[: 100 * number])
    elif what == "forget":
        catalogue.unlink(missing_ok=True)
    elif what == "open":
        len(tarloom.open(folder))


def test_a_key_is_looked_for_only_in_shards_whose_keys_reach_around_it(many):
    len(tarloom.open(many))
    make_unreadable(many, but=(7,))
    dataset = tarloom.open(many)
    key = f"{7 * ROWS + 1:09d}"
    assert dataset[key]["txt"] == b"a caption"
    assert f"{7 * ROWS:09d}x" not in dataset
    assert "zzz" not in dataset
    with pytest.raises(CorruptShard):
        dataset[f"{8 * ROWS + 1:09d}"]


def test_a_key_in_no_order_is_found_in_the_first_shard_that_has_it(tmp_path):
    for number in range(SHARDS * 2):
        keys = ("ä", f"{number:03d}", "größe" if number in (19, 20) else f"x{number}")
        write_tar(tmp_path / name(number), [(key, sample_members(key, number)) for key in keys])
    dataset = tarloom.open(tmp_path)
    assert dataset["größe"]["__url__"].endswith(name(19))
    assert dataset["ä"]["__url__"].endswith(name(0))
    assert "xx" not in dataset


def test_pieces_come_one_at_a_time_and_add_up(many):
    dataset = tarloom.open(many).select("txt")
    assert list(dataset.plan(700)) == dataset.pieces(700)
    assert sum(piece.rows for piece in dataset.plan(700)) == len(dataset)
    assert 0 <= dataset.nbytes - sum(piece.bytes for piece in dataset.plan(700)) < len(dataset.pieces(700))


def test_each_piece_of_a_plan_is_made_alone_as_in_its_place(many):
    write_tar(many / "empty.tar", [])
    plan = tarloom.open(many).plan(500)
    assert [plan[number] for number in range(len(plan))] == list(plan)
    assert len(pickle.loads(pickle.dumps(plan))) == len(plan) > SHARDS
    with pytest.raises(IndexError):
        plan[len(plan)]
    with pytest.raises(ValueError, match="target_bytes must be at least 1"):
        len(tarloom.open(many).plan(0))


def test_a_piece_carries_nothing_of_other_shards(many):
    dataset = tarloom.open(many)
    assert max(len(pickle.dumps(piece)) for piece in dataset.plan()) < 1000
    copy = pickle.loads(pickle.dumps(dataset))
    assert copy.pieces() == dataset.pieces()


def test_the_columns_are_those_of_the_first_tables_that_can_be_read(many):
    for number in range(SHARDS):
        (many / f"{number:05d}.parquet").write_bytes(b"no parquet")
    dataset = tarloom.open(many)
    assert dataset.columns == dataset.members
    assert len(dataset.catalog.unreadable) < SHARDS


def test_an_index_that_several_threads_want_is_loaded_once(many, monkeypatch):
    loaded: list[str] = []
    load = indexes.load_index
    begun = threading.Barrier(2)

    def slowly(storage, shard, tar, *, identity):
        loaded.append(shard)
        begun.wait(10)  # until another thread has come for it
        return load(storage, shard, tar, identity=identity)

    monkeypatch.setattr(indexes, "load_index", slowly)
    indexes._kept.clear()
    (piece, *_) = tarloom.open(many).pieces()
    wanted = (piece.storage, piece.shard, piece.tar, piece.identity)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(indexes.cached_index, *wanted)
        while not indexes._loading:
            time.sleep(0.001)
        second = pool.submit(indexes.cached_index, *wanted)
        time.sleep(0.05)
        begun.wait(10)
        assert first.result() is second.result()
    assert loaded == [piece.shard]
    assert not indexes._loading


FORKED_MEANWHILE = """
import os
import sys
import threading
import tarloom
from tarloom.read.plan import indexes
load, begun, going_on = indexes.load_index, threading.Event(), threading.Event()

def slowly(*wanted, identity):
    begun.set()
    going_on.wait()
    return load(*wanted, identity=identity)

indexes.load_index = slowly
dataset = tarloom.open(sys.argv[1])
len(dataset)
thread = threading.Thread(target=lambda: next(iter(dataset)))
thread.start()
begun.wait()
child = os.fork()
going_on.set()
if child == 0:
    os._exit(sum(1 for _ in dataset))
thread.join()
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_a_process_that_is_forked_while_an_index_is_loaded_loads_it_itself(tmp_path):
    write_tar(tmp_path / "00000.tar", some_samples(7))
    command = [sys.executable, "-c", FORKED_MEANWHILE, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.stdout == "7\n", done.stderr


def test_indexes_are_kept_by_their_bytes(many, monkeypatch):
    monkeypatch.setattr(indexes, "INDEX_BYTES_KEPT", 2000)
    indexes._kept.clear()
    dataset = tarloom.open(many)
    for number in range(SHARDS):
        dataset.catalog.index(number)
    assert 1 <= len(indexes._kept) < SHARDS
    assert list(indexes._kept)[-1][1] == f"{SHARDS - 1:05d}"


def test_a_catalogue_in_an_object_store_goes_by_etags(many, s3_folder):
    storage = open_storage(s3_folder)
    for tar in many.glob("*.tar"):
        storage.write(tar.name, tar.read_bytes())
    assert len(tarloom.open(s3_folder)) == SHARDS * ROWS
    for entry in list(storage.list("_tarloom/index")):
        storage.delete(entry.name)
    made = tarloom.open(s3_folder)
    assert len(made) == SHARDS * ROWS
    assert list(storage.list("_tarloom/index")) == []
    changed = [(key, {"txt": b"another cap"}) for key, _ in some_samples(ROWS)]
    write_tar(many / name(0), changed)
    storage.write(name(0), (many / name(0)).read_bytes())
    changed_dataset = tarloom.open(s3_folder)
    assert len(changed_dataset) == SHARDS * ROWS
    assert [entry.name for entry in storage.list("_tarloom/index")] == ["_tarloom/index/00000.parquet"]
    assert changed_dataset[changed[0][0]] == {
        "__key__": changed[0][0],
        "__url__": f"{s3_folder}/{name(0)}",
        "txt": b"another cap",
    }


def test_a_dataset_can_be_read_again_in_the_process_that_found_an_index_stale_and_removed_it(many):
    assert len(list(tarloom.open(many))) == SHARDS * ROWS
    tar = many / name(0)
    times = tar.stat()
    write_tar(tar, some_samples(ROWS, first=30 * 1000))
    os.utime(tar, ns=(times.st_atime_ns, times.st_mtime_ns))
    with pytest.raises(StaleIndex, match=r"remove .* and open it again"):
        list(tarloom.open(many))
    (many / "_tarloom" / "index" / "00000.parquet").unlink()
    assert [sample["__key__"] for sample in tarloom.open(many)][:ROWS] == [
        key for key, _ in some_samples(ROWS, first=30000)
    ]


def test_a_column_called_as_what_readers_give_a_sample_is_left_out(tmp_path):
    samples = some_samples(2)
    write_tar(tmp_path / "a.tar", samples)
    columns = {"key": [key for key, _ in samples], "status": ["success"] * 2, "mine": [1, 2]}
    write_parquet(tmp_path / "a.parquet", columns | {"__key__": ["x", "y"], "__url__": ["x", "y"]})
    dataset = tarloom.open(tmp_path)
    assert [name for name in dataset.columns if name not in samples[0][1]] == ["key", "status", "mine"]
    with pytest.raises(UsageError, match="__url__ comes by itself where there is one"):
        dataset.select("__url__")


@contextmanager
def as_somebody_else() -> Iterator[None]:
    """Permissions bind nobody who is root."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)


@pytest.mark.parametrize("planned", [False, True])
def test_what_another_reader_has_kept_to_itself_is_as_good_as_absent(planned):
    with tempfile.TemporaryDirectory() as folder:
        packed_dataset(Path(folder), shards=2)
        if not planned:
            for path in (Path(folder) / PLAN, *Path(folder).glob("*_stats.json")):
                path.unlink()
        (Path(folder) / "00002.tar").write_bytes((Path(folder) / "00001.tar").read_bytes())
        before = [sample["__key__"] for sample in tarloom.open(Path(folder) / "00001.tar")]
        indexes.forget_index(open_storage(folder), "00001")
        os.chmod(folder, 0o755)
        os.chmod(Path(folder) / "_tarloom", 0)
        with as_somebody_else():
            found = tarloom.open(folder)
            assert [shard.shard for shard in found.shards] == ["00000", "00001", *([] if planned else ["00002"])]
            assert [sample["__key__"] for sample in found][len(before) :][: len(before)] == before


@pytest.mark.parametrize("how", ["removed", "a link to nothing"])
@pytest.mark.parametrize("opened_before", [False, True])
def test_a_finished_shard_whose_tar_is_lost_is_named_and_not_passed_over(tmp_path, opened_before, how):
    packed_dataset(tmp_path, shards=3)
    if opened_before:
        assert len(tarloom.open(tmp_path)) == 24
    (tmp_path / "00001.tar").unlink()
    if how == "a link to nothing":
        (tmp_path / "00001.tar").symlink_to(tmp_path / "elsewhere.tar")
    dataset = tarloom.open(tmp_path)
    for read in (len, list):
        with pytest.raises(ShardError, match=r"00001\.tar: is gone; run its creation again, or bring it back"):
            read(dataset)
    assert len(list(dataset.on_error("skip"))) == 16


@pytest.mark.parametrize("name", ["b.tar", "deep/b.tar", "b.tgz"])
def test_a_tar_of_others_that_is_a_link_to_nothing_is_named_and_not_passed_over(tmp_path, name):
    for folder in (tmp_path / "data", tmp_path / "data" / "deep"):
        write_tar(folder / "a.tar", some_samples(ROWS))
    (tmp_path / "data" / name).symlink_to(tmp_path / "elsewhere.tar")
    dataset = tarloom.open(tmp_path / "data")
    for read in (len, list):
        with pytest.raises(ShardError, match=f"{name}: is gone; .* bring it back .it is a link to nothing"):
            read(dataset)
    assert len(list(dataset.on_error("skip"))) == 2 * ROWS


def test_a_folder_of_links_to_nothing_alone_names_them(tmp_path):
    (tmp_path / "a.tar").symlink_to(tmp_path / "elsewhere.tar")
    with pytest.raises(ShardError, match=r"a\.tar: is gone"):
        len(tarloom.open(tmp_path))


def test_a_shard_that_is_finished_while_its_folder_is_listed_is_one_of_the_dataset(tmp_path, monkeypatch):
    packed_dataset(tmp_path, shards=3)
    survey = LocalStorage.survey

    def too_early_for_a_tar(self, wanted, known=tuple):
        entries, names = survey(self, wanted, known)
        return [entry for entry in entries if entry.name != "00001.tar"], names - {"00001.tar"}

    monkeypatch.setattr(LocalStorage, "survey", too_early_for_a_tar)
    tables = [pq.read_table(tmp_path / f"{shard:05d}.caption.parquet") for shard in range(3)]
    keys = [key for table in tables for key in table["__key__"].to_pylist()]
    assert [sample["__key__"] for sample in tarloom.open(tmp_path)] == keys


@pytest.mark.parametrize("look", [tarloom.open, lambda path: list(verify(path))])
def test_a_planned_folder_without_any_tar_has_lost_them_or_is_of_pictures_in_other_forms(tmp_path, look):
    packed_dataset(tmp_path)
    for tar in tmp_path.glob("*.tar"):
        tar.unlink()
    with pytest.raises(UsageError, match="the tars of all 2 finished shards are gone; run their creation again"):
        look(tmp_path)
    shutil.rmtree(tmp_path / "_tarloom" / "index")  # which pictures in other forms have not
    with pytest.raises(UsageError, match="its shards are no tars"):
        look(tmp_path)


def test_stats_that_are_called_like_no_created_shard_ask_for_no_tar(tmp_path):
    packed_dataset(tmp_path)
    (tmp_path / "notes_stats.json").write_text("{}")
    assert len(tarloom.open(tmp_path)) == 16
