"""What a person sees: progress on stderr while a job runs, a summary on stdout when it ends, JSON for machines."""

import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

Step = TypeVar("Step")
LOST = 3
"""The exit code where shards were lost or damage was found."""
PLAIN_SECONDS = 10.0
"""Where stderr is no terminal, a line of progress at most this often."""


@dataclass(frozen=True, kw_only=True)
class Finished:
    """How a command ended."""

    title: str
    facts: Mapping[str, object] = field(default_factory=dict)
    """Shown line by line and given whole as JSON."""
    exit_code: int = 0
    lines: Iterable[str] | None = None
    """An answer that is shown instead, line by line as it comes."""


def watch(steps: Iterable[Step], *, title: str, total: int | None, done: Callable[[Step], int]) -> Iterator[Step]:
    """Pass the steps on while showing how many rows they have done."""
    if sys.stderr.isatty():
        yield from _watch_bar(steps, title=title, total=total, done=done)
    else:
        yield from _watch_lines(steps, title=title, total=total, done=done)


def show(finished: Finished, *, as_json: bool) -> None:
    """Print the summary on stdout, with one JSON object as its last line on request; or the answer, as it comes."""
    if finished.lines is not None:
        sys.stdout.writelines(f"{line}\n" for line in finished.lines)
        return
    lines = [f"\x1b[1m{finished.title}\x1b[0m" if sys.stdout.isatty() else finished.title, *_told(finished.facts)]
    if as_json:
        lines.append(json.dumps({"exit_code": finished.exit_code, **finished.facts}))
    sys.stdout.write("\n".join(lines) + "\n")


def all_but(failed: Mapping[str, str]) -> str:
    """What a title adds where shards failed."""
    return f", all but {len(failed)} shards; run the same command again for those" if failed else ""


def _told(facts: Mapping[str, object]) -> Iterator[str]:
    """Short facts side by side with their names, then long ones line by line; what says nothing is left out."""
    known = {name: value for name, value in facts.items() if value not in (None, "", {}, [], ())}
    told = {name.replace("_", " "): value for name, value in known.items()}
    long = {name: lines for name, value in told.items() if (lines := _long_lines(value))}
    width = max((len(name) for name in told.keys() - long.keys()), default=0)
    for name, value in told.items():
        if name not in long:
            yield f"{name:{width}}  {_readable(value)}"
    for name, lines in long.items():
        yield f"{name}:"
        yield from (f"  {line}" for line in lines)


def _watch_bar(steps: Iterable[Step], *, title: str, total: int | None, done: Callable[[Step], int]) -> Iterator[Step]:
    from rich.console import Console  # only where there is a terminal to draw on
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task, start, count = progress.add_task(title, total=total, rate=""), time.monotonic(), 0
        for step in steps:
            count += done(step)
            progress.update(task, completed=count, rate=f"{_rate(count, start):,.0f}/s")
            yield step


def _watch_lines(
    steps: Iterable[Step], *, title: str, total: int | None, done: Callable[[Step], int]
) -> Iterator[Step]:
    start = said = time.monotonic()
    count = 0
    for step in steps:
        count += done(step)
        if time.monotonic() - said > PLAIN_SECONDS:
            said = time.monotonic()
            of = f" of {total:,}" if total else ""
            sys.stderr.write(f"{title}: {count:,}{of} rows, {_rate(count, start):,.0f}/s\n")
        yield step


def _long_lines(value: object) -> list[str]:
    """What a list, or a mapping to texts, holds, if it is too long for one line; else nothing."""
    lines: list[str] = []
    if isinstance(value, (list, tuple)):
        lines = [str(part) for part in value]
    elif isinstance(value, Mapping):
        lines = [f"{name}: {part}" for name, part in value.items() if isinstance(part, str)]
    return lines if any(len(line) > 32 for line in lines) else []


def _rate(count: int, start: float) -> float:
    return count / max(time.monotonic() - start, 1e-9)


def _readable(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.2f}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_readable(number)}" for name, number in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value))
    return str(value)
