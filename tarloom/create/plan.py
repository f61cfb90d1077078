"""What a run is going to make: rows, shards, and the fingerprint that a resumed run must have.

The plan lies in the output's `_tarloom/plan.json` before the first shard is begun. An output that is extended has one
more for every further source, `_tarloom/plan-N.json`: its shards begin at number N, where those before it end. So each
further plan has but one possible name, and of two runs that extend at one moment, one finds the other's.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from tarloom.errors import PlanMismatch, UsageError
from tarloom.format.layout import PLAN, further_plan_name, numbered_shard
from tarloom.format.storage import Storage

PLAN_VERSION = 2
"""Raised whenever the same input and options would give other bytes than before."""
_OR_ELSE = "choose another output folder, or let incremental_mode extend or overwrite this one"


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
    first_shard: int = 0
    """The number of its first shard: those below are of sources before it."""
    first_key: int = 0
    """The number of its first row, where keys are made from that."""

    @property
    def shards(self) -> int:
        """How many shards there are."""
        return -(-self.rows // self.rows_per_shard)

    def name(self, number: int) -> str:
        """The name of shard `number` of this plan."""
        return numbered_shard(self.first_shard + number, self.digits)

    def rows_of(self, number: int) -> tuple[int, int]:
        """The first row of shard `number`, and the row behind its last."""
        first = number * self.rows_per_shard
        return first, min(self.rows, first + self.rows_per_shard)

    def behind(self, others: Sequence["Plan"], least: int = 0) -> "Plan":
        """This plan with its shards behind those of others, and at least at number `least`.

        Numbers of rows go on as if all shards were full: as img2dataset's keys do.
        """
        shard = max([least, *(plan.first_shard + plan.shards for plan in others)])
        key = max(
            [shard * self.rows_per_shard, *(plan.first_key + plan.shards * plan.rows_per_shard for plan in others)]
        )
        return replace(self, first_shard=shard, first_key=key)

    def differences(self, source: str, options: Mapping[str, str]) -> list[str]:
        """How a run over this source with these options differs from this plan; none where it may go on with it."""
        then: dict[str, Any] = {"version": self.version, "source": self.source, **self.options}
        now: dict[str, Any] = {"version": PLAN_VERSION, "source": source, **options}
        names = sorted(name for name in then.keys() | now.keys() if then.get(name) != now.get(name))
        return [_difference(name, then.get(name), now.get(name)) for name in names]


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


def read_plans(storage: Storage) -> list[Plan]:
    """The plans of an output folder, one behind the other; none where it has none.

    Raises UsageError where one cannot be understood.
    """
    plans: list[Plan] = []
    while (plan := _read_plan(storage, _next_name(plans))) is not None:
        plans.append(plan)
    return plans


def find_plan(plans: Sequence[Plan], source: str, options: Mapping[str, str]) -> Plan | None:
    """The plan for this source with these options, if there is one."""
    return next((plan for plan in plans if not plan.differences(source, options)), None)


def add_plan(storage: Storage, plans: Sequence[Plan], plan: Plan) -> bool:
    """Commit a plan behind those that were read; False where another run has been faster."""
    return storage.write_new(_next_name(plans), json.dumps(asdict(plan), indent=1).encode())


def refused(plans: Sequence[Plan], source: str, options: Mapping[str, str], where: str) -> PlanMismatch:
    """The error to raise where no plan is for this source and these options. It shows how the nearest one differs."""
    nearest = min(plans, key=lambda plan: len(plan.differences(source, options)))
    if nearest.version != PLAN_VERSION:  # its options have other names, which nobody could restore
        return PlanMismatch(
            f"{where} was begun by another version of tarloom, whose plans have version {nearest.version} (now "
            f"{PLAN_VERSION}); go on with that version, {_OR_ELSE}"
        )
    return PlanMismatch(
        f"{where} was planned otherwise: {'; '.join(nearest.differences(source, options))}; restore these, {_OR_ELSE}"
    )


def _next_name(plans: Sequence[Plan]) -> str:
    return further_plan_name(plans[-1].first_shard + plans[-1].shards) if plans else PLAN


def _read_plan(storage: Storage, name: str) -> Plan | None:
    if storage.head(name) is None:
        return None
    try:
        plan = Plan(**json.loads(storage.read(name)))
        if not all(isinstance(n, int) and n > 0 for n in (plan.rows, plan.rows_per_shard, plan.digits)):
            raise ValueError("counts must be whole numbers")
        if not all(isinstance(n, int) and n >= 0 for n in (plan.first_shard, plan.first_key)):
            raise ValueError("numbers must be whole")
        return replace(plan, options=dict(plan.options), columns=dict(plan.columns))
    except (ValueError, TypeError, RecursionError) as error:
        raise UsageError(f"{storage.describe(name)}: not a plan of this version; choose another output") from error


def _difference(name: str, then: object, now: object) -> str:
    if name == "source":
        return "the source's contents have changed"
    return f"{name} was {_told(then)}, is now {_told(now)}"


def _told(value: object) -> object:
    """An option that one of the two versions does not know, or that is not set, in words."""
    return "not known" if value is None else "not given" if value == "null" else value
