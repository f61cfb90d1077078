"""Which shards make which file of tables."""

from hypothesis import given
from hypothesis import strategies as st

from tarloom.process.images.tables import Files


@given(st.integers(0, 40), st.integers(1, 12), st.integers(1, 50), st.randoms())
def test_each_shard_is_in_one_file_which_is_written_once_when_its_last_shard_is_through(
    shards, rows_per_shard, rows_per_file, dice
):
    names = [f"{number:05d}" for number in range(shards)]
    files = Files(names, rows_per_shard=rows_per_shard, rows_per_file=rows_per_file)
    through, written = set(), {}
    for name in dice.sample(names, len(names)):
        through.add(name)
        for number, made_of in files.with_shard(name):
            assert through.issuperset(made_of)
            assert number not in written
            written[number] = made_of
    assert [name for number in sorted(written) for name in written[number]] == names
    assert sorted(written) == list(range(len(written)))
    most = max(rows_per_file, rows_per_shard)
    assert all(len(made_of) * rows_per_shard <= most for made_of in written.values())
