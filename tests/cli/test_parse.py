"""What stands on a command line, whatever the command."""

import pytest

from tarloom.cli.commands import Create
from tarloom.cli.generate import Generate
from tarloom.cli.parse import parse
from tarloom.errors import UsageError

NEEDED = ["--prompts", "p.csv", "--output", "o"]


@pytest.mark.parametrize(
    "words",
    [
        ["--details", "a.csv:x", "b.csv:y"],
        ["--details", "a.csv:x", "--details", "b.csv:y"],
        ["--details=a.csv:x", "--details", "b.csv:y"],
        ["--details", "a.csv:x", "--template", "{x}", "--details=b.csv:y"],
    ],
)
def test_a_list_may_be_given_at_once_or_one_value_after_the_other(words):
    for line in ([*NEEDED, *words], [*words, *NEEDED]):
        found = parse(Generate, line, prog="generate", defaults={})
        assert found.generate.table.details == ("a.csv:x", "b.csv:y")


def test_of_other_options_the_last_counts():
    found = parse(Generate, [*NEEDED, "--output", "other"], prog="generate", defaults={})
    assert found.generate.output == "other"


@pytest.mark.parametrize(("option", "kind"), [("--max-aspect-ratio", "FLOAT"), ("--max-pixels", "INT")])
def test_what_is_no_number_is_refused_in_few_words(option, kind):
    with pytest.raises(UsageError, match=rf"^Error parsing {option}: not of the kind {kind}: 'many'; see make --help$"):
        parse(Create, ["--source", "a", "--output", "b", option, "many"], prog="make", defaults={})


@pytest.mark.parametrize(
    ("option", "values"), [("--retry-failed", "all, transient"), ("--encode-format", "jpg, png, webp")]
)
def test_a_value_that_is_none_of_an_options_is_refused_with_those_there_are(option, values):
    with pytest.raises(UsageError, match=f"'nope' for argument '{option}'. Expected one of {values}; see make --help$"):
        parse(Create, ["--source", "a", "--output", "b", option, "nope"], prog="make", defaults={})


def test_the_help_says_what_is_on_by_default(capsys):
    with pytest.raises(SystemExit):
        parse(Create, ["--help"], prog="make", defaults={})
    assert "Keep EXIF tags in the metadata. (default: True)" in capsys.readouterr().out
