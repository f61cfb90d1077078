"""What members are called, whose headers are looked at."""

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from tarloom.read.samples.trust import member_names

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
