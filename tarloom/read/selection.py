"""What is chosen of a dataset: members and columns, samples by a condition, in which form, and what failures are."""

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Self, get_args

import pyarrow as pa

from tarloom.errors import UsageError
from tarloom.format.layout import IMAGE_MEMBERS, NAMES_OF_READERS, TAR_SUFFIXES
from tarloom.read.ledger import Ledger
from tarloom.read.plan.catalog import Catalog, ShardFiles
from tarloom.read.view import Column, DecodeAs, JoinPolicy, OnError, View, Where


@dataclass(frozen=True, kw_only=True)
class Selection:
    """A dataset's shards, and what is chosen of them. Every choice gives a new one; they share what was loaded."""

    path: str
    """As it was given, for messages."""
    catalog: Catalog = dataclasses.field(repr=False)
    selected: tuple[str, ...] | None = None
    """Members and columns by name, in the order wanted; None for all members."""
    condition: Where | None = None
    join: JoinPolicy = "error"
    decode: tuple[tuple[str, DecodeAs], ...] = ()
    errors: OnError = "raise"
    ledger: Ledger | None = dataclasses.field(default=None, compare=False, repr=False)
    """Counts what cannot be read, in this process; a pickled copy counts for itself."""

    @property
    def shards(self) -> tuple[ShardFiles, ...]:
        """The shards, in the order of their names."""
        return self.catalog.shards

    @property
    def url(self) -> str:
        """What opens this dataset from anywhere: an absolute path or a URL."""
        storage = self.catalog.storage
        return storage.describe(self.shards[0].tar.name) if self.path.endswith(TAR_SUFFIXES) else storage.url

    @property
    def columns(self) -> tuple[str, ...]:
        """All that can be selected: members, columns of the metadata, and STAGE.COLUMN of the sidecars."""
        names = (*self.catalog.members(), *self.catalog.columns())
        return tuple(dict.fromkeys(names))

    @property
    def members(self) -> tuple[str, ...]:
        """The members that are read."""
        members = self.catalog.members()
        return members if self.selected is None else tuple(name for name in self.selected if name in members)

    @property
    def joined(self) -> tuple[Column, ...]:
        """The columns that are joined to the members."""
        members = self.catalog.members()
        names = [name for name in self.selected or () if name not in members]
        return tuple(self.catalog.columns()[name] for name in names)

    @property
    def view(self) -> View:
        """All that is chosen, as it travels in pieces."""
        return View(
            members=self.members,
            columns=self.joined,
            where=self.condition,
            join=self.join,
            decode=tuple((member, form) for member, form in self.decode if member in self.members),
            on_error=self.errors,
        )

    @property
    def schema(self) -> pa.Schema:
        """Of the batches: `__key__`, members (binary unless they are decoded or mapped), then joined columns."""
        return self.view.schema

    def select(self, *names: str) -> Self:
        """The same samples with only these members and columns; without names, only `__key__`.

        A member hides a metadata column of the same name. Raises UsageError for a name that no shard has, CorruptShard
        where a damaged table may have it.
        """
        for name in names:
            if not isinstance(name, str):
                raise UsageError(f"{self.path}: give names one by one, such as: select('jpg', 'caption'); not {name!r}")
            if name in NAMES_OF_READERS:
                raise UsageError(f"{self.path}: {name} comes by itself where there is one; select members and columns")
        members = self.catalog.members()
        known = members if set(names) <= set(members) else self.columns
        for name in names:
            if name not in known:
                for error in (*self.catalog.broken.values(), *self.catalog.unreadable):  # it may be in there
                    raise error
                raise UsageError(f"{self.path}: has no {name!r}; select from {', '.join(known)}")
        return dataclasses.replace(self, selected=tuple(dict.fromkeys(names)))

    def where(self, sql: str, *, option: str = "where") -> Self:
        """Of the same samples, those for which this is true: `ds.where("width >= 256 AND clip.score > 0.3")`.

        sql: a condition in duckdb's SQL on columns of metadata and sidecars, and `__key__`. It is evaluated where
        shards are read, before any member is. Raises UsageError for what cannot work, CorruptShard where a damaged
        table may have a column that is named. option: what messages call the condition.
        """
        from tarloom.read.columns.sql import names_of  # loads duckdb
        from tarloom.read.columns.where import both, compile_where

        condition = compile_where(sql, names_of(self.catalog, f"{self.path}: {option}"))
        return dataclasses.replace(self, condition=both(self.condition, condition) if self.condition else condition)

    def joining(self, policy: JoinPolicy) -> Self:
        """The same with another answer to samples that have no row, or several, or a stale one, in a joined table."""
        _check_policy("join", policy, get_args(JoinPolicy))
        return dataclasses.replace(self, join=policy)

    def decoding(self, images: DecodeAs | None = None, /, **members: DecodeAs) -> Self:
        """The same with members decoded: all pictures to one form, or each member named to its own.

        `ds.decoding("rgb", json="json")`. What was to be decoded before stays so. Raises UsageError for a member that
        no shard has, and for what is no form.
        """
        for form in ("rgb" if images is None else images, *members.values()):
            if form not in get_args(DecodeAs):
                raise UsageError(f"nothing is decoded to {form!r}; use one of {', '.join(get_args(DecodeAs))}")
        known = self.catalog.members()
        unknown = next((member for member in members if member not in known), None)
        if unknown is not None:
            raise UsageError(f"{self.path}: has no member {unknown!r}; decode {', '.join(known)}")
        pictures = {member: images for member in known if images is not None and member in IMAGE_MEMBERS}
        return dataclasses.replace(self, decode=tuple((dict(self.decode) | pictures | members).items()))

    def decoding_as(self, words: Iterable[str]) -> Self:
        """The same with members decoded as these words say: rgb (all pictures), json=json. Raises as `decoding`."""
        forms: dict[str, Any] = {member: form for member, _, form in (word.rpartition("=") for word in words)}
        return self.decoding(forms.pop("", None), **forms)

    def on_error(self, policy: OnError, *, ledger: Ledger | None = None) -> Self:
        """The same with another answer to samples that cannot be read: "raise", "skip", or "row".

        ledger: where they are counted, with limits if it has them; by default a new one, `ds.ledger`. Iterating counts
        there; engines do not, but they deliver "row", and warn of what they "skip".
        """
        _check_policy("on_error", policy, get_args(OnError))
        ledger = ledger if policy == "raise" or ledger is not None else Ledger()
        return dataclasses.replace(self, errors=policy, ledger=ledger)


def _check_policy(what: str, policy: str, known: Sequence[str]) -> None:
    if policy not in known:
        raise UsageError(f"{what} must be one of {', '.join(known)}, not {policy!r}")


def names_given(option: str, names: Sequence[str]) -> tuple[str, ...]:
    """The names. Raises UsageError for one that is not in a list, whose letters would be taken for names."""
    if isinstance(names, str):
        raise UsageError(f"{option} are names, also where there is one: {option}=({names!r},)")
    return tuple(names)
