"""What captions become in a sidecar: which columns there are, and how a backend's words fill them.

One prompt has the columns `text`, `finish_reason` and the flags; of several, NAME has `NAME`, `NAME_finish_reason` and
so on. A schema's properties are columns too. Tokens are counted once for all prompts of a row.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import pyarrow as pa

from tarloom.errors import UsageError
from tarloom.format.index import KEY
from tarloom.format.sidecar import ERROR, FAILED, STATUS, SUCCESS
from tarloom.process.caption.backend import Said
from tarloom.process.caption.flags import Flags, flags
from tarloom.process.caption.structured import Structure
from tarloom.process.stage import Ending

DOES_NOT_FIT = "does_not_fit_schema"
"""The answer is not JSON as the schema wants it, such as one that was cut off: the text is kept."""
_TOKENS = ("prompt_tokens", "output_tokens")


@dataclass(frozen=True, kw_only=True)
class Caption:
    """One prompt's columns."""

    name: str | None
    structure: Structure | None

    @property
    def columns(self) -> dict[str, pa.DataType]:
        """By their names in the sidecar."""
        made: dict[str, pa.DataType] = {
            self.name or "text": pa.string(),
            self._called("finish_reason"): pa.string(),
            **{self._called(flag.name): pa.bool_() for flag in fields(Flags)},
        }
        parts = {} if self.structure is None else self.structure.columns
        for part, kind in parts.items():
            if self._called(part) in made:
                raise UsageError(
                    f"JSON schema: the property {part!r} has the name of another column; call it otherwise"
                )
            made[self._called(part)] = kind
        return made

    def values(self, said: Said) -> tuple[dict[str, Any], Ending]:
        """What these columns hold of an answer, and how it ended."""
        made: dict[str, Any] = {
            self.name or "text": said.text,
            self._called("finish_reason"): said.finish_reason,
        }
        if said.text is None or said.ending[0] != SUCCESS:
            return made, said.ending
        marks = asdict(flags(said.text, said.finish_reason))
        made |= {self._called(name): value for name, value in marks.items()}
        if self.structure is None:
            return made, said.ending
        parts = self.structure.read(said.text)
        if parts is None:
            return made, (FAILED, DOES_NOT_FIT)
        return made | {self._called(name): value for name, value in parts.items()}, said.ending

    def _called(self, column: str) -> str:
        return column if self.name is None else f"{self.name}_{column}"


def schema_of(captions: Sequence[Caption]) -> pa.Schema:
    """All columns of a sidecar. Raises UsageError where two have the same name."""
    made: dict[str, pa.DataType] = dict.fromkeys(_TOKENS, pa.int32())
    found: dict[str, pa.DataType] = {}
    for name, kind in _all_columns(captions):
        if name in found or name in made or name in (KEY, STATUS, ERROR):
            raise UsageError(
                f"column {name!r} would be there twice; name a prompt or a property of the schema otherwise"
            )
        found[name] = kind
    return pa.schema(found | made)


def row_of(captions: Sequence[Caption], said: Sequence[Said]) -> tuple[dict[str, Any], Ending]:
    """A row's columns and how it ended: as the first of its prompts that failed."""
    row: dict[str, Any] = {tokens: _sum(said, tokens) for tokens in _TOKENS}
    endings: list[Ending] = []
    for caption, answer in zip(captions, said, strict=True):
        values, ending = caption.values(answer)
        row |= values
        endings.append(ending)
    return row, next((ending for ending in endings if ending[0] != SUCCESS), (SUCCESS, None))


def _all_columns(captions: Sequence[Caption]) -> Iterator[tuple[str, pa.DataType]]:
    for caption in captions:
        yield from caption.columns.items()


def _sum(said: Sequence[Said], tokens: str) -> int | None:
    counts = [count for answer in said if (count := getattr(answer, tokens)) is not None]
    return sum(counts) if counts else None
