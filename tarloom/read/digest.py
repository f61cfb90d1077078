"""One number for a set of samples, whatever the order they were read in and whoever read them.

Each (key, member, bytes) is hashed by itself and the hashes are added modulo 2**128. So partial digests of any
partition of a dataset add up to the same whole, and a sample that is lost, doubled or changed shows. Values of columns
count like members, in one spelling whatever types an engine has for them.
"""

import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np

_MODULUS = 1 << 128


@dataclass
class Digest:
    """The digest of no sample, to which samples and other digests are added."""

    value: int = 0

    def add(self, key: str, member: str, data: bytes | memoryview) -> None:
        """Count one member of one sample."""
        hasher = hashlib.blake2b(digest_size=16)
        for text in (key.encode(), member.encode()):
            hasher.update(len(text).to_bytes(8, "little"))
            hasher.update(text)
        hasher.update(data)
        self.value = (self.value + int.from_bytes(hasher.digest(), "little")) % _MODULUS

    def add_value(self, key: str, column: str, value: object) -> None:
        """Count one value of a column of one sample, or a decoded member; null is not counted."""
        if value is not None:
            self.add(key, column, spelled(value))

    def merge(self, other: "Digest") -> None:
        """Count all that the other has counted."""
        self.value = (self.value + other.value) % _MODULUS

    @property
    def hex(self) -> str:
        """32 hexadecimal digits."""
        return f"{self.value:032x}"

    @classmethod
    def from_hex(cls, text: str) -> "Digest":
        return cls(int(text, 16))


def spelled(value: object) -> bytes:
    """A value as bytes, the same from Arrow, NumPy, Ray and Spark: bytes as they are, pictures by size, else JSON."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    if isinstance(value, np.ndarray) and value.ndim == 3:
        return f"{value.shape[0]}x{value.shape[1]}:".encode() + value.tobytes()
    if isinstance(value, dict) and value.keys() == {"height", "width", "data"}:
        return f"{value['height']}x{value['width']}:".encode() + bytes(value["data"])
    return json.dumps(value, default=_plain, sort_keys=True).encode()


def _plain(value: Any) -> object:
    if isinstance(value, datetime):
        return value.astimezone(UTC).replace(tzinfo=None).isoformat() if value.tzinfo else value.isoformat()
    return value.tolist() if isinstance(value, (np.ndarray, np.generic)) else str(value)
