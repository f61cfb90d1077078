"""What stages want to see of a row: a column of the tables, or what a stage before says, known before any work."""

from collections.abc import Mapping

import pyarrow as pa

from tarloom.errors import UsageError
from tarloom.generate.tables.checks import OWN
from tarloom.process.caption.columns import schema_of
from tarloom.process.caption.language import LanguageStage
from tarloom.process.stage import Stage, result_schema


def table_inputs(stages: Mapping[str, Stage], rows: pa.Schema) -> tuple[str, ...]:
    """The columns of the rows that stages want to see, whatever dots there are in their names.

    Raises UsageError where a stage wants to see what neither the rows have nor a stage before it says.
    """
    found: set[str] = set()
    earlier: dict[str, Stage] = {}
    for name, stage in stages.items():
        for column in stage.inputs:
            teller, dot, field = column.partition(".")
            if dot and teller in earlier:
                _check_said(name, teller, field, earlier[teller])
            elif column in rows.names:
                found.add(column)
            else:
                known = ", ".join(each for each in rows.names if not each.startswith(OWN))
                raise UsageError(
                    f"stage {name}: wants to see {column!r}, which neither the tables have nor a stage before it says; "
                    f"the tables have {known}"
                )
        earlier[name] = stage
    return tuple(sorted(found))


def _check_said(name: str, teller: str, field: str, stage: Stage) -> None:
    """Raises UsageError where a stage wants to see what this one does not say, if that is known before it is open."""
    if not isinstance(stage, LanguageStage):
        return
    said = schema_of(stage.captions)
    if field not in result_schema(said).names:
        columns = ", ".join(f"{teller}.{column}" for column in said.names)
        raise UsageError(f"stage {name}: wants to see {teller}.{field}, but {teller} says {columns}; name one of these")
