"""Numbers by chance that are functions of what they are for: of a seed, an epoch, a sample.

Every number is a hash of words (splitmix64, Steele, Lea and Flood 2014: "Fast splittable pseudorandom number
generators"), so that it can be had without those before it, in any process, and with any version of numpy.
"""

import hashlib
from typing import Final

import numpy as np
import numpy.typing as npt

Words = npt.NDArray[np.uint64]

_GAMMA: Final = np.uint64(0x9E3779B97F4A7C15)


def words(*parts: int | str | npt.NDArray[np.int64]) -> Words:
    """One word of 64 bits for what these parts name together; arrays are broadcast. Other parts, other words."""
    found = np.zeros((), np.uint64)
    with np.errstate(over="ignore"):
        for part in parts:
            found = _mixed((found ^ _word(part)) + _GAMMA)
    return found


def uniform(*parts: int | str | npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """A number from 0 up to 1 (exclusive) for what these parts name together."""
    return (words(*parts) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def permutation(count: int, *parts: int | str) -> npt.NDArray[np.int64]:
    """The numbers below `count` in an order by chance."""
    return np.argsort(words(*parts, np.arange(count)), kind="stable")


def _word(part: int | str | npt.NDArray[np.int64]) -> Words:
    if isinstance(part, str):
        return np.asarray(int.from_bytes(hashlib.blake2b(part.encode(), digest_size=8).digest(), "little"), np.uint64)
    if isinstance(part, int):
        return np.asarray(part & 0xFFFF_FFFF_FFFF_FFFF, np.uint64)
    return part.astype(np.uint64)


def _mixed(word: Words) -> Words:
    word = (word ^ (word >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    word = (word ^ (word >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return word ^ (word >> np.uint64(31))
