"""ICC profiles made byte by byte: display profiles with any primaries, grey ones, and an ink profile."""

import struct
from itertools import product

D50 = (0.9642, 1.0, 0.8249)
SRGB = ((0.4361, 0.2225, 0.0139), (0.3851, 0.7169, 0.0971), (0.1431, 0.0606, 0.7141))
"""The primaries red, green and blue of sRGB as XYZ."""
GAMMA = 2.2


def display(primaries=SRGB, *, gamma: float = GAMMA) -> bytes:
    """Of RGB; with sRGB's own primaries and gamma it is sRGB but for a few levels."""
    colours = {f"{name}XYZ": _xyz(value) for name, value in zip("rgb", primaries, strict=True)}
    curves = {f"{name}TRC": _curve(gamma) for name in "rgb"}
    return _profile("RGB ", "mntr", "XYZ ", {**colours, **curves})


def grey(*, gamma: float) -> bytes:
    return _profile("GRAY", "mntr", "XYZ ", {"kTRC": _curve(gamma)})


def ink() -> bytes:
    """Of CMYK, in which cyan ink is green."""
    straight = bytes(range(256))
    table = b"".join(_lab(*_shown(*inks)) for inks in product((0, 1), repeat=4))
    matrix = struct.pack(">9i", *(65536 if place % 4 == 0 else 0 for place in range(9)))
    lut = b"mft1\0\0\0\0" + bytes([4, 3, 2, 0]) + matrix + 4 * straight + table + 3 * straight
    return _profile("CMYK", "prtr", "Lab ", {"A2B0": lut})


def _shown(cyan: int, magenta: int, yellow: int, key: int) -> tuple[float, float, float]:
    """L, a, b of inks that are there or not."""
    if key:
        return 0, 0, 0
    return 100 - 15 * (cyan + magenta + yellow), 60 * (magenta - cyan), 50 * cyan + 50 * yellow


def _lab(light: float, a: float, b: float) -> bytes:
    return bytes([round(light * 2.55), round(a + 128), min(255, round(b + 128))])


def _xyz(values) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(value * 65536) for value in values))


def _curve(gamma: float) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"


def _profile(space: str, kind: str, connection: str, tags: dict[str, bytes]) -> bytes:
    tags = {"wtpt": _xyz(D50), **tags}
    position, table, body = 128 + 4 + 12 * len(tags), b"", b""
    for name, data in tags.items():
        data += bytes(-len(data) % 4)
        table += name.encode() + struct.pack(">II", position + len(body), len(data))
        body += data
    size = position + len(body)
    header = struct.pack(">I4sI", size, b"\0\0\0\0", 0x02400000) + f"{kind}{space}{connection}".encode()
    header += struct.pack(">6H", 2020, 1, 1, 0, 0, 0) + b"acsp" + bytes(28) + struct.pack(">3i", 63190, 65536, 54061)
    return header.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body
