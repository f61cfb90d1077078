"""Stages are found by name, without their frameworks; what is named wrongly is said."""

import pytest

from tarloom.errors import UsageError
from tarloom.process.caption.stage import CaptionStage
from tarloom.process.registry import BUILT_IN, named_stages, stage_class
from tarloom.process.stage import Stage
from tarloom.process.stages.hash import HashStage


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_name_is_that_of_its_stage(name):
    kind = stage_class(name)
    assert issubclass(kind, Stage)
    assert kind.name == name


def test_stages_are_named_in_order_and_may_be_named_anew():
    found = named_stages("hash, short=caption,caption,own=tarloom.process.stages.hash:HashStage")
    assert list(found.items()) == [
        ("hash", HashStage),
        ("short", CaptionStage),
        ("caption", CaptionStage),
        ("own", HashStage),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no stage is named; use caption, clip"),
        ("captoin", "stage 'captoin': there is none of this name; use caption, clip"),
        ("hash,hash", "stage 'hash' is there twice; name one of them anew"),
        ("a.b=hash", "stage name 'a.b'"),
        ("nowhere.at_all:Stage", "stage 'nowhere.at_all:Stage' cannot be imported: ModuleNotFoundError: No module"),
        ("tarloom.process.stage:Nothing", "cannot be imported: .*Nothing"),
        (":Stage", "cannot be imported: ValueError"),
        ("tarloom.process.batch:Batch", "is no subclass of"),
        ("tarloom.process.stage:Stage", "lacks fingerprint, open, name"),
    ],
)
def test_what_is_no_stage_is_a_usage_error(text, message):
    with pytest.raises(UsageError, match=message):
        named_stages(text)


def test_a_module_that_cannot_be_loaded_is_a_usage_error(tmp_path, monkeypatch):
    (tmp_path / "half_a_stage.py").write_text("class Mine(")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UsageError, match="stage 'half_a_stage:Mine' cannot be imported: SyntaxError"):
        stage_class("half_a_stage:Mine")
