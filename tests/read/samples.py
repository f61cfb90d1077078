"""The samples that tests of reading use, and the digest they must have."""

from tarloom.read.digest import Digest
from tests.format.raw import some_samples

ROWS = 40
FAILED = (3, 7)
LONG = "deep/" + "folder-with-a-long-name/" * 6 + "sample"


def odd_samples():
    """What tars in the wild hold: members missing, several dots, upper case, other scripts, long names, no bytes."""
    return [
        ("plain", {"jpg": b"j" * 600, "txt": b"text"}),
        ("only-text", {"txt": b"nothing but text"}),
        ("nested/key", {"jpg": b"k" * 513, "seg.png": b"two dots"}),
        ("nested/upper", {"JPG": b"upper case", "Txt": b"mixed"}),
        ("größe-图", {"jpg": b"not ASCII", "json": b"{}"}),
        (LONG, {"jpg": b"l" * 100, "txt": b""}),
    ]


def digest_of(samples) -> str:
    digest = Digest()
    for key, members in samples:
        for extension, data in members.items():
            digest.add(key, extension.lower(), data)
    return digest.hex


def packed_samples(shards: int):
    """The samples in `packed_dataset(shards=shards, rows=ROWS, failed=FAILED)`."""
    return [s for n in range(shards) for i, s in enumerate(some_samples(ROWS, first=n * ROWS)) if i not in FAILED]
