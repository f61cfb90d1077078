"""A type that a package has registered with Arrow, and that runs code of its own where a value is taken."""

from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa

NAME = "tests.runs_code"


class RunsCode(pa.ExtensionType):
    """As Ray Data's type of Python objects, which are unpickled."""

    def __init__(self):
        super().__init__(pa.binary(), NAME)

    def __arrow_ext_serialize__(self):
        return b""

    @classmethod
    def __arrow_ext_deserialize__(cls, storage_type, serialized):
        return cls()

    def __arrow_ext_scalar_class__(self):
        return Ran


class Ran(pa.ExtensionScalar):
    """A value of it."""

    def as_py(self, **_):
        raise AssertionError("code of another package made a value of what a file holds")


@contextmanager
def known_to_arrow() -> Iterator[None]:
    """Within the block, as where that package has been imported."""
    pa.register_extension_type(RunsCode())
    try:
        yield
    finally:
        pa.unregister_extension_type(NAME)


def columns_of_it() -> pa.Table:
    """It alone, and within other types."""
    values = pa.ExtensionArray.from_storage(RunsCode(), pa.array([b"x"]))
    one = pa.array([0, 1], pa.int32())
    inner = {
        "list": pa.ListArray.from_arrays(one, values),
        "large": pa.LargeListArray.from_arrays(one.cast(pa.int64()), values),
        "vector": pa.FixedSizeListArray.from_arrays(values, 1),
        "struct": pa.StructArray.from_arrays([values], ["part"]),
        "map": pa.MapArray.from_arrays(one, pa.array(["k"]), values),
    }
    return pa.table({"value": values, **inner})


def tensor_of_it() -> pa.Table:
    """It within a type of Arrow's own."""
    values = pa.ExtensionArray.from_storage(RunsCode(), pa.array([b"x", b"y"]))
    pairs = pa.FixedSizeListArray.from_arrays(values, 2)
    return pa.table({"pair": pa.ExtensionArray.from_storage(pa.fixed_shape_tensor(RunsCode(), [2]), pairs)})


def view_of_it() -> pa.Table:
    """It within a view of lists, of which Arrow makes none of another type."""
    first, size = pa.array([0], pa.int32()), pa.array([1], pa.int32())
    return pa.table({"view": pa.ListViewArray.from_arrays(first, size, tensor_of_it()["pair"].combine_chunks())})
