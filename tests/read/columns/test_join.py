"""Samples without exactly one fresh row in a joined table: an error, left out, or nulls; whatever is filtered, and in
whatever pieces, the same as in Python over everything."""

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

import tarloom
from tarloom.errors import CorruptShard, JoinError, ShardError, StaleSidecar, UsageError
from tarloom.read.columns.casts import as_type
from tarloom.read.columns.join import rows_to_read
from tarloom.read.plan.indexes import cached_index
from tarloom.read.samples.batches import read_piece
from tests.format.raw import write_index, write_parquet, write_sidecar, write_stats, write_tar
from tests.read.sample_sets import packed_samples

ABSENT = object()
"""In the model: the sample has not exactly one fresh row."""


@dataclass(frozen=True)
class Damage:
    """What is wrong with a table. Numbers are of samples in the shard."""

    gone: bool = False
    stale: bool = False
    lacks: frozenset[int] = frozenset()
    doubles: frozenset[int] = frozenset()
    shuffled: int | None = None


@dataclass(frozen=True)
class Shard:
    widths: tuple[int | None, ...]
    scores: tuple[float | None, ...]
    failed: int
    """Rows of the metadata that are no samples."""
    metadata: Damage
    sidecar: Damage


numbers = st.frozensets(st.integers(0, 7), max_size=2)
damages = st.builds(
    Damage,
    gone=st.integers(0, 9).map(lambda n: n == 0),
    stale=st.integers(0, 9).map(lambda n: n == 0),
    lacks=numbers | st.just(frozenset()),
    doubles=numbers | st.just(frozenset()),
    shuffled=st.none() | st.integers(0, 9),
)


@st.composite
def shards(draw) -> Shard:
    rows = draw(st.integers(0, 8))
    widths = st.none() | st.integers(0, 9)
    scores = st.none() | st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0])
    return Shard(
        widths=tuple(draw(st.lists(widths, min_size=rows, max_size=rows))),
        scores=tuple(draw(st.lists(scores, min_size=rows, max_size=rows))),
        failed=draw(st.integers(0, 2)),
        metadata=draw(damages | st.just(Damage())),
        sidecar=draw(damages | st.just(Damage())),
    )


Condition = tuple[str, tuple[str, ...], Callable[[dict], bool]]
CONDITIONS: list[Condition] = [
    ("width >= 5", ("width",), lambda s: s["width"] is not None and s["width"] >= 5),
    ("clip.score < 0.6", ("clip.score",), lambda s: s["clip.score"] is not None and s["clip.score"] < 0.6),
    ("width IS NULL OR clip.score = 1", ("width", "clip.score"), lambda s: s["width"] is None or s["clip.score"] == 1),
    ("__key__ > '0001'", (), lambda s: s["__key__"] > "0001"),
    (
        "clip.score IS NULL AND __key__ LIKE '%3'",
        ("clip.score",),
        lambda s: (s["clip.score"], s["__key__"][-1]) == (None, "3"),
    ),
]
"""SQL, the columns it uses, and the same in Python."""


def write(folder: Path, made: list[Shard]) -> None:
    folder.mkdir()
    for number, shard in enumerate(made):
        name, keys = f"{number:05d}", [f"{number:03d}-{row}" for row in range(len(shard.widths))]
        places = write_tar(folder / f"{name}.tar", [(key, {"txt": key.encode()}) for key in keys])
        identity = f"sha256:{hashlib.sha256((folder / f'{name}.tar').read_bytes()).hexdigest()}"
        write_index(folder, name, places, identity)
        write_stats(folder, name, len(keys), 0, identity)
        rows = order(len(keys), shard.metadata)
        extra = [f"failed-{row}" for row in range(shard.failed)]
        if not shard.metadata.gone:
            columns = {
                "key": [*extra, *(keys[row] for row in rows)],
                "status": ["failed_to_download"] * len(extra) + ["success"] * len(rows),
                "width": pa.array([1] * len(extra) + [shard.widths[row] for row in rows], pa.int32()),
            }
            write_parquet(folder / f"{name}.parquet", columns)
        rows = order(len(keys), shard.sidecar)
        if not shard.sidecar.gone:
            scores = [None if shard.scores[row] is None else np.float16(shard.scores[row]) for row in rows]
            made_for = "sha256:another" if shard.sidecar.stale else identity
            columns = {"score": pa.array(scores, pa.float16())}
            write_sidecar(folder, name, "clip", [keys[row] for row in rows], columns, made_for)
    (folder / "_tarloom" / "plan.json").write_text("{}")


def order(rows: int, damage: Damage) -> list[int]:
    """Rows of the samples in a table, as damaged as that."""
    found = [row for row in range(rows) if row not in damage.lacks]
    found += [row for row in damage.doubles if row < rows and row not in damage.lacks]
    if damage.shuffled is not None:
        np.random.default_rng(damage.shuffled).shuffle(found)
    return found


def model(made: list[Shard]) -> list[dict]:
    """All samples, with ABSENT for what cannot be joined to them."""
    found = []
    for number, shard in enumerate(made):
        rows = len(shard.widths)
        stale = shard.sidecar.stale or len(order(rows, shard.sidecar)) != rows  # its footer says how many it has
        for row in range(rows):
            sample = {"__key__": f"{number:03d}-{row}", "width": shard.widths[row], "clip.score": shard.scores[row]}
            for name, damage in (("width", shard.metadata), ("clip.score", shard.sidecar)):
                if damage.gone or row in damage.lacks | damage.doubles or (stale and name == "clip.score"):
                    sample[name] = ABSENT
            found.append(sample)
    return found


def joined(samples: list[dict], names: tuple[str, ...], policy: str) -> list[dict]:
    """What remains of the samples where these columns are joined. Raises JoinError."""
    if policy == "null":
        return [sample | {name: None for name in names if sample[name] is ABSENT} for sample in samples]
    whole = [sample for sample in samples if all(sample[name] is not ABSENT for name in names)]
    if policy == "error" and len(whole) < len(samples):
        raise JoinError
    return whole


def expected(made: list[Shard], selected: tuple[str, ...], condition: Condition | None, policy: str) -> list[dict]:
    samples = model(made)
    if condition is not None:
        _, used, test = condition
        samples = [sample for sample in joined(samples, used, policy) if test(sample)]
    return [{name: sample[name] for name in ("__key__", *selected)} for sample in joined(samples, selected, policy)]


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    made=st.lists(shards(), min_size=1, max_size=3),
    selected=st.sampled_from([(), ("width",), ("clip.score",), ("clip.score", "width")]),
    condition=st.none() | st.sampled_from(CONDITIONS),
    policy=st.sampled_from(["error", "skip", "null"]),
    target_bytes=st.sampled_from([1, 700, 1 << 20]),
)
def test_what_is_read_is_what_python_would_choose_of_everything(
    tmp_path_factory, made, selected, condition, policy, target_bytes
):
    assume(any(shard.widths for shard in made))
    made[0] = replace(
        made[0], metadata=replace(made[0].metadata, gone=False), sidecar=replace(made[0].sidecar, gone=False)
    )
    folder = tmp_path_factory.mktemp("join") / "set"
    write(folder, made)
    dataset = tarloom.open(folder).select("txt", *selected).joining(policy)
    dataset = dataset.where(condition[0]) if condition else dataset
    try:
        wanted = expected(made, selected, condition, policy)
    except JoinError:
        with pytest.raises((JoinError, StaleSidecar)):
            [batch for piece in dataset.pieces(target_bytes) for batch in read_piece(piece, batch_rows=3)]
        return
    batches = [batch for piece in dataset.pieces(target_bytes) for batch in read_piece(piece, batch_rows=3)]
    rows = [row for batch in batches for row in batch.to_pylist()]
    assert [row.pop("txt").decode() for row in rows] == [row["__key__"] for row in wanted]
    assert rows == wanted
    assert dataset.count() == len(wanted)
    assert [{name: sample[name] for name in ("__key__", *selected)} for sample in dataset] == wanted
    assert dataset.select(*selected).table(*selected).to_pylist() == wanted if selected else True


def damaged(packed: Path, tmp_path: Path) -> Path:
    """The packed dataset, each of its second shard's tables as it should not be."""
    folder = shutil.copytree(packed, tmp_path / "copy")
    keys = [key for key, _ in packed_samples(2)][38:]
    write_parquet(folder / "00001.parquet", {"key": keys[2:], "status": ["success"] * 36, "width": [1] * 36})
    write_sidecar(folder, "00001", "clip", keys, {"embedding": pa.nulls(38, pa.list_(pa.float16(), 4))}, "sha256:old")
    (folder / "00001.caption.parquet").unlink()
    return folder


@pytest.mark.parametrize(
    ("column", "error", "reason"),
    [
        ("width", JoinError, r"00001\.parquet: has no row for key \d+ of .*00001\.tar; make it again, or choose"),
        ("clip.embedding", StaleSidecar, r"00001\.clip\.parquet: made for sha256:old"),
        ("caption.text", JoinError, r"00001\.caption\.parquet: there is no such sidecar.* of curate missing: skip"),
    ],
)
def test_each_kind_of_damage_is_named_left_out_or_filled_with_nulls(packed, tmp_path, column, error, reason):
    dataset = tarloom.open(damaged(packed, tmp_path)).select("txt", column)
    with pytest.raises(error, match=reason):
        list(dataset)
    lost = 2 if column == "width" else 38
    assert len(list(dataset.joining("skip"))) == len(dataset.joining("skip")) == 76 - lost
    nulls = [sample for sample in dataset.joining("null") if sample[column] is None]
    assert len(nulls) == lost
    assert dataset.joining("null").count(f"{column} IS NULL") == lost


def test_what_is_left_out_or_filled_is_reported_with_its_table_and_rows(packed, tmp_path):
    folder = damaged(packed, tmp_path)
    for policy in ("skip", "null"):
        dataset = tarloom.open(folder).select("width", "caption.text").where("clip.embedding IS NULL").joining(policy)
        piece = dataset.pieces()[-1]
        index = cached_index(piece.storage, piece.shard, piece.tar, piece.identity)
        unmatched = {Path(entry.where).name: (entry.name, entry.rows) for entry in rows_to_read(piece, index).unmatched}
        if policy == "skip":  # and nothing remains of which the other tables could be asked
            assert unmatched == {"00001.clip.parquet": ("stale_sidecar", 38)}
        else:
            assert unmatched == {
                "00001.clip.parquet": ("stale_sidecar", 38),
                "00001.parquet": ("join_error", 2),
                "00001.caption.parquet": ("join_error", 38),
            }


def test_a_damaged_table_is_an_error_whatever_the_policy(packed, tmp_path):
    folder = shutil.copytree(packed, tmp_path / "copy")
    (folder / "00001.clip.parquet").write_bytes(b"no parquet")
    with pytest.raises(CorruptShard, match=r"00001\.clip\.parquet"):
        list(tarloom.open(folder).select("clip.embedding").joining("skip"))


def test_a_policy_that_is_none_is_refused(packed):
    with pytest.raises(UsageError, match="join must be one of error, skip, null, not 'Error'"):
        tarloom.open(packed).joining("Error")
    with pytest.raises(UsageError, match="on_error must be one of raise, skip, row, not 'Raise'"):
        tarloom.open(packed).on_error("Raise")


def test_a_column_of_another_type_than_elsewhere_is_named(packed, tmp_path):
    folder = shutil.copytree(packed, tmp_path / "copy")
    keys = [key for key, _ in packed_samples(2)][38:]
    write_parquet(folder / "00001.parquet", {"key": keys, "status": ["success"] * 38, "width": ["wide"] * 38})
    with pytest.raises(ShardError, match=r"00001\.parquet: width is string, elsewhere in the dataset int32"):
        list(tarloom.open(folder).where("width > 1"))


FLOAT, HALF, NAN = pa.float32(), pa.float16(), float("nan")
NOON = datetime(2024, 1, 1, 12)
NAMED = pa.struct([("name", pa.string()), ("score", pa.float64())])
LOSSES = [
    (FLOAT, pa.array([0.5, 1e300])),
    (HALF, pa.array([0.5, 1e6], FLOAT)),
    (pa.list_(FLOAT), pa.array([[0.5], [1e300, NAN]])),
    (pa.bool_(), pa.array([1, 5])),
    (pa.date32(), pa.array([NOON, None], pa.timestamp("us"))),
    (pa.timestamp("us"), pa.array([1, 2])),
    (pa.decimal128(3, 2), pa.array([1.0, 1.129])),
    (pa.struct([("a", pa.int64())]), pa.array([{"a": 1, "b": 2}] * 2)),
    (pa.int32(), pa.array(["1", "one"])),
]
FITTING = [
    (FLOAT, pa.array([0.5, NAN, None])),
    (pa.float64(), pa.array([0.1, NAN, None], FLOAT)),
    (HALF, pa.array([np.float16(0.5), None, np.float16(NAN)], HALF).cast(FLOAT)),
    (pa.list_(FLOAT), pa.array([[0.5, NAN], None, []], pa.list_(pa.float64()))),
    (pa.list_(HALF, 2), pa.array([[0.5, 1], None, [NAN, 0]], pa.list_(FLOAT))),
    (pa.string(), pa.DictionaryArray.from_arrays(pa.array([1, 0, None]), pa.array(["a", "b"]))),
    (pa.string(), pa.nulls(3)),
    (pa.int32(), pa.array([1, None, 3])),
    (FLOAT, pa.array([0.1, NAN, None])),
    (pa.list_(pa.string()), pa.array([[], None], pa.list_(pa.null()))),
    (NAMED, pa.array([{"name": None, "score": NAN}, None], pa.struct([("name", pa.null()), ("score", FLOAT)]))),
    (pa.list_(pa.string()), pa.array([["b", "a"], None], pa.list_(pa.dictionary(pa.int8(), pa.string())))),
    (pa.map_(pa.string(), pa.float64()), pa.array([[("a", NAN)]], pa.map_(pa.string(), FLOAT))),
    (pa.timestamp("ns"), pa.array([NOON, None], pa.timestamp("us"))),
]


@pytest.mark.parametrize(("kind", "values"), LOSSES)
def test_values_that_another_type_does_not_hold_are_refused(kind, values):
    with pytest.raises((pa.ArrowInvalid, pa.ArrowNotImplementedError)):
        as_type(pa.chunked_array([values]), kind)


@pytest.mark.parametrize(("kind", "values"), FITTING)
def test_values_that_another_type_holds_are_taken(kind, values):
    assert str(as_type(pa.chunked_array([values]), kind)) == str(values.cast(kind))
