"""Several stages in one run: one reading, one decode, and later stages see what earlier ones said."""

import re
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tarloom.engines.local import LocalEngine
from tarloom.errors import EngineError, StageMismatch, UsageError
from tarloom.process.config import ProcessConfig
from tarloom.process.job import ProcessJob
from tests.process.asked import AskedStage, asked, forget, run
from tests.process.pixels import PixelStage
from tests.process.shards import LengthStage, encoded, scene_shards, sidecars, write_shard

PROPERTIES = ("inputs", "at_least")
"""What a stage says of itself that may be computed."""


@pytest.fixture
def folder(tmp_path):
    """Two shards of 10 and 3 rows; row 0002 is bad."""
    place = tmp_path / "shards"
    place.mkdir()
    texts = [b"bad" if number == 2 else b"text %d" % number for number in range(13)]
    samples = [(f"{number:04d}", {"txt": text}) for number, text in enumerate(texts)]
    write_shard(place / "a.tar", samples[:10])
    write_shard(place / "b.tar", samples[10:])
    return place


def first_and_second(log, **options) -> dict[str, AskedStage]:
    """A stage that repeats the texts, and one that repeats what the first said."""
    first = AskedStage(log=str(log), word="first", **options)
    return {"first": first, "second": AskedStage(log=str(log), word="second", wants=("first.text",), **options)}


def texts(folder, name, shard="a"):
    return pq.read_table(folder / f"{shard}.{name}.parquet")["text"].to_pylist()


def test_every_stage_has_its_sidecars_and_its_own_counts(folder, log):
    job = run(folder, named=first_and_second(log))
    assert sorted(sidecars(folder, "first")) == ["a.first.parquet", "b.first.parquet"]
    assert sorted(sidecars(folder, "second")) == ["a.second.parquet", "b.second.parquet"]
    summary = job.summary()
    assert (summary.rows, summary.successes, summary.shards, summary.skipped) == (26, 24, 2, 0)
    assert summary.stages["first"].errors == {"bad_text": 1}
    assert summary.stages["second"].errors == {"no_text": 1}
    assert summary.stages["first"].totals == {"length": 12 * len("first text 1") + 3}
    assert asked(log, "first") == asked(log, "second") == {f"{number:04d}": 1 for number in range(13)}


def test_a_later_stage_sees_what_an_earlier_one_of_the_same_run_says(folder, log):
    run(folder, named=first_and_second(log))
    assert texts(folder, "second")[:4] == ["second first text 0", "second first text 1", None, "second first text 3"]


def test_it_sees_the_same_where_an_earlier_run_said_it(folder, log, tmp_path):
    other = shutil.copytree(folder, tmp_path / "other")
    run(folder, named=first_and_second(log))
    forget(log)
    stages = first_and_second(log)
    run(other, named={"first": stages["first"]})
    run(other, named={"second": stages["second"]})
    assert sidecars(other, "second") == sidecars(folder, "second")
    assert asked(log, "first") == asked(log, "second") == {f"{number:04d}": 1 for number in range(13)}


def test_of_a_run_over_both_only_what_is_missing_is_done(folder, log):
    stages = first_and_second(log)
    run(folder, named={"first": stages["first"]})
    (folder / "b.first.parquet").unlink()
    forget(log)
    job = run(folder, named=stages)
    assert sorted(asked(log, "first")) == ["0010", "0011", "0012"]
    assert len(asked(log, "second")) == 13
    assert job.summary().rows == 26
    forget(log)
    assert run(folder, named=stages).summary().skipped == 2
    assert asked(log, "first") == asked(log, "second") == {}


def test_what_an_earlier_stage_says_otherwise_is_another_fingerprint_for_later_ones(folder, log):
    stages = first_and_second(log)
    run(folder, named=stages)
    before = sidecars(folder, "second")
    anew = {"first": AskedStage(log=str(log), word="anew"), "second": stages["second"]}
    run(folder, named={"first": anew["first"]}, overwrite=True)
    with pytest.raises(StageMismatch, match=r"a\.second\.parquet: made with input first\.text"):
        run(folder, named={"second": stages["second"]})
    assert sidecars(folder, "second") == before
    run(folder, named=anew, overwrite=True)
    assert texts(folder, "second")[0] == "second anew text 0"


def test_a_sidecar_has_the_same_bytes_alone_and_beside_others(folder, log, tmp_path):
    other = shutil.copytree(folder, tmp_path / "other")
    run(folder, LengthStage(batch_size=2), AskedStage(log=str(log), batch_size=2))
    run(other, AskedStage(log=str(log), batch_size=2))
    assert sidecars(folder, "asked") == sidecars(other, "asked")


def test_the_smallest_batch_of_all_stages_is_everyones(folder, log):
    run(folder, LengthStage(batch_size=6), AskedStage(log=str(log), batch_size=8, calls=2))
    assert pq.read_table(folder / "a.length.parquet")["in_batch"].to_pylist() == [4] * 8 + [2] * 2


def test_each_picture_is_decoded_once_however_many_stages_see_it(tmp_path, monkeypatch):
    from tarloom.read.samples import decode

    decoded, decode_rgb = [], decode.decode_rgb
    monkeypatch.setattr(
        decode, "decode_rgb", lambda data, **options: decoded.append(data) or decode_rgb(data, **options)
    )
    shards = scene_shards(tmp_path / "shards", shards=2, rows=10)
    mean, least = PixelStage(what="mean"), PixelStage(what="min")
    run(shards, named={"mean": mean, "least": least})
    assert len(decoded) == 19  # one of the twenty has no picture
    run(shards, named={"mean": mean, "least": least, "most": PixelStage(what="max", at_least=2048)})
    assert len(decoded) == 38  # of those that are done, nothing is decoded


def test_what_a_stage_sees_of_a_large_picture_does_not_depend_on_what_others_want_to_see(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (2600, 3200, 3), np.uint8)
    write_shard(tmp_path / "a.tar", [("0", {"jpg": encoded(Image.fromarray(noise))})])
    run(tmp_path, PixelStage(), name="alone")
    run(tmp_path, named={"large": PixelStage(at_least=2048), "beside": PixelStage()})
    values = {name: pq.read_table(tmp_path / f"a.{name}.parquet")["value"] for name in ("alone", "beside", "large")}
    assert values["alone"] == values["beside"] != values["large"]


@pytest.mark.parametrize("names", [["second", "first"], ["first", "first"]])
def test_a_stage_that_would_see_what_is_said_later_is_a_usage_error(folder, log, names):
    stages = {name: AskedStage(log=str(log), wants=(f"{names[1]}.text",) if name == names[0] else ()) for name in names}
    with pytest.raises(UsageError, match=f"stage {names[0]} wants to see {names[1]}.text"):
        run(folder, named=stages)


def test_a_stage_that_wants_what_nobody_has_is_a_usage_error(folder, log):
    with pytest.raises(UsageError, match=r"has no 'caption\.text'"):
        run(folder, AskedStage(log=str(log), wants=("caption.text",)))


def test_two_stages_of_one_name_are_a_usage_error(folder, log):
    stage = AskedStage(log=str(log))
    with pytest.raises(UsageError, match="each of them may be there once"):
        run(folder, stage, stage)
    with pytest.raises(UsageError, match="several stages have their own names"):
        run(folder, stage, LengthStage(), name="both")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda table: table.slice(1), "did not answer its 4 rows row for row"),
        (lambda table: table.take([1, 0, 2, 3]), "row for row"),
        (lambda table: table.drop_columns(["text"]), "its answer's columns"),
        (lambda table: None, "answered with None, not with a table"),
        (
            lambda table: table.set_column(5, table.schema.field("error"), [["huh"] * 4]),
            "status 'success' with the error 'huh'",
        ),
        (lambda table: table.set_column(4, table.schema.field("status"), [["fine"] * 4]), "status 'fine'"),
    ],
)
def test_a_stage_that_does_not_answer_as_it_should_ends_the_run_by_its_name(folder, log, change, message):
    class Worker(type(AskedStage(log="").open())):
        def __call__(self, batch):
            return change(super().__call__(batch))

    class Changed(AskedStage):
        def open(self):
            return Worker(self)

    job = ProcessJob(Changed(log=str(log)), ProcessConfig(path=str(folder)), LocalEngine(1))
    job.prepare()
    with pytest.raises(EngineError, match=f"(?s)stage asked: .*{message}"):
        list(job)
    assert sidecars(folder, "asked") == {}


@pytest.mark.parametrize("where", ["open", "call"])
@pytest.mark.parametrize("fault", [SystemExit(0), BaseException("a panic of Rust's"), OSError(5, "an odd one")])
def test_a_stage_that_would_end_the_program_is_a_fault_that_is_told_by_its_name(folder, log, where, fault):
    class Worker(type(AskedStage(log="").open())):
        def __call__(self, batch):
            raise fault

    class Leaving(AskedStage):
        def open(self):
            if where == "open":
                raise fault
            return Worker(self)

    job = ProcessJob(Leaving(log=str(log)), ProcessConfig(path=str(folder)), LocalEngine(1))
    job.prepare()
    said = f"stage asked: {type(fault).__name__}: {re.escape(str(fault))}"
    if where == "open":
        with pytest.raises(EngineError, match=said):
            list(job)
    else:
        list(job)
        assert re.match(said, job.summary().failed_shards["a"])


@pytest.mark.parametrize("method", ["check", "fingerprint", "check_input", *PROPERTIES])
@pytest.mark.parametrize("fault", [KeyError("an odd one"), SystemExit(0)])
def test_what_goes_wrong_in_a_stage_before_anything_is_started_is_told_with_its_name(folder, log, method, fault):
    def fails(*_):
        raise fault

    run(folder, AskedStage(log=str(log)), name="first")
    faulty = type("Faulty", (AskedStage,), {method: property(fails) if method in PROPERTIES else fails})
    job = ProcessJob(faulty(log=str(log), wants=("first.text",)), ProcessConfig(path=str(folder)), LocalEngine(1))
    with pytest.raises(UsageError, match=rf"stage asked: {method}(\(\))?: {type(fault).__name__}: .*several") as told:
        job.prepare()
    assert told.value.__cause__ is fault


def test_a_stage_that_says_of_itself_what_cannot_be_is_told_what_is_wrong_before_any_work(folder, log):
    for name, value, said in (
        ("fingerprint", lambda _: None, "stage asked: fingerprint.*'NoneType' object is not iterable"),
        ("inputs", "caption", r"stage asked: inputs: 'caption' is a text, not names; write \('caption',\)"),
        ("inputs", (5,), r"stage asked: inputs: must be texts in parentheses, or \(\) for none, not \(5,\)"),
        ("members", "txt", r"stage asked: members: 'txt' is a text, not names; write \('txt',\)"),
        ("counted", None, "stage asked: counted: must be texts .*, not None"),
        ("at_least", "64", "stage asked: at_least: must be a whole number of pixels, or None, not '64'"),
    ):
        faulty = type("Faulty", (AskedStage,), {name: value})
        with pytest.raises(UsageError, match=said):
            run(folder, faulty(log=str(log)))


@pytest.mark.parametrize("option", ["batch_size", "calls"])
@pytest.mark.parametrize("number", [0, "2", None])
def test_numbers_of_rows_and_batches_that_cannot_be_are_refused_by_the_stages_name(folder, log, option, number):
    said = f"stage asked: {option}: must be a whole number of at least 1, not {number!r}"
    with pytest.raises(UsageError, match=said):
        run(folder, AskedStage(log=str(log), **{option: number}))


@pytest.mark.parametrize("value", [(1, 2), float("nan")])
def test_a_fingerprint_that_would_not_be_found_again_is_refused_before_any_work(folder, log, value):
    faulty = type("Faulty", (AskedStage,), {"fingerprint": lambda _: {"size": value}})
    with pytest.raises(UsageError, match=r"stage asked: fingerprint\(\): size: .* is no text; write str\(...\) of it"):
        run(folder, faulty(log=str(log)))


def test_a_column_that_is_counted_and_not_there_ends_the_run_before_any_sidecar(folder, log):
    faulty = type("Faulty", (AskedStage,), {"counted": ("lenght",)})
    job = ProcessJob(faulty(log=str(log)), ProcessConfig(path=str(folder)), LocalEngine(1))
    job.prepare()
    with pytest.raises(EngineError, match="stage asked: it counts lenght, which is not among __key__, text, length"):
        list(job)
    assert sidecars(folder, "asked") == {}


def test_what_is_opened_and_is_no_worker_is_told_with_the_stages_name(folder, log):
    faulty = type("Faulty", (AskedStage,), {"open": lambda _: None})
    job = ProcessJob(faulty(log=str(log)), ProcessConfig(path=str(folder)), LocalEngine(1))
    job.prepare()
    with pytest.raises(EngineError, match="stage asked: AttributeError: 'NoneType' object has no attribute"):
        list(job)


def test_a_stage_that_cannot_be_closed_is_a_warning_when_all_is_done(folder, log, caplog):
    class Worker(type(AskedStage(log="").open())):
        def close(self):
            raise RuntimeError("it is gone already")

    class Clinging(AskedStage):
        def open(self):
            return Worker(self)

    assert run(folder, Clinging(log=str(log))).summary().shards == 2
    assert "a worker could not be closed: RuntimeError: it is gone already (test_several_stages.py:" in caplog.text
