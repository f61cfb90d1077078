"""Arrow types as Spark has them. Spark knows no half floats, unsigned numbers or fixed-size lists."""

import pyarrow as pa

from tarloom.errors import ShardError, missing_extra
from tarloom.format.arrow_types import Array

try:
    from pyspark.sql.pandas.types import from_arrow_schema, to_arrow_schema
    from pyspark.sql.types import StructType
except ImportError as error:
    raise missing_extra("spark", error) from error


def spark_schema(schema: pa.Schema) -> StructType:
    """The nearest schema that Spark can hold; every field may be null."""
    return from_arrow_schema(pa.schema([(field.name, _spark_type(field.type)) for field in schema]))


def arrow_schema(schema: StructType) -> pa.Schema:
    """How batches must look that Spark takes for this schema."""
    found: pa.Schema = to_arrow_schema(schema, timezone="UTC")
    return found


def in_spark_types(batch: pa.RecordBatch, schema: pa.Schema, where: str) -> pa.RecordBatch:
    """The columns of this schema, which is `arrow_schema`'s. where: the address of what was read, for messages.

    Raises ShardError for a value that Spark cannot hold.
    """
    try:
        return pa.record_batch([_cast(batch[field.name], field.type) for field in schema], schema=schema)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        message = f"{where}: holds a value that Spark cannot hold ({error}); select without it, or use another reader"
        raise ShardError(message) from error


def reads_natively(kind: pa.DataType) -> bool:
    """Whether Spark's own parquet reader reads this type, and as `spark_schema` has it."""
    if pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind) or pa.types.is_large_list(kind):
        return reads_natively(kind.value_type)
    if pa.types.is_integer(kind):
        return not pa.types.is_uint64(kind)
    return pa.types.is_float32(kind) or pa.types.is_float64(kind) or kind in _AS_THEY_ARE


_AS_THEY_ARE = (pa.bool_(), pa.string(), pa.large_string(), pa.binary(), pa.large_binary(), pa.date32())


def _cast(array: Array, kind: pa.DataType) -> Array:
    if isinstance(array, pa.StructArray) and isinstance(kind, pa.StructType):  # only fields' right to be null differs
        children = [_cast(array.field(i), kind.field(i).type) for i in range(kind.num_fields)]
        return pa.StructArray.from_arrays(children, fields=list(kind), mask=array.is_null())
    return array if array.type == kind else array.cast(kind)


def _spark_type(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_float16(kind):
        return pa.float32()
    if pa.types.is_unsigned_integer(kind):
        return pa.int64()
    if pa.types.is_dictionary(kind):
        return _spark_type(kind.value_type)
    if pa.types.is_timestamp(kind):
        return pa.timestamp("us", tz="UTC")
    if pa.types.is_struct(kind):
        return pa.struct([(kind.field(i).name, _spark_type(kind.field(i).type)) for i in range(kind.num_fields)])
    if pa.types.is_fixed_size_list(kind) or pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return pa.list_(_spark_type(kind.value_type))
    return kind
