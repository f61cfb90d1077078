"""Which words of a command line belong to which option, with their names and without."""

from dataclasses import dataclass

import pytest

from tarloom.cli.commands import COMMANDS
from tarloom.cli.console import ended
from tarloom.cli.parse import parse
from tarloom.cli.process import with_stages
from tarloom.cli.words import again, named, options_of, value_of
from tarloom.errors import UsageError
from tarloom.process.stages.hash import HashStage

WITH_PATH = [name for name, kind in COMMANDS.items() if "path" in {option for option, *_ in options_of(kind)}]


@dataclass(frozen=True, kw_only=True)
class WithPath(HashStage):
    """A stage with an option that is called like the command's."""

    path: str = ""


SQL = "-- a comment\nSELECT a = b"


def parsed(command, *words):
    kind = with_stages(COMMANDS[command], words, {})
    return parse(kind, words, prog=f"tarloom {command}", defaults={})


def path_of(options):
    return getattr(options, "path", None) or next(
        group.path for group in vars(options).values() if hasattr(group, "path")
    )


NEEDED = {
    "caption": [],
    "embed": [],
    "process": ["--stages", "hash"],
    "query": ["--sql", "SELECT 1"],
    "repair": ["--output", "o"],
    "report": ["--output", "o"],
}


@pytest.mark.parametrize("command", WITH_PATH)
def test_every_command_takes_its_path_as_the_first_word_or_by_name(command):
    needed = NEEDED.get(command, [])
    for words in (["d"], ["--path", "d"], ["--path=d"]):
        assert path_of(parsed(command, *words, *needed)) == "d"
        assert path_of(parsed(command, *needed, *words)) == "d"


@pytest.mark.parametrize(
    "words",
    [
        ["d", SQL],
        ["--json", "d", "--join", "skip", SQL],
        ["--path", "d", SQL],
        [SQL, "--path=d"],
        ["d", "--sql", SQL],
        ["--sql", SQL, "d"],
        [f"--sql={SQL}", "--path", "d"],
        ["--join=skip", "--", "d", SQL],
    ],
)
def test_a_query_takes_its_sql_as_the_second_word_or_by_name(words):
    asked = parsed("query", *words)
    assert (asked.path, asked.sql) == ("d", SQL)


def test_a_list_takes_all_words_behind_it():
    asked = parsed("curate", "d", "--select", "a", "b", "--expand", "--group-by=c")
    assert (asked.curate.path, asked.curate.select, asked.curate.group_by) == ("d", ("a", "b"), ("c",))
    asked = parsed("curate", "--select", "a", "--expand", "d", "--select", "b", "--limit", "3")
    assert (asked.curate.path, asked.curate.select, asked.curate.limit) == ("d", ("a", "b"), 3)
    asked = parsed("curate", "--select", "a", "b", "--", "d")
    assert (asked.curate.path, asked.curate.select) == ("d", ("a", "b"))


def test_an_option_that_is_switched_off_takes_no_words():
    asked = parsed("report", "--no-verify", "d", "--output", "o")
    assert (asked.report.path, asked.report.verify) == ("d", False)


def test_a_value_that_begins_with_a_dash_is_one():
    asked = parsed("search", "--text", "-5 degrees", "-1")
    assert (asked.path, asked.text) == ("-1", "-5 degrees")


def test_an_option_of_a_stage_that_is_called_path_is_the_stages():
    words = ["d", "--stages", "a=tests.cli.test_words:WithPath", "--a.path", "p"]
    asked = parsed("process", *words)
    assert (asked.process.path, asked.chosen["a"].path) == ("d", "p")


def test_commands_without_a_path_keep_their_words():
    words = ["bare", "--output", "o", "--details", "a", "b"]
    assert named(COMMANDS["generate"], words) == words


@pytest.mark.parametrize(
    ("command", "words", "message"),
    [
        ("info", [], "Missing.*--path PATH"),
        ("info", ["--path"], "path"),
        ("info", ["a", "b"], "Unrecognized options: b"),
        ("info", ["a", "--path", "b"], "Unrecognized options: a"),
        ("info", ["--shards", "a"], "Missing.*--path PATH; Unrecognized options: --shards"),
        ("info", ["a", "-x"], "Unrecognized options: -x"),
        ("query", ["d"], "--sql SQL"),
        ("query", ["--sql", "SELECT 1"], "Missing.*--path PATH"),
        ("process", ["--stages", "hash", "--json"], "--path"),
    ],
)
def test_what_is_missing_or_too_much_is_named(command, words, message):
    with pytest.raises(UsageError, match=message):
        parsed(command, *words)


@pytest.mark.parametrize(("command", "usage"), [("info", "[--path] PATH"), ("query", "[--path] PATH [--sql] SQL")])
def test_the_usage_says_that_the_names_may_be_left_out(command, usage, capsys):
    with pytest.raises(SystemExit):
        parsed(command, "--json", "--help")
    assert usage in capsys.readouterr().out.splitlines()[0]


def test_a_run_that_overwrites_is_not_told_to_do_so_again():
    assert again(value_of("--incremental-mode", ["--incremental_mode=extend"])) == "run the same command again"
    mode = value_of("--incremental-mode", ["--incremental_mode", "overwrite"])
    assert again(mode) == "run the same command again, but without --incremental-mode overwrite"
    assert "without --incremental-mode overwrite" in ended("Made", {}, failed={"0": "why"}, most=0, mode=mode).title
