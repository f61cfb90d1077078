"""Where a feed stands: all that is needed to go on with the same samples in the same order."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from tarloom.errors import UsageError

VERSION: Final = 1


@dataclass(frozen=True, kw_only=True)
class State:
    """Small, and the same for every rank."""

    fingerprint: str
    """Of the datasets and of all that decides their order."""
    epoch: int
    samples: int
    """Of this epoch that all ranks together have consumed."""
    version: int = VERSION

    def to_json(self) -> dict[str, Any]:
        """What from_json makes an equal state of."""
        return asdict(self)

    @classmethod
    def from_json(cls, facts: Mapping[str, Any]) -> "State":
        """Raises UsageError for what is no state."""
        if facts.get("version") != VERSION:
            raise UsageError(f"the feed's state has version {facts.get('version')!r}, not {VERSION}; begin a new epoch")
        return cls(**facts)
