"""Randomly damaged tars, each a function of its seed: what was packed, how it was damaged, what came of it."""

import bz2
import gzip
import io
import lzma
import random
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import zstandard

from tarloom.format.tar.block import BLOCK
from tarloom.format.tar.headers import Member
from tarloom.format.tar.walk import walk

PACKERS: dict[str, Callable[[bytes], bytes]] = {
    ".tar.gz": gzip.compress,
    ".tgz": gzip.compress,
    ".tar.zst": zstandard.ZstdCompressor(write_checksum=True).compress,
    ".tar.bz2": bz2.compress,
    ".tar.xz": lzma.compress,
}
FORMATS = (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)
NUMBERS = ((100, 8), (108, 8), (116, 8), (124, 12), (136, 12), (148, 8))
"""Offsets and lengths of the numeric fields of a header."""


@dataclass(frozen=True, kw_only=True)
class Original:
    """A sound tar, perhaps an odd one."""

    data: bytes
    members: tuple[Member, ...]

    @property
    def headers(self) -> list[int]:
        """Where the plain headers of its regular members lie."""
        return [member.offset - BLOCK for member in self.members]


@dataclass(frozen=True, kw_only=True)
class Case:
    """A damaged tar."""

    kind: str
    data: bytes
    suffix: str
    """What the file is called behind its shard's name."""
    originals: tuple[Original, ...]
    changed: frozenset[int] = field(default_factory=frozenset)
    """Where bytes differ from the only original's, where nothing else does but the end; else empty."""
    is_exact: bool = False
    """Whether names, places and all other bytes must be the original's: `changed`, and where it is cut, are all."""


def make_case(seed: str) -> Case:
    """The case of this seed."""
    rng = random.Random(seed)
    original = make_original(rng)
    kind = rng.choices(list(DAMAGES), [weight for weight, _ in DAMAGES.values()])[0]
    return DAMAGES[kind][1](kind, original, rng)


def make_original(rng: random.Random) -> Original:
    """A tar of some samples in one of the formats, with links, folders and junk among them."""
    file, form = io.BytesIO(), rng.choice(FORMATS)
    with tarfile.open(fileobj=file, mode="w", format=form, pax_headers=_global_headers(form, rng)) as tar:
        for info, data in _entries(rng, long_names=form != tarfile.USTAR_FORMAT):
            tar.addfile(info, io.BytesIO(data))
    data = file.getvalue()
    return Original(data=data, members=tuple(walk(lambda offset, size: data[offset : offset + size], len(data), "x")))


def _global_headers(form: int, rng: random.Random) -> dict[str, str] | None:
    return {"comment": "é" * rng.randrange(300)} if form == tarfile.PAX_FORMAT and rng.random() < 0.2 else None


def _entries(rng: random.Random, *, long_names: bool) -> Iterator[tuple[tarfile.TarInfo, bytes]]:
    folder = rng.choice(["", "", "./", "train/", "a.b/c/", "d" * 90 + "/" if long_names else "d/"])
    for number in range(rng.randrange(1, 7)):
        key = f"{folder}{number:06d}" + ("é" * rng.randrange(1, 80) if long_names and rng.random() < 0.2 else "")
        for extension in rng.sample(["jpg", "TIF", "txt", "seg.png", "cls"], rng.randrange(1, 4)):
            info = tarfile.TarInfo(f"{key}.{extension}")
            data = rng.randbytes(rng.choice([0, 1, 37, 511, 512, 513, 1500, 3000]))
            info.size, info.mtime = len(data), rng.randrange(2**31) + (0.5 if rng.random() < 0.1 else 0)
            yield info, data
        if rng.random() < 0.2:
            odd = tarfile.TarInfo(rng.choice([f"{key}.link", "folder", "README", "__MACOSX/._x.jpg"]))
            odd.type = rng.choice([tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.DIRTYPE, tarfile.REGTYPE])
            odd.linkname = f"{key}.jpg"
            yield odd, b""


def _sound(kind: str, original: Original, rng: random.Random) -> Case:
    return Case(kind=kind, data=original.data, suffix=".tar", originals=(original,), is_exact=True)


def _flipped(kind: str, original: Original, rng: random.Random) -> Case:
    data = bytearray(original.data)
    places = {rng.randrange(len(data)) for _ in range(rng.choice([1, 1, 1, 2, 8]))}
    if rng.random() < 0.5:  # most bytes are data: aim at headers
        places = {rng.choice(original.headers) + rng.randrange(BLOCK) for _ in places}
    for place in places:
        data[place] ^= 1 << rng.randrange(8)
    # Several in one header may leave its sum as it was; and nothing proves what extension headers say.
    spread = len({place // BLOCK for place in places}) == len(places)
    spread = spread and not any(_is_of_extension(original.data, place) for place in places)
    changed = frozenset(places)
    one = (original,)
    return Case(kind=kind, data=bytes(data), suffix=".tar", originals=one, changed=changed, is_exact=spread)


def _is_of_extension(data: bytes, place: int) -> bool:
    """Whether the block in front of this one is the header of an extension."""
    return any(
        data[at + 156 : at + 157] in b"xgLK" for at in _header_blocks(data) if at < place // BLOCK * BLOCK <= at + 1024
    )


def _cut(kind: str, original: Original, rng: random.Random) -> Case:
    at = rng.randrange(len(original.data) // (BLOCK if rng.random() < 0.5 else 1)) * 1
    at = at * BLOCK if rng.random() < 0.3 and at * BLOCK < len(original.data) else at
    return Case(kind=kind, data=original.data[:at], suffix=".tar", originals=(original,), is_exact=True)


def _header_edited(kind: str, original: Original, rng: random.Random) -> Case:
    """Header fields changed, the checksum made right again."""
    data = bytearray(original.data)
    for _ in range(rng.choice([1, 1, 2, 3])):
        start = rng.choice(_header_blocks(original.data))
        block = data[start : start + BLOCK]
        rng.choice(_EDITS)(block, rng)
        if rng.random() < 0.95:
            block[148:156] = b" " * 8
            block[148:156] = b"%06o\0 " % sum(block)
        data[start : start + BLOCK] = block
    return Case(kind=kind, data=bytes(data), suffix=".tar", originals=(original,))


def _header_blocks(data: bytes) -> list[int]:
    """All header blocks, those of extensions too."""
    found = []
    for at in range(0, len(data), BLOCK):
        try:
            tarfile.TarInfo.frombuf(data[at : at + BLOCK], "utf-8", "surrogateescape")
        except tarfile.HeaderError:
            continue
        found.append(at)
    return found


def _edit_number(block: bytearray, rng: random.Random) -> None:
    at, length = rng.choice(NUMBERS)
    values = [rng.randbytes(length), b"%0*o\0" % (length - 1, rng.choice([0, 1, 511, 512, 513, 10_000, 8**7 - 1]))]
    values += [b"\x80" + rng.randrange(4000).to_bytes(length - 1), b"\xff" * length, b" " * length, b"-1".ljust(length)]
    values += [b"\x80" + rng.randbytes(length - 1), bytes(length), b"%*o \0" % (length - 2, rng.randrange(4000))]
    block[at : at + length] = rng.choice(values)[:length]


def _edit_type(block: bytearray, rng: random.Random) -> None:
    block[156:157] = rng.choice(
        [b"0", b"\0", b"1", b"2", b"3", b"5", b"7", b"x", b"g", b"L", b"K", b"S", b"X", b"V", b"?"]
    )


def _edit_name(block: bytearray, rng: random.Random) -> None:
    names = [
        b"",
        b"a.jpg",
        b"/",
        b"a.b/",
        b"\xe9.jpg",
        b"x.__key__",
        rng.randbytes(20),
        b"n" * 100,
        b"000000.jpg",
        b"a\n.b",
    ]
    block[0:100] = rng.choice(names).ljust(100, b"\0")


def _edit_rest(block: bytearray, rng: random.Random) -> None:
    choice = rng.randrange(4)
    if choice == 0:
        block[257:265] = rng.choice([b"ustar\00000", b"ustar  \0", bytes(8), b"ustar\0\0\0"])
    elif choice == 1:
        block[345:500] = rng.choice([b"prefix", rng.randbytes(155), b"a.b/c", b""]).ljust(155, b"\0")
    elif choice == 2:
        block[157:257] = rng.choice([b"000000.jpg", b"..", b"/etc/passwd", b"l" * 100]).ljust(100, b"\0")
    else:
        at = rng.randrange(BLOCK)
        block[at] = rng.randrange(256)


_EDITS: tuple[Callable[[bytearray, random.Random], None], ...] = (
    _edit_number,
    _edit_number,
    _edit_type,
    _edit_name,
    _edit_rest,
)


def _pax_edited(kind: str, original: Original, rng: random.Random) -> Case:
    """An extension header put in front of a member, its records odd or wrong."""
    body = b"".join(_record(rng) for _ in range(rng.randrange(1, 4)))
    if rng.random() < 0.2:
        body = bytearray(body)
        body[rng.randrange(len(body))] = rng.randrange(256)
    blocks = b""
    for _ in range(rng.choice([1, 1, 1, 2])):
        info = tarfile.TarInfo("././@PaxHeader")
        info.type = rng.choice([b"x", b"x", b"x", b"g", b"X", b"L", b"K"])
        info.size = len(body)
        blocks += info.tobuf(tarfile.USTAR_FORMAT) + bytes(body) + bytes(-len(body) % BLOCK)
    at = rng.choice([*_header_blocks(original.data), rng.randrange(len(original.data) // BLOCK) * BLOCK])
    data = original.data[:at] + blocks + original.data[at:]
    return Case(kind=kind, data=data, suffix=".tar", originals=(original,))


def _record(rng: random.Random) -> bytes:
    keyword = rng.choice(
        [b"path", b"path", b"size", b"size", b"linkpath", b"mtime", b"GNU.sparse.major", b"comment", b"hdrcharset"]
    )
    value = rng.choice(
        [
            b"000000.jpg",
            b"new/name.jpg",
            b"",
            b"12",
            b"0",
            b"-5",
            b"1e3",
            b"9" * 25,
            b"caf\xe9.txt",
            b"x/",
            b"a\0b",
            b"BINARY",
        ]
    )
    rest = b" %s=%s\n" % (keyword, value)
    length = len(rest) + len(b"%d" % len(rest))
    length += len(b"%d" % length) - len(b"%d" % len(rest))
    return b"%d%s" % (length + rng.choice([0, 0, 0, 0, 0, 0, 1, -1, 50]), rest)


def _spliced(kind: str, original: Original, rng: random.Random) -> Case:
    """Parts of two archives, in one another or one behind the other."""
    other = make_original(rng)
    unit = BLOCK if rng.random() < 0.8 else 1
    cut = [rng.randrange(len(tar.data) // unit + 1) * unit for tar in (original, other)]
    data = rng.choice(
        [
            original.data + other.data,
            original.data[: cut[0]] + other.data[cut[1] :],
            original.data[: cut[0]] + other.data + original.data[cut[0] :],
            original.data[: cut[0]] + original.data[min(cut) :],
            original.data[: cut[0]] + bytes(rng.choice([1, 512, 1024])) + original.data[cut[0] :],
        ]
    )
    return Case(kind=kind, data=data, suffix=".tar", originals=(original, other))


def _noise(kind: str, original: Original, rng: random.Random) -> Case:
    data = bytearray(original.data)
    at, length = rng.randrange(len(data)), rng.randrange(1, 2000)
    data[at : at + length] = rng.choice([rng.randbytes(length), bytes(length), b"\xff" * length])
    return Case(kind=kind, data=bytes(data), suffix=".tar", originals=(original,))


def _squeezed(kind: str, original: Original, rng: random.Random) -> Case:
    """Compressed, in one stream or two, and the compressed bytes damaged or not."""
    suffix = rng.choice([*PACKERS])
    pack = PACKERS[suffix]
    at = rng.choice([0, rng.randrange(len(original.data))])
    data = bytearray(b"".join(pack(part) for part in (original.data[:at], original.data[at:]) if part))
    damage = rng.randrange(4)
    if damage == 1:
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    elif damage == 2:
        del data[rng.randrange(len(data)) :]
    elif damage == 3:
        data += rng.randbytes(rng.randrange(1, 40))
    return Case(kind=kind, data=bytes(data), suffix=suffix, originals=(original,), is_exact=True)


def _damaged_then_squeezed(kind: str, original: Original, rng: random.Random) -> Case:
    """A tar that was damaged before it was compressed."""
    damaged = rng.choice([_cut, _flipped, _header_edited, _pax_edited, _spliced])(kind, original, rng)
    data = gzip.compress(damaged.data, compresslevel=1)
    return Case(kind=kind, data=data, suffix=".tar.gz", originals=damaged.originals)


DAMAGES: dict[str, tuple[int, Callable[[str, Original, random.Random], Case]]] = {
    "sound": (2, _sound),
    "bits flipped": (20, _flipped),
    "cut": (15, _cut),
    "headers edited": (25, _header_edited),
    "extensions added": (15, _pax_edited),
    "spliced": (10, _spliced),
    "noise": (5, _noise),
    "compressed, then damaged": (10, _squeezed),
    "damaged, then compressed": (5, _damaged_then_squeezed),
}
"""By name: how often, and how."""
