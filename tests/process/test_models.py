"""Errors of models: what a framework says against one reaches the user in one line."""

from tarloom.process.models import cannot_load


def test_a_reason_of_several_lines_is_one_line_that_is_not_too_long():
    error = ValueError(
        "1 validation error for ModelConfig\n  Value error, this model does not generate.\n" + 99 * "more "
    )
    message = str(cannot_load("a/model", error))
    assert message.startswith("a/model: the model cannot be used here: 1 validation error for ModelConfig Value error,")
    assert message.endswith(" ...; check its name or folder")
    assert len(message) < 400


def test_an_error_without_words_is_called_by_its_kind():
    assert "MemoryError" in str(cannot_load("a/model", MemoryError()))
