"""One number for a set of samples, whatever the order they were read in and whoever read them.

Each (key, member, bytes) is hashed by itself and the hashes are added modulo 2**128. So partial digests of any
partition of a dataset add up to the same whole, and a sample that is lost, doubled or changed shows.
"""

import hashlib
from dataclasses import dataclass

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
