"""Options from a file: as if they were typed, and less than what is."""

import json

import pytest

from tarloom.cli.batch import Batch
from tarloom.cli.commands import COMMANDS
from tarloom.cli.config_file import expanded
from tarloom.cli.parse import parse
from tarloom.cli.process import with_stages
from tarloom.errors import UsageError

OPTIONS = {"model_directory": "m", "input_dir": "i", "output_dir": "o", "max_samples": 7, "json": True}
FILES = {
    "yaml": "model_directory: m\ninput-dir: i\noutput_dir: o\nmax_samples: 7\njson: yes\nname:\n",
    "json": json.dumps(OPTIONS),
    "toml": 'model_directory = "m"\ninput_dir = "i"\noutput_dir = "o"\nmax_samples = 7\njson = true\n',
}


def parsed(words) -> Batch:
    return parse(Batch, expanded(Batch, words), prog="batch_service.py", defaults={})


@pytest.fixture
def file(tmp_path):
    def write(kind, text):
        path = tmp_path / f"options.{kind}"
        path.write_text(text)
        return str(path)

    return write


@pytest.mark.parametrize("kind", FILES)
def test_all_formats_say_the_same(file, kind):
    found = parsed(["--config", file(kind, FILES[kind])])
    assert {name: getattr(found.batch, name) for name in OPTIONS if name != "json"} | {"json": found.json} == OPTIONS
    assert found.batch.name == "clip"


@pytest.mark.parametrize("words", [["--max_samples", "3"], ["--max-samples=3"]])
def test_the_command_line_holds_before_the_file(file, words):
    path = file("json", FILES["json"])
    assert parsed([f"--config={path}", *words]).batch.max_samples == 3
    assert parsed([*words, "--config", path]).batch.max_samples == 3


def test_values_on_the_command_line_are_no_options(file):
    path = file("json", json.dumps(OPTIONS))
    found = parsed(["--config", path, "--name", "model-directory", "--allow-private", "max_samples"])
    assert (found.batch.model_directory, found.batch.max_samples) == ("m", 7)


@pytest.mark.parametrize("words", [["config"], ["config=x", "y"], ["--output-dir", "config", "x.yaml"]])
def test_a_value_called_like_the_option_names_no_file(words):
    assert expanded(Batch, words) == words


def test_values_in_the_file_may_begin_with_a_dash(file):
    assert parsed(["--config", file("json", json.dumps(OPTIONS | {"name": "-ugly"}))]).batch.name == "-ugly"


def test_lists_and_truth_values_are_options_too(file):
    found = parsed(["--config", file("json", json.dumps(OPTIONS | {"allow_private": ["10.0.0.0/8", "127.0.0.1"]}))])
    assert found.web.allow_private == ("10.0.0.0/8", "127.0.0.1")
    assert not parsed(["--config", file("json", json.dumps(OPTIONS | {"json": False}))]).json


@pytest.mark.parametrize(
    ("kind", "text", "message"),
    [
        ("yaml", "model_directry: m\n", "unknown option 'model_directry'; use .*model_directory"),
        ("yaml", "- model_directory\n", "holds no options"),
        ("yaml", "a: [\n", "cannot be read"),
        ("json", "{", "cannot be read"),
        ("toml", "a = ", "cannot be read"),
        ("ini", "a = 1", "call it .yaml, .json or .toml"),
        ("yaml", "max_samples: {a: 1}\n", "options of its own"),
        ("yaml", "max_samples: many\n", "--max-samples: not of the kind INT: 'many'"),
        ("yaml", "name: [a, b]\n", r"options\.yaml: name takes one value, not \[\"a\", \"b\"\]"),
        ("yaml", "batch_size: true\n", r"options\.yaml: batch-size takes one value, not true"),
        ("yaml", "allow_private: yes\n", r"options\.yaml: allow-private takes a list of values, not true"),
        ("yaml", "json: 1\n", r"options\.yaml: json takes true or false, not 1"),
    ],
)
def test_a_file_that_cannot_be_meant_is_refused_by_name(file, kind, text, message):
    with pytest.raises(UsageError, match=message):
        parsed(["--config", file(kind, text), "--model-directory=m", "--input-dir=i", "--output-dir=o"])


def test_options_of_a_stage_are_named_as_on_the_command_line(file):
    path = file("yaml", "stages: re-w=rewrite,paint\nre-w.model: m\nre-w.max-tokens: 7\n")
    words = ["--config", path, "--re_w.max_tokens", "8"]
    kind = with_stages(COMMANDS["generate"], words, {})
    assert expanded(kind, words)[:2] == ["--stages=re-w=rewrite,paint", "--re-w.model=m"]
    assert "--re-w.max-tokens=7" not in expanded(kind, words)


def test_a_list_of_stages_is_refused_with_how_to_write_it(file):
    words = ["--config", file("yaml", "stages: [rewrite, paint]\n")]
    with pytest.raises(UsageError, match="write stages: rewrite,paint"):
        with_stages(COMMANDS["generate"], words, {})


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(UsageError, match="cannot be read"):
        parsed(["--config", str(tmp_path / "none.yaml")])


def test_commands_without_that_option_keep_their_words():
    assert expanded(COMMANDS["info"], ["--config", "x.yaml"]) == ["--config", "x.yaml"]
