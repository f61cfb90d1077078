"""Command lines generated from the configuration dataclasses: options, defaults and help are declared there, once."""

import contextlib
import dataclasses
import io
import re
import sys
from collections.abc import Sequence
from typing import Any, TypeVar, get_type_hints

import tyro

from tarloom.errors import UsageError

Options = TypeVar("Options")
_MARKERS = (tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff)


def parse(options: type[Options], argv: Sequence[str], *, prog: str, defaults: dict[str, Any]) -> Options:
    """Fill `options` from the command line. Option names may be written with "-" or "_".

    defaults: values of a program's own, by field name, at any depth of nesting. Raises UsageError with one line that
    names the wrong option; leaves with SystemExit(0) after --help.
    """
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            return tyro.cli(options, prog=prog, args=argv, default=_unfilled(options, defaults), config=_MARKERS)
    except SystemExit as stop:
        if stop.code in (0, None):
            raise
        raise UsageError(f"{_one_line(complaint.getvalue())}; see {prog} --help") from None


def program_name(command: str) -> str:
    """What the user typed: the program's file name, or "tarloom COMMAND"."""
    typed = sys.argv[0].rpartition("/")[2]
    return typed if typed.endswith(".py") and typed != "__main__.py" else f"tarloom {command}"


def _unfilled(options: type[Options], defaults: dict[str, Any]) -> Options:
    """An instance with its defaults, the program's own among them, and tyro's mark where a value must be given."""
    hints, values = get_type_hints(options), {}
    for field in dataclasses.fields(options):  # type: ignore[arg-type]
        if field.name in defaults:
            values[field.name] = defaults[field.name]
        elif dataclasses.is_dataclass(hints[field.name]):
            values[field.name] = _unfilled(hints[field.name], defaults)
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            values[field.name] = tyro.MISSING
    return options(**values)


def _one_line(boxes: str) -> str:
    """tyro's complaint without its frames and hints."""
    text = re.sub(r"[╭╮╰╯│]|─ [A-Z][a-z ]+ ─+|\x1b\[[0-9;]*m", " ", boxes)
    parts = (" ".join(part.split()) for part in re.split(r"─{3,}", text))
    wanted = (part for part in parts if part and not part.startswith(("Argument helptext", "For full helptext")))
    return "; ".join(wanted)
