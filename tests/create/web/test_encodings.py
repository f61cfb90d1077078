"""Compressed bodies unfold piece by piece, whatever the pieces, and never to more than was asked for."""

import contextlib
import gzip
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tarloom.create.web.encodings import Decoder
from tarloom.errors import FetchError

JPEG = b"\xff\xd8\xff\xe0 a picture, or nearly so " * 40
PLENTY = 1 << 20


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


PACKED = {
    "gzip": gzip.compress(JPEG),
    "x-gzip": gzip.compress(JPEG),
    "GZip, identity": gzip.compress(JPEG),
    "deflate": zlib.compress(JPEG),
    " deflate ": raw_deflate(JPEG),
    "": JPEG,
    "identity": JPEG,
    "utf-8": JPEG,
    "image/jpeg, none": JPEG,
}


def unpack(coding: str, body: bytes, *, piece: int = PLENTY, at_most: int = PLENTY) -> bytes:
    decoder, out = Decoder(coding), b""
    for start in range(0, len(body), piece):
        out += decoder.feed(body[start : start + piece], at_most - len(out))
        if len(out) == at_most:
            return out
    decoder.end()
    return out


@pytest.mark.parametrize("coding", PACKED)
@pytest.mark.parametrize("piece", [1, 7, PLENTY])
def test_a_body_comes_out_as_it_was_before_it_was_packed(coding, piece):
    assert unpack(coding, PACKED[coding], piece=piece) == JPEG


def test_a_picture_that_is_only_called_gzip_is_taken_as_it_is():
    assert unpack("gzip", JPEG) == JPEG


def test_gzip_may_come_in_parts_and_with_something_behind_it():
    assert unpack("gzip", gzip.compress(b"one") + gzip.compress(b"two") + b"\0\0", piece=9) == b"onetwo"


@pytest.mark.parametrize("coding", ["br", "zstd", "compress", "gzip, gzip", "deflate, gzip", "br, gzip"])
def test_what_cannot_be_undone_has_a_name(coding):
    with pytest.raises(FetchError) as failure:
        Decoder(coding)
    assert (failure.value.name, failure.value.transient) == ("unknown_encoding", False)


@pytest.mark.parametrize("coding", ["gzip", "deflate", " deflate "])
def test_a_body_that_ends_early_is_seen(coding):
    with pytest.raises(zlib.error):
        unpack(coding, PACKED[coding][:-9])


def test_an_attack_of_many_empty_parts_is_ended():
    with pytest.raises(zlib.error, match="parts"):
        unpack("gzip", gzip.compress(b"") * 1000)


@given(size=st.integers(1, 200_000), at_most=st.integers(1, 100_000), piece=st.integers(1, 500))
def test_no_more_comes_out_than_is_asked_for(size, at_most, piece):
    out = unpack("gzip", gzip.compress(bytes(size)), piece=piece, at_most=at_most)
    assert out == bytes(min(size, at_most))


@given(coding=st.text(max_size=30), body=st.binary(max_size=300), piece=st.integers(1, 300))
def test_any_bytes_are_a_body_or_fail_by_name(coding, body, piece):
    packed = any(word in coding.lower() for word in ("gzip", "deflate"))
    with contextlib.suppress(FetchError, *[zlib.error] * packed):
        assert unpack(coding, body, piece=piece) == body or packed
