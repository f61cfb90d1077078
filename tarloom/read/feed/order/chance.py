"""Numbers by chance that are functions of what they are for: of a seed, an epoch, a sample.

Every number is a hash of words (splitmix64, Steele, Lea and Flood 2014: "Fast splittable pseudorandom number
generators"), so that it can be had without those before it, in any process, and with any version of numpy.
"""

import hashlib
from typing import Final

import numpy as np
import numpy.typing as npt

Words = npt.NDArray[np.uint64]
Numbers = npt.NDArray[np.int64]
"""One for each sample, shard or block."""

_GAMMA: Final = 0x9E3779B97F4A7C15
_SPREAD: Final = np.uint64(0xD1B54A32D192ED03)
_MASK: Final = (1 << 64) - 1
_HALF: Final = np.uint64(32)
_FEW: Final = 256
_ROUNDS: Final = 6
_ROUNDS_OF_FEW: Final = 20
"""So many give each order of a few numbers about the same chance."""


def words(*parts: int | str | Numbers) -> Words:
    """One word of 64 bits for what these parts name together; arrays are broadcast. Other parts, other words."""
    scalar, found = 0, None
    for part in parts:
        if isinstance(part, np.ndarray):
            before = np.uint64(scalar) if found is None else found
            found = _mixed((before ^ part.astype(np.uint64)) + np.uint64(_GAMMA))
        elif found is None:
            scalar = _mixed_one((scalar ^ _word(part)) + _GAMMA & _MASK)
        else:
            found = _mixed((found ^ np.uint64(_word(part))) + np.uint64(_GAMMA))
    return np.asarray(scalar, np.uint64) if found is None else found


def uniform(*parts: int | str | Numbers) -> npt.NDArray[np.float64]:
    """A number from 0 up to 1 (exclusive) for what these parts name together."""
    return (words(*parts) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def below(limit: int | Numbers, *parts: int | str | Numbers) -> Numbers:
    """A number from 0 up to `limit` (exclusive, less than 2**63) for what these parts name together."""
    return (words(*parts) % np.asarray(limit).astype(np.uint64)).astype(np.int64)


def permutation(count: int, *parts: int | str) -> Numbers:
    """The numbers below `count` in an order by chance."""
    return np.argsort(words(*parts, np.arange(count)), kind="stable")


def permuted(numbers: Numbers, counts: Numbers | int, *parts: int | str | Numbers) -> Numbers:
    """What stands at these places when the numbers below `counts` are in an order by chance, without all the others.

    numbers: at least 0 and less than `counts`, which are less than 2**62; arrays of one length, parts too. Where counts
    and parts are equal, other numbers become other numbers: it is a Feistel network over a rectangle that is hardly
    larger than the count, walked until it leads to a number below it (Black and Rogaway 2002: "Ciphers with arbitrary
    finite domains").
    """
    limits = np.broadcast_to(np.asarray(counts).astype(np.uint64), numbers.shape)
    keys = np.broadcast_to(words(*parts), numbers.shape)
    found = numbers.astype(np.uint64)
    for few, rounds in ((limits < _FEW, _ROUNDS_OF_FEW), (limits >= _FEW, _ROUNDS)):
        todo = np.flatnonzero(few)
        while len(todo):
            found[todo] = _stirred(found[todo], limits[todo], keys[todo], rounds)
            todo = todo[found[todo] >= limits[todo]]
    return found.astype(np.int64)


def _stirred(numbers: Words, limits: Words, keys: Words, rounds: int) -> Words:
    """Other numbers below height * width, which is at least the limit."""
    height = np.sqrt(limits.astype(np.float64)).astype(np.uint64) + np.uint64(1)
    width = (limits + height - np.uint64(1)) // height
    right: Words = numbers // height
    left: Words = numbers - right * height
    for number in range(rounds):
        size, other = (height, right) if number % 2 == 0 else (width, left)
        turned = (_mixed(keys + other * _SPREAD + np.uint64(number * _GAMMA & _MASK)) >> _HALF) * size >> _HALF
        if number % 2 == 0:
            left = _around(left + turned, height)
        else:
            right = _around(right + turned, width)
    return right * height + left


def _around(numbers: Words, size: Words) -> Words:
    around: Words = np.where(numbers >= size, numbers - size, numbers)
    return around


def _word(part: int | str) -> int:
    if isinstance(part, str):
        return int.from_bytes(hashlib.blake2b(part.encode(), digest_size=8).digest(), "little")
    return int(part) & _MASK


def _mixed(word: Words) -> Words:
    word = (word ^ (word >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    word = (word ^ (word >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return word ^ (word >> np.uint64(31))


def _mixed_one(word: int) -> int:
    word = (word ^ (word >> 30)) * 0xBF58476D1CE4E5B9 & _MASK
    word = (word ^ (word >> 27)) * 0x94D049BB133111EB & _MASK
    return word ^ (word >> 31)
