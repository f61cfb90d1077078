"""What a person sees when a job ends: a summary on stdout, and JSON for machines. What is seen before: progress.py."""

import json
import math
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from tarloom.cli.streams import visible
from tarloom.cli.words import again, counted

NOTHING: tuple[object, ...] = (None, "", {}, [], ())
"""Facts that say nothing, and are not told."""
LOST = 3
"""The exit code where shards were lost or damage was found."""


@dataclass(frozen=True, kw_only=True)
class Finished:
    """How a command ended."""

    title: str
    facts: Mapping[str, object] = field(default_factory=dict)
    """Shown line by line and given whole as JSON."""
    exit_code: int = 0
    lines: Iterable[str] | None = None
    """An answer that is shown instead, line by line as it comes."""


def ended(
    title: str, facts: Mapping[str, object], *, failed: Mapping[str, str], most: int, mode: str | None = None
) -> Finished:
    """The end of a job over shards: the title says how many failed, the exit code whether they are more than `most`."""
    lost = f", all but {counted(len(failed), 'shard')}; {again(mode)} for those" if failed else ""
    return Finished(title=title + lost, facts=facts, exit_code=LOST if len(failed) > most else 0)


def show(finished: Finished, *, as_json: bool) -> None:
    """Print the summary on stdout, with one JSON object as its last line on request; or the answer, as it comes."""
    if finished.lines is not None:
        sys.stdout.writelines(f"{visible(line)}\n" for line in finished.lines)
        return
    title = visible(finished.title)
    lines = [f"\x1b[1m{title}\x1b[0m" if sys.stdout.isatty() else title, *map(visible, _told(finished.facts))]
    if as_json:
        lines.append(json_text({"exit_code": finished.exit_code, **finished.facts}))
    sys.stdout.write("\n".join(lines) + "\n")


def json_text(value: object, *, ensure_ascii: bool = True) -> str:
    """JSON as every parser reads it: decimals as numbers, null for what is no finite number, text for what JSON has no
    form for."""
    try:
        return json.dumps(value, ensure_ascii=ensure_ascii, allow_nan=False, default=_as_json)
    except ValueError:
        return json.dumps(_finite(value), ensure_ascii=ensure_ascii, default=_as_json)


def _as_json(value: object) -> object:
    if not isinstance(value, Decimal):
        return str(value)
    if not value.is_finite():
        return None
    number = int(value) if value == value.to_integral_value() else float(value)
    return number if Decimal(str(number)) == value else str(value)  # no digit is lost


def _finite(value: object) -> object:
    if isinstance(value, Mapping):
        return {name: _finite(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _told(facts: Mapping[str, object]) -> Iterator[str]:
    """Short facts side by side with their names, then long ones line by line; what says nothing is left out."""
    known = {name: value for name, value in facts.items() if value not in NOTHING}
    told = {name.replace("_", " "): value for name, value in known.items()}
    long = {name: lines for name, value in told.items() if (lines := _long_lines(value))}
    width = max((len(name) for name in told.keys() - long.keys()), default=0)
    for name, value in told.items():
        if name not in long:
            yield f"{name:{width}}  {_readable(value)}"
    for name, lines in long.items():
        yield f"{name}:"
        yield from (f"  {line}" for line in lines)


def _long_lines(value: object) -> list[str]:
    """What a list, or a mapping to texts or mappings, holds, if it is too long for one line; else nothing."""
    lines: list[str] = []
    if isinstance(value, (list, tuple)):
        lines = [str(part) for part in value]
    elif isinstance(value, Mapping):
        lines = [f"{name}: {_readable(part)}" for name, part in value.items() if isinstance(part, (str, Mapping))]
    return lines if any(len(line) > 32 for line in lines) else []


def _readable(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.2f}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if isinstance(value, Mapping):
        told = {name: part for name, part in value.items() if part is not False and part not in NOTHING}
        inner = {name: f"({_readable(p)})" if isinstance(p, Mapping) else _readable(p) for name, p in told.items()}
        return ", ".join(f"{name} {part}" for name, part in inner.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value))
    return str(value)
