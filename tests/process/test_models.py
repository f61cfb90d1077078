"""Errors of models: what a framework says against one reaches the user in one line; and which are the same."""

import pytest

from tarloom.errors import UsageError
from tarloom.process.embed.stage import revision_of
from tarloom.process.models import cannot_load, check_model, hub_name, may_be_the_same
from tests.process.shards import CLIP


def test_a_reason_of_several_lines_is_one_line_that_is_not_too_long():
    error = ValueError(
        "1 validation error for ModelConfig\n  Value error, this model does not generate.\n" + 99 * "more "
    )
    message = str(cannot_load("a/model", error))
    assert message.startswith("a/model: the model cannot be used here: 1 validation error for ModelConfig Value error,")
    assert message.endswith(" ...; check its name or folder")
    assert len(message) < 400


def test_a_model_that_is_not_named_as_by_an_empty_variable_is_refused_as_that():
    with pytest.raises(UsageError, match=r"^model is empty; give a model folder or a name on the hub$"):
        check_model("")


def test_an_error_without_words_is_called_by_its_kind():
    assert "MemoryError" in str(cannot_load("a/model", MemoryError()))


@pytest.mark.parametrize(
    ("one", "other", "may_be"),
    [
        ("clip@sha256:1", "snapshot@sha256:1", True),
        ("clip@sha256:1", "clip@sha256:2", False),
        ("my@clip@sha256:1", "clip@sha256:1", True),
        ("org/clip@main", "snapshot@sha256:1", True),
        ("org/clip@abc123", "snapshot@sha256:1", True),
        ("org/clip@main", "org/clip@abc123", True),
        ("org/clip@abc123", "org/clip@def456", False),
        ("org/clip@main", "org/other@main", False),
    ],
)
def test_models_are_told_apart_only_where_they_must_differ(one, other, may_be):
    assert may_be_the_same(one, other) is may_be_the_same(other, one) is may_be


@pytest.mark.parametrize(
    ("model", "made_with", "revision"),
    [
        ("org/clip", None, None),
        ("org/clip", "org/clip@main", None),
        ("org/clip", "org/clip@abc123", "abc123"),
        ("org/clip", "snapshot@sha256:1", None),
        (str(CLIP), "org/clip@abc123", None),
    ],
)
def test_the_revision_that_made_vectors_is_taken_where_the_model_has_revisions(model, made_with, revision):
    assert revision_of(model, made_with) == revision


@pytest.mark.parametrize(
    ("identity", "name"),
    [
        ("org/clip@main", "org/clip"),
        ("org/clip@abc123", "org/clip"),
        ("clip@sha256:1", None),
        ("my@clip@sha256:1", None),
        ("clip", None),
        ("", None),
    ],
)
def test_a_model_on_the_hub_is_known_by_its_identity_and_a_folder_never_is(identity, name):
    assert hub_name(identity) == name
