"""The `tarloom` command, and the programs in create/, read/ and process/: the same jobs under two names.

Exit codes: 0 all rows accounted for and every shard committed; 1 stopped by an error, which is named; 2 wrong usage;
3 finished, but shards were lost or damage was found; 130 interrupted.
"""

import sys
from typing import Any

from tarloom import __version__
from tarloom.cli.commands import COMMANDS
from tarloom.cli.console import complain, show
from tarloom.cli.parse import parse, program_name
from tarloom.errors import TarloomError, UsageError

INTERRUPTED = 130


def run(command: str, *argv: str, **defaults: Any) -> int:
    """Run one command on the given words, by default the program's own; return its exit code.

    defaults: values of options, by name, where a program's differ from the command's.
    """
    prog = program_name(command)
    try:
        options = parse(COMMANDS[command], argv or sys.argv[1:], prog=prog, defaults=defaults)
        finished = options.execute()
    except KeyboardInterrupt:
        complain(prog, "interrupted; nothing is left half-done: run the same command again")
        return INTERRUPTED
    except TarloomError as error:
        complain(prog, f"error: {error}")
        return 2 if isinstance(error, UsageError) else 1
    show(finished, as_json=options.json)
    return finished.exit_code


def main() -> int:
    """Entry point of the `tarloom` command: the first word chooses the job."""
    word = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if word in ("-h", "--help", "help"):
        sys.stdout.write(_overview())
        return 0
    if word in ("-V", "--version"):
        sys.stdout.write(f"tarloom {__version__}\n")
        return 0
    if word not in COMMANDS:
        complain("tarloom", f"error: unknown command {word!r}; use one of {', '.join(COMMANDS)}")
        return 2
    del sys.argv[1]
    return run(word)


def _overview() -> str:
    width = max(map(len, COMMANDS))
    lines = (f"  {name:{width}}  {(kind.__doc__ or '').splitlines()[0]}" for name, kind in COMMANDS.items())
    return "usage: tarloom COMMAND [OPTIONS]\n\n" + "\n".join(lines) + "\n\ntarloom COMMAND --help lists its options.\n"
