"""The `tarloom` command, and the programs in create/, read/ and process/: the same jobs under two names.

Exit codes: 0 all rows accounted for and every shard committed; 1 stopped by an error, which is named; 2 wrong usage;
3 finished, but shards were lost or damage was found; 130 interrupted.
"""

import atexit
import contextlib
import gc
import json
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import make_dataclass
from typing import TYPE_CHECKING, Any

from tarloom import __version__
from tarloom.cli.streams import prepare_streams, reader_may_leave, tell
from tarloom.cli.words import again, options_in, value_of
from tarloom.engines.signals import stop_as_by_ctrl_c
from tarloom.errors import TarloomError, UsageError

if TYPE_CHECKING:
    from tarloom.cli.commands import Command

INTERRUPTED = 130
ALLOCATIONS_BETWEEN_COLLECTIONS = 50_000
NOWHERE = "the folder that this was started in has been deleted; start it in one that is there"


def run(command: str, *argv: str, **defaults: Any) -> int:
    """Run one command on the given words, by default the program's own; return its exit code.

    defaults: values of options, by name, where a program's differ from the command's.
    """
    # A job that is asked to stop should stop, and say how to go on: shells start background jobs with SIGINT ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    stop_as_by_ctrl_c()
    _start_light(command)
    prepare_streams()
    program, words = _program_name(command), argv or sys.argv[1:]
    in_rows = _answers_in_rows(command, words)
    as_json = "--json" in words and not in_rows
    try:
        options = _options(program, command, words, defaults)
        as_json = options.json and not in_rows
        return _execute(options)
    except KeyboardInterrupt:
        _forget_interrupt()
        said = f"interrupted; nothing is left half-done: {again(value_of('--incremental-mode', words))}"
        return _stopped(program, INTERRUPTED, said, as_json=as_json)
    except TarloomError as error:
        return _stopped(program, 2 if isinstance(error, UsageError) else 1, f"error: {error}", as_json=as_json)
    except MemoryError as error:
        said = f"error: there is not enough memory ({error or 'no more is given'}); run it where there is more"
        return _stopped(program, 1, said, as_json=as_json)
    except Exception as error:  # a mistake of ours: its traceback follows
        if _is_nowhere():
            return _stopped(program, 2, f"error: {NOWHERE}", as_json=as_json)
        if as_json:
            _tell_machine(1, f"{type(error).__name__}: {error}")
        raise


def _is_nowhere() -> bool:
    """Whether the working folder was deleted: then relative paths mean nothing, and duckdb opens nothing."""
    try:
        os.getcwd()
    except FileNotFoundError:
        return True
    return False


def _forget_interrupt() -> None:
    """Leave the exit code ours under `python -m`. CPython ends a process by SIGINT where KeyboardInterrupt has passed
    through text that is run, as a dataclass is made, though it was caught; to make another one undoes that."""
    make_dataclass("Forgotten", ())


def _answers_in_rows(command: str, words: Sequence[str]) -> bool:
    """Whether with --json stdout is a JSON object for each row, and nothing else."""
    return command == "query" or (command == "curate" and not {"output", "keep-if", "to-shards"} & options_in(words))


def _start_light(command: str) -> None:
    """A short job spends most of its time importing. Fewer garbage collections make that cheaper; and creation does no
    matrix algebra, so OpenBLAS needs one thread."""
    gc.set_threshold(ALLOCATIONS_BETWEEN_COLLECTIONS)
    atexit.register(_leave_light)
    if command == "create":
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def _leave_light() -> None:
    """At exit nothing needs collecting either, so freeze the heap. Not with duckdb loaded: it warns about connections
    that are never released."""
    if "duckdb" not in sys.modules:
        gc.freeze()


def _options(program: str, command: str, argv: Sequence[str], defaults: dict[str, Any]) -> "Command":
    from tarloom.cli.config_file import expanded
    from tarloom.cli.images import of_resumed_run  # what takes its time to load is loaded where Ctrl-C is caught
    from tarloom.cli.img2dataset import translated
    from tarloom.cli.parse import parse
    from tarloom.cli.process import with_stages

    commands = _commands()
    if command not in commands:
        raise UsageError(f"unknown command {command!r}; use one of {', '.join(commands)}")
    words = {"create": translated, "images": of_resumed_run}.get(command, list)(argv)
    kind = with_stages(commands[command], words, defaults)
    words = expanded(kind, words)
    with reader_may_leave(exit_code=0):  # of the help
        return parse(kind, words, prog=program, defaults=defaults)


def _execute(options: "Command") -> int:
    from tarloom.cli.console import show

    finished = options.execute()
    with reader_may_leave(exit_code=finished.exit_code):
        show(finished, as_json=options.json)
    return finished.exit_code


def _commands() -> dict[str, type["Command"]]:
    from tarloom.cli.commands import COMMANDS

    return COMMANDS


def main() -> int:
    """Entry point of the `tarloom` command: the first word chooses the job."""
    prepare_streams()
    word = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if word in ("-h", "--help", "help"):
        return _answered(_overview())
    if word in ("-V", "--version"):
        return _answered(f"tarloom {__version__}\n")
    del sys.argv[1]
    return run(word)


def _answered(text: str) -> int:
    """The exit code, after this was said."""
    try:
        with reader_may_leave(exit_code=0):
            sys.stdout.write(text)
    except TarloomError as error:
        return _stopped("tarloom", 1, f"error: {error}", as_json=False)
    return 0


def _overview() -> str:
    commands = _commands()
    width = max(map(len, commands))
    lines = (f"  {name:{width}}  {(kind.__doc__ or '').splitlines()[0]}" for name, kind in commands.items())
    return "usage: tarloom COMMAND [OPTIONS]\n\n" + "\n".join(lines) + "\n\ntarloom COMMAND --help lists its options.\n"


def _program_name(command: str) -> str:
    """What the user typed: the program's file name, or "tarloom COMMAND"."""
    typed = sys.argv[0].rpartition("/")[2]
    return typed if typed.endswith(".py") and typed != "__main__.py" else f"tarloom {command}"


def _complain(program: str, message: str) -> None:
    """One line on stderr."""
    tell(f"{program}: {_one_line(message)}")


def _stopped(program: str, exit_code: int, why: str, *, as_json: bool) -> int:
    """The exit code, after it was said why; machines are told where the summary would have been."""
    _complain(program, why)
    if as_json:
        _tell_machine(exit_code, why.removeprefix("error: "))
    return exit_code


def _tell_machine(exit_code: int, why: str) -> None:
    with contextlib.suppress(TarloomError), reader_may_leave(exit_code=exit_code):
        sys.stdout.write(json.dumps({"exit_code": exit_code, "error": _one_line(why)}) + "\n")


def _one_line(message: str) -> str:
    return " ".join(message.split())
