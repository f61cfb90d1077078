"""What stages say of themselves before anything is started. They may be anybody's code: whatever goes wrong in there is
told by the stage's name and the method's."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

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
        with said_by(name, "inputs"):
            wanted = stage.inputs
        if isinstance(wanted, str):
            raise UsageError(f"stage {name}: inputs: {wanted!r} is a text, not names; write ({wanted!r},)")


def fingerprints(stages: Mapping[str, Stage]) -> dict[str, dict[str, str]]:
    """What shapes the output of each. Raises UsageError where it does not say."""
    found: dict[str, dict[str, str]] = {}
    for name, stage in stages.items():
        with said_by(name, "fingerprint()"):
            found[name] = dict(stage.fingerprint())
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
