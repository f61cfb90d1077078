"""Where a feed stands: all that is needed to go on with the same samples in the same order."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from operator import index
from typing import Any, Final

from tarloom.errors import UsageError
from tarloom.read.feed.order.mixing import FeedOrder

VERSION: Final = 2
"""Of the state, and of how an order is computed."""

_SAID: Final = {"order": "what is mixed, or groups (bucket_size is batch_size if it is not given):"}
Fingerprint = Mapping[str, str | int | None]
"""All that decides which sample comes when, by name: neither batch size nor ranks nor workers. Digests are of numbers
and texts that are ours: another version of a library, or another name in this one, changes none of them."""


def fingerprint(data: Iterable[str], order: FeedOrder, *, seed: int) -> Fingerprint:
    """The same in every process. data: fingerprints of the datasets."""
    shuffle = order.orders[0].shuffle
    return {
        "data": digest(*data),
        "seed": seed,
        "window": None if shuffle is None else shuffle.window,
        "block": None if shuffle is None else shuffle.block,
        "order": digest(*map(str, order.fingerprint)),
    }


def whole(name: str, number: Any) -> int:
    """A number for a state, which is JSON: Python's own, also of numpy's. Raises UsageError for what is none."""
    try:
        return index(number)
    except TypeError:
        raise UsageError(f"{name} must be a whole number, not {number!r}") from None


def given_state(facts: Any) -> Mapping[str, Any]:
    """The same. Raises UsageError for what is no state at all, such as its JSON before it is read."""
    if not isinstance(facts, Mapping):
        raise UsageError(f"this is no feed's state: {str(facts)[:200]}; give what state_dict() returned")
    return facts


@dataclass(frozen=True, kw_only=True)
class State:
    """Small, and the same for every rank."""

    fingerprint: Fingerprint
    epoch: int
    samples: int
    """Of this epoch that all ranks together have consumed."""
    version: int = VERSION

    def to_json(self) -> dict[str, Any]:
        """What from_json makes an equal state of."""
        return asdict(self)

    @classmethod
    def from_json(cls, facts: Mapping[str, Any]) -> "State":
        """Raises UsageError for what is no state, or one of another version."""
        version = given_state(facts).get("version")
        if isinstance(version, int) and version != VERSION:
            raise UsageError(
                f"the feed's state has version {version}, and this tarloom goes on from version {VERSION} alone; take "
                "the tarloom that saved it, or begin a new epoch without it"
            )
        known = {"fingerprint": Mapping, "epoch": int, "samples": int, "version": int}
        wrong = [name for name, kind in known.items() if not isinstance(facts.get(name), kind)]
        if wrong or facts["epoch"] < 0 or facts["samples"] < 0 or set(facts) - set(known):
            raise UsageError(f"this is no feed's state: {str(dict(facts))[:200]}; give what state_dict() returned")
        return cls(**facts)

    def check(self, fingerprint: Fingerprint) -> None:
        """Raises UsageError unless the state is of a feed with this fingerprint; it says what differs."""
        differing = [name for name in fingerprint if self.fingerprint.get(name) != fingerprint[name]]
        if "data" in differing:
            raise UsageError(
                "the feed's state is of other data: other shards, or another version, other rows or buckets of them; "
                "open what it was saved from, with the same condition, or begin a new epoch without it"
            )
        if differing:
            named = [name for name in differing if name != "order"] or differing  # the digest is of what is named, too
            pairs = [(name, self.fingerprint.get(name), fingerprint[name]) for name in named]
            words = [f"{_SAID.get(name, name)} {there} there, {here} here" for name, there, here in pairs]
            raise UsageError(
                f"the feed's state is of another order: {'; '.join(words)}; "
                "give the same options, or begin a new epoch without it"
            )


def digest(*texts: str) -> str:
    """Of texts in their order; others have another one."""
    found = hashlib.sha256()
    for text in texts:
        found.update(f"{len(text)} {text}".encode("utf-8", "surrogatepass"))
    return found.hexdigest()[:16]
