"""A look at the tar itself before what its index says is believed: at the header in front of every member read."""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
from numpy import char

from tarloom.errors import StaleIndex
from tarloom.format.arrow_types import Array
from tarloom.format.index import ShardIndex
from tarloom.format.index_load import scan_index
from tarloom.format.layout import index_name
from tarloom.format.tar.walk import BLOCK, header_is_of, headers_are_of
from tarloom.read.plan.catalog import forget_index
from tarloom.read.plan.pieces import Piece

_NAME_BYTES = 100
"""Of a plain header."""
_DIGITS = 3 * np.arange(10, -1, -1)
"""Bits to the right of each of the eleven octal digits of a size."""


def check_headers(
    piece: Piece,
    index: ShardIndex,
    blocks: pa.Buffer,
    names: np.ndarray,
    sizes: np.ndarray,
    fronts: Mapping[int, memoryview],
) -> None:
    """Raises StaleIndex where another member lies behind one of these headers.

    blocks: the headers, one behind the other; names: bytes of shape (members,), key and extension; sizes: int64;
    fronts: what lies in front of the headers that cannot hold their names, by their numbers.
    """
    headers = np.frombuffer(memoryview(blocks), _header(names.itemsize))
    for i in np.flatnonzero(~_plainly_of(headers, names, sizes)).tolist():
        block, name, size = headers[i].tobytes(), names[i].decode(), int(sizes[i])
        extended = i in fronts and headers_are_of(bytes(fronts[i]) + block, name=name, size=size)
        if not extended and not header_is_of(block, name=name, size=size):
            if _is_current(piece, index):
                return
            forget_index(piece.storage, piece.shard)
            where = piece.storage.describe(index_name(piece.shard))
            raise StaleIndex(f"{piece.url}: was changed after its index was made; remove {where} and open it again")


def member_names(keys: Array, present: Mapping[str, np.ndarray]) -> np.ndarray:
    """What the members that are there are called: bytes, those of one extension after the other.

    present: by extension, which keys have it: bool of shape (keys,).
    """
    stems = _as_bytes(keys)
    return np.concatenate([[b""][:0], *(char.add(stems[has], f".{m}".encode()) for m, has in present.items())])


def extended_names(names: np.ndarray) -> np.ndarray:
    """The numbers of those that a plain header does not hold: not ASCII, or too long. They stand in front of it."""
    letters = names.view(np.uint8).reshape(len(names), names.itemsize)
    if names.itemsize <= _NAME_BYTES and letters.max(initial=0) < 128:
        return np.zeros(0, np.int64)
    found: np.ndarray = np.flatnonzero((letters > 127).any(axis=1) | (char.str_len(names) > _NAME_BYTES))
    return found


def _as_bytes(keys: Array) -> np.ndarray:
    """The same keys. Those of one length, as nearly all shards have them, lie side by side already."""
    _, bounds, data = keys.buffers()
    ends = np.frombuffer(memoryview(bounds or bytes(4)), np.int32)[keys.offset :][: len(keys) + 1]
    lengths = np.diff(ends)
    if data is None or not lengths.any() or (lengths != lengths[0]).any():
        return np.array(keys.cast(pa.binary()).to_pylist(), np.bytes_)
    return np.frombuffer(memoryview(data), np.uint8)[ends[0] : ends[-1]].view(f"S{lengths[0]}")


def _plainly_of(headers: np.ndarray, names: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Which headers are of these members as nearly all tars have them: the whole name first, the size in octal."""
    digits = ((sizes[:, None] >> _DIGITS).astype(np.uint8) & 7 | ord("0")).view("S11")[:, 0]
    plain: np.ndarray = (headers["name"] == names) & (headers["size"] == digits) & (headers["prefix"] == 0)
    plain &= (headers["type"] == ord("0")) | (headers["type"] == 0)
    return plain


def _header(longest: int) -> np.dtype[np.void]:
    """Those fields of a header that tell a member, the name as far as one behind the longest that is wanted."""
    name = f"S{min(longest + 1, _NAME_BYTES)}"
    fields = {"name": (name, 0), "size": ("S11", 124), "type": ("u1", 156), "prefix": ("u1", 345)}
    formats, offsets = zip(*fields.values(), strict=True)
    return np.dtype({"names": list(fields), "formats": formats, "offsets": offsets, "itemsize": BLOCK})


def _is_current(piece: Piece, index: ShardIndex) -> bool:
    """The slow proof, for tars whose plain headers carry other names than their PAX headers: walk it all again."""
    fresh = scan_index(piece.storage, piece.shard, piece.tar)
    return bool(fresh.table.equals(index.table))
