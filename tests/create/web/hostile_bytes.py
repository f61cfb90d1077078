"""The bytes that a hostile server sends: pictures, answers and bombs."""

import io
import itertools
import struct
import zlib
from collections.abc import Iterator
from functools import cache

from PIL import Image

from tests.source_tree import ROOT


@cache
def picture() -> bytes:
    return min((ROOT / "source_data" / "pictures").glob("*.jpg")).read_bytes()


def answer(body: bytes = b"", *headers: str, status: str = "200 OK", length: int | str | None = None) -> bytes:
    """A whole answer. `length`: what is announced, "" for nothing, else what is true."""
    lines = [f"HTTP/1.1 {status}", *headers]
    if length != "":
        lines.append(f"Content-Length: {len(body) if length is None else length}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def gzipped(data: bytes) -> bytes:
    packer = zlib.compressobj(9, wbits=31)
    return packer.compress(data) + packer.flush()


def bomb(encoding: str, wbits: int) -> Iterator[bytes]:
    first, block = _blocks(wbits)
    head = answer(b"", f"Content-Encoding: {encoding}", length="")
    return itertools.chain([head, first], itertools.repeat(block, 99))


@cache
def _blocks(wbits: int) -> tuple[bytes, bytes]:
    """Of 10 and 100 MB once they are unfolded. The second may be repeated: it does not depend on what came before."""
    packer = zlib.compressobj(9, wbits=wbits)
    first, second = (packer.compress(bytes(10**7)) + packer.flush(zlib.Z_FULL_FLUSH) for _ in range(2))
    return first, 10 * second


def encoded(kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.effect_noise((64, 64), 50).save(buffer, kind)
    return buffer.getvalue()


def png_of_size(width: int, height: int) -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(name, data) for name, data in chunks)


def jpeg_of_size(width: int, height: int) -> bytes:
    """A small JPEG whose header claims another size."""
    data = encoded("JPEG")
    place = data.index(b"\xff\xc0") + 5
    return data[:place] + struct.pack(">HH", height, width) + data[place + 4 :]


def jpeg_of_many_scans(scans: int) -> bytes:
    """A small progressive JPEG whose last scan comes again and again."""
    buffer = io.BytesIO()
    Image.new("L", (2000, 2000), 128).save(buffer, "JPEG", progressive=True)
    data = buffer.getvalue()
    last, end = data.rindex(b"\xff\xda"), data.rindex(b"\xff\xd9")
    return data[:end] + data[last:end] * scans + data[end:]
