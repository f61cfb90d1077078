"""--config FILE: options from a YAML, JSON or TOML file. What is also given on the command line holds instead."""

import json
import tomllib
from collections.abc import Mapping, Sequence
from typing import Any

from tarloom.cli.words import options_in, options_of, takes, value_of
from tarloom.errors import StorageError, UsageError
from tarloom.format.storage import split_location

OPTION = "--config"


def expanded(command: type, words: Sequence[str]) -> list[str]:
    """The words of the command line, those of the file that they name in front of them, where the command takes one.

    Raises UsageError for a file that cannot be read, and for what is no option.
    """
    known = {name.replace("-", "_"): (field, hint) for name, field, hint in options_of(command)}
    path = value_of(OPTION, words)
    if path is None or "config" not in known:
        return list(words)
    given = options_in(words)
    found: list[str] = []
    for name, value in _read(path).items():
        if name.replace("-", "_") not in known:
            raise UsageError(f"{path}: unknown option {name!r}; use {', '.join(sorted(known))}")
        if name.replace("_", "-") not in given:
            field, hint = known[name.replace("-", "_")]
            found += _words(path, name.replace("_", "-"), value, default=field.default, most=takes(field, hint))
    return [*found, *words]


def in_file(option: str, words: Sequence[str]) -> str | None:
    """What the file gives the option, before it is known which others there are. Raises UsageError."""
    path = value_of(OPTION, words)
    value = None if path is None else _read(path).get(option)
    if isinstance(value, list):
        raise UsageError(f"{path}: {option} is one text; write {option}: {','.join(map(str, value))}")
    return None if value is None else str(value)


def _read(path: str) -> Mapping[str, Any]:
    try:
        storage, name = split_location(path)
        found = _parsed(path, storage.read(name).decode("utf-8-sig"))
    except (StorageError, ValueError) as error:
        raise UsageError(f"config {path}: cannot be read: {error}") from error
    if not isinstance(found, Mapping) or not all(isinstance(name, str) for name in found):
        raise UsageError(f"config {path}: holds no options; write one NAME: VALUE a line")
    return found


def _parsed(path: str, text: str) -> Any:
    """Raises ValueError for what is none of the three."""
    extension = path.rpartition(".")[2].lower()
    if extension == "toml":
        return tomllib.loads(text)
    if extension == "json":
        return json.loads(text)
    if extension not in ("yaml", "yml"):
        raise UsageError(f"config {path}: call it .yaml, .json or .toml, after what it is")
    import yaml  # only where it is wanted

    try:
        return yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise ValueError(error) from error


def _words(path: str, name: str, value: Any, *, default: object, most: float) -> list[str]:
    """An option as one would type it; null, and what is off by default, are not typed. most: values that it takes."""
    if isinstance(value, Mapping):
        raise UsageError(f"{path}: {name} holds options of its own; write them one beside the other")
    if value is None or value is default is False:
        return []
    if isinstance(value, bool) != (most == 0) or (isinstance(value, list) and most == 1):
        kind = {0: "true or false", 1: "one value"}.get(int(min(most, 2)), "a list of values")
        raise UsageError(f"{path}: {name} takes {kind}, not {json.dumps(value, default=str)}")
    if isinstance(value, bool):
        return [f"--{name}" if value else f"--no-{name}"]
    return [f"--{name}", *map(str, value)] if isinstance(value, list) else [f"--{name}={value}"]
