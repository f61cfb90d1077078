"""The digest that readers are compared by."""

import hashlib

from hypothesis import given, settings
from hypothesis import strategies as st

from tarloom.read.digest import Digest

SAMPLES = st.lists(st.tuples(st.text(max_size=8), st.sampled_from(["jpg", "txt"]), st.binary(max_size=20)), max_size=8)


def digest_of(samples) -> str:
    digest = Digest()
    for key, member, data in samples:
        digest.add(key, member, data)
    return digest.hex


def test_it_is_the_sum_of_the_hashes_of_length_prefixed_key_and_member_and_the_bytes():
    text = (1).to_bytes(8, "little") + b"k" + (3).to_bytes(8, "little") + b"jpg" + b"bytes"
    one = int.from_bytes(hashlib.blake2b(text, digest_size=16).digest(), "little")
    assert digest_of([("k", "jpg", b"bytes")]) == f"{one:032x}"
    assert digest_of([("k", "jpg", b"bytes")] * 3) == f"{3 * one % 2**128:032x}"


@settings(deadline=None)
@given(SAMPLES, st.randoms(use_true_random=False))
def test_order_does_not_matter(samples, random):
    shuffled = random.sample(samples, len(samples))
    assert digest_of(shuffled) == digest_of(samples)


@settings(deadline=None)
@given(SAMPLES, st.integers(0, 8))
def test_the_digests_of_two_parts_add_up_to_that_of_the_whole(samples, cut):
    part, rest = Digest.from_hex(digest_of(samples[:cut])), Digest.from_hex(digest_of(samples[cut:]))
    part.merge(rest)
    assert part.hex == digest_of(samples)


@settings(deadline=None)
@given(SAMPLES.filter(bool))
def test_a_lost_doubled_or_changed_sample_shows(samples):
    key, member, data = samples[0]
    others = [
        digest_of(samples[1:]),
        digest_of([*samples, samples[0]]),
        digest_of([(key, member, data + b"x"), *samples[1:]]),
    ]
    assert digest_of(samples) not in others


def test_bytes_cannot_move_between_key_member_and_data():
    assert len({digest_of([("ab", "c", b"d")]), digest_of([("a", "bc", b"d")]), digest_of([("a", "b", b"cd")])}) == 3
