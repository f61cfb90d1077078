"""What stages say of themselves before anything is started. They may be anybody's code: whatever goes wrong in there is
told by the stage's name and the method's."""

import json
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from numbers import Integral
from typing import Any

from tarloom.engines.crew import describe
from tarloom.errors import TarloomError, UsageError
from tarloom.format.sidecar import check_stage_name
from tarloom.process.stage import Stage


def check_stages(stages: Mapping[str, Stage]) -> None:
    """Raises UsageError where a stage cannot work, whatever the dataset. stages: by the sidecars' names."""
    for name, stage in stages.items():
        check_stage_name(name)
        with said_by(name, "check()"):
            stage.check()
        for what, wrong in _SAID.items():
            with said_by(name, what):
                reason = wrong(getattr(stage, what))
            if reason is not None:
                raise UsageError(f"stage {name}: {what}: {reason}")


def fingerprints(stages: Mapping[str, Stage]) -> dict[str, dict[str, str]]:
    """What shapes the output of each. Raises UsageError where it does not say, or nothing that can be found again."""
    found: dict[str, dict[str, str]] = {}
    for name, stage in stages.items():
        with said_by(name, "fingerprint()"):
            found[name] = dict(stage.fingerprint())
            kept = json.loads(json.dumps(found[name]))  # as sidecars keep it
        for fact, value in found[name].items():
            if kept.get(fact) != value:
                raise UsageError(f"stage {name}: fingerprint(): {fact}: {value!r:.80} is no text; write str(...) of it")
    return found


@contextmanager
def said_by(stage: str, method: str) -> Iterator[None]:
    """No sys.exit in there, or panic of Rust's, ends the program without a word, either."""
    try:
        yield
    except (TarloomError, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise UsageError(f"stage {stage}: {method}: {describe(error)}; mend the stage") from error


def _no_names(value: Any) -> str | None:
    if isinstance(value, str):
        return f"{value!r} is a text, not names; write ({value!r},)"
    fits = isinstance(value, Collection) and all(isinstance(name, str) for name in value)
    return None if fits else f"must be texts in parentheses, or () for none, not {value!r:.80}"


def _no_count(value: Any) -> str | None:
    fits = isinstance(value, Integral) and int(value) >= 1
    return None if fits else f"must be a whole number of at least 1, not {value!r:.80}"


def _no_size(value: Any) -> str | None:
    fits = value is None or isinstance(value, Integral)
    return None if fits else f"must be a whole number of pixels, or None, not {value!r:.80}"


_SAID: Mapping[str, Callable[[Any], str | None]] = {
    "inputs": _no_names,
    "members": _no_names,
    "counted": _no_names,
    "batch_size": _no_count,
    "calls": _no_count,
    "at_least": _no_size,
}
"""What a run asks of a stage again and again, and what is wrong with an answer."""
