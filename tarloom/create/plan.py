"""What a run is going to make: rows, shards, and the fingerprint that a resumed run must have. Pure but for two calls.

The plan lies in the output's `_tarloom/plan.json` before the first shard is begun.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from tarloom.errors import PlanMismatch, UsageError
from tarloom.format.layout import PLAN, numbered_shard
from tarloom.format.storage import Storage

PLAN_VERSION = 2
"""Raised whenever the same input and options would give other bytes than before."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How many rows are cut into which shards, and what they are made from."""

    version: int
    source: str
    """The digest of what the source holds."""
    options: Mapping[str, str]
    """The options that shape the output, as JSON texts by name."""
    rows: int
    rows_per_shard: int
    digits: int
    """Of a shard's name."""
    columns: Mapping[str, str]
    """Additional columns and their types."""

    @property
    def shards(self) -> int:
        """How many shards there are."""
        return -(-self.rows // self.rows_per_shard)

    def name(self, number: int) -> str:
        """The name of shard `number`."""
        return numbered_shard(number, self.digits)

    def rows_of(self, number: int) -> tuple[int, int]:
        """The first row of shard `number`, and the row behind its last."""
        first = number * self.rows_per_shard
        return first, min(self.rows, first + self.rows_per_shard)


def parse_slice(chosen: str | None) -> slice:
    """What "A:B" means: from shard A up to, but without, B; each end optional. Raises UsageError."""
    first, colon, last = (":" if chosen is None else chosen).partition(":")
    if not colon or not all(part == "" or part.isdecimal() for part in (first, last)):
        raise UsageError(f"shards {chosen!r}: write A:B, such as 0:10, 10: or :10")
    if last and int(last) < int(first or 0):
        raise UsageError(f"shards {chosen!r}: ends before it begins; write A:B with A at most B")
    return slice(int(first) if first else None, int(last) if last else None)


def selected_shards(plan: Plan, chosen: str | None) -> range:
    """The numbers of the plan's shards that "A:B" names. Raises UsageError."""
    return range(plan.shards)[parse_slice(chosen)]


def read_plan(storage: Storage) -> Plan | None:
    """The plan of an output folder, None where it has none. Raises UsageError where it cannot be understood."""
    if storage.head(PLAN) is None:
        return None
    try:
        plan = Plan(**json.loads(storage.read(PLAN)))
        if not all(isinstance(n, int) and n > 0 for n in (plan.rows, plan.rows_per_shard, plan.digits)):
            raise ValueError("counts must be whole numbers")
        return replace(plan, options=dict(plan.options), columns=dict(plan.columns))
    except (ValueError, TypeError) as error:
        raise UsageError(f"{storage.describe(PLAN)}: not a plan of this version; choose another output") from error


def write_plan(storage: Storage, plan: Plan) -> Plan:
    """Commit the plan, unless another run has been faster. Returns the plan that the output has now."""
    if storage.write_new(PLAN, json.dumps(asdict(plan), indent=1).encode()):
        return plan
    return read_plan(storage) or plan


def check_same(kept: Plan, source: str, options: Mapping[str, str], where: str) -> None:
    """Raise PlanMismatch, with every difference, unless the plan was made from this source with these options."""
    then: dict[str, Any] = {"version": kept.version, "source": kept.source, **kept.options}
    now: dict[str, Any] = {"version": PLAN_VERSION, "source": source, **options}
    names = sorted(name for name in then.keys() | now.keys() if then.get(name) != now.get(name))
    if names:
        shown = "; ".join(_difference(name, then.get(name), now.get(name)) for name in names)
        raise PlanMismatch(f"{where} was planned otherwise: {shown}; restore these, or choose another output folder")


def _difference(name: str, then: object, now: object) -> str:
    if name == "source":
        return "the source's contents have changed"
    return f"{name} was {then}, is now {now}"
