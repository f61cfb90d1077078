"""Prompts with columns in them: filled as they say, and nothing evaluated."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tarloom.errors import UsageError
from tarloom.process.caption.prompts import Prompt, read_prompts


def test_a_prompt_without_names_and_columns_is_its_text():
    (prompt,) = read_prompts("Describe the image.")
    assert (prompt.name, prompt.columns, prompt.filled({})) == (None, (), "Describe the image.")


def test_several_prompts_have_names():
    prompts = read_prompts(("short=Say it in a word.", "long=Say = it all."))
    assert [(p.name, p.template) for p in prompts] == [("short", "Say it in a word."), ("long", "Say = it all.")]


def test_columns_stand_where_their_names_do():
    (prompt,) = read_prompts("The caption is {caption}, the width {width}; {clip.score}? {{as is}} {caption}")
    assert prompt.columns == ("caption", "width", "clip.score")
    filled = prompt.filled({"caption": "a {width}", "width": 64, "clip.score": None})
    assert filled == "The caption is a {width}, the width 64; ? {as is} a {width}"


def test_nothing_is_evaluated():
    (prompt,) = read_prompts("{caption.__class__} {caption[0]}")
    assert prompt.columns == ("caption.__class__", "caption[0]")
    assert prompt.filled({"caption": "secret"}) == " "


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("", "prompt is empty"),
        ("  ", "prompt is empty"),
        ("short=", "prompt is empty"),
        ((), "prompt is empty"),
        (("a=One", "Two"), "each has a name"),
        (("a=One", "a=Two"), "each name may be there once"),
        ("Answer as {}", "a column's name"),
        ("Answer as {0}", "a column's name"),
        ("Answer as {width:5}", "a column's name"),
        ("Answer as {width!r}", "a column's name"),
        ('Answer as {"a": 1}', "a column's name"),
        ("An open { brace", "braces of the text itself"),
        ("A closed } brace", "braces of the text itself"),
    ],
)
def test_what_cannot_be_asked_is_refused(given, message):
    with pytest.raises(UsageError, match=message):
        read_prompts(given)


@given(st.text(), st.text())
def test_any_text_can_be_asked_with_its_braces_doubled(text, value):
    template = text.replace("{", "{{").replace("}", "}}") + "{c}"
    assert Prompt(template=template).filled({"c": value}) == text + value


def test_bytes_of_a_member_are_a_text():
    assert Prompt(template="{txt}").filled({"txt": "grün".encode()}) == "grün"
