"""What members are called, whose headers are looked at."""

import tarfile

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from tarloom.format.tar.block import BLOCK
from tarloom.format.tar.walk import headers_are_of
from tarloom.read.samples.trust import _gives_name, member_names

LETTERS = "aZ0-_/.é\N{SNOWMAN}"
KEYS = st.lists(st.text(LETTERS, min_size=1, max_size=9)) | st.lists(st.text("ab0", min_size=5, max_size=5))


@given(KEYS, st.integers(0, 3), st.data())
def test_members_are_called_by_key_and_extension_however_long_the_keys_are(keys, first, data):
    array = pa.array(keys, pa.string()).slice(first)
    wanted = array.to_pylist()
    flags = st.lists(st.booleans(), min_size=len(wanted), max_size=len(wanted))
    present = {name: np.array(data.draw(flags), np.bool_) for name in ("jpg", "seg.png")}
    names = [f"{key}.{name}".encode() for name, has in present.items() for key in np.array(wanted, object)[has]]
    assert member_names(array, present).tolist() == names


RECORDS = [{}, {"comment": "x path=a.n"}, {"size": "2"}, {"path": "b.n"}, {"comment": "1\n2 path=a.n\n"}, {"gid": "猫"}]


@given(st.text(LETTERS, min_size=90, max_size=110) | st.sampled_from("aé"), st.sampled_from(RECORDS), st.booleans())
def test_what_is_believed_at_once_of_names_in_front_of_headers_a_walk_over_these_finds_too(stem, records, is_gnu):
    info = tarfile.TarInfo(f"{stem}.n")
    info.size, info.pax_headers = 1, records
    *front, block = _blocks(info.tobuf(tarfile.GNU_FORMAT if is_gnu else tarfile.PAX_FORMAT))
    for name in (info.name, "a.n", "b.n", info.name[:-1]):
        believed = _gives_name(b"".join(front), name.encode())
        assert not believed or headers_are_of(b"".join([*front, block]), name=name, size=1)
        assert believed or records or not front or name != info.name


def _blocks(headers: bytes) -> list[bytes]:
    return [headers[at : at + BLOCK] for at in range(0, len(headers), BLOCK)]
