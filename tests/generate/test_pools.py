"""Where stages live is said by their names, and what is said of others is refused."""

import pytest

from tarloom.engines.base import Pool
from tarloom.engines.workers import Workers
from tarloom.errors import UsageError
from tarloom.generate.config import PoolOptions
from tarloom.generate.pools import pools_of


def test_every_stage_but_the_last_lives_apart_with_one_worker():
    assert pools_of(["paint"], PoolOptions()) == {}
    assert pools_of(["rewrite", "paint"], PoolOptions()) == {"rewrite": Pool(workers=Workers(least=1, most=1))}


def test_a_stage_has_what_is_said_of_it():
    options = PoolOptions(stage_workers=("rewrite=1,4",), stage_cpus=("rewrite=0.5",), stage_gpus=("rewrite=0.25",))
    assert pools_of(["rewrite", "paint"], options) == {
        "rewrite": Pool(workers=Workers(least=1, most=4), cpus=0.5, gpus=0.25)
    }


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (PoolOptions(stage_workers=("paint=2",)), "stage_workers 'paint=2': write NAME=NUMBER.*: rewrite"),
        (PoolOptions(stage_cpus=("rewrite",)), "stage_cpus 'rewrite': write NAME=NUMBER"),
        (PoolOptions(stage_gpus=("rewrite=many",)), "stage_gpus: 'many' is no number of 0 or more"),
        (PoolOptions(stage_cpus=("rewrite=-1",)), "stage_cpus: '-1' is no number of 0 or more"),
    ],
)
def test_what_is_said_of_other_stages_or_is_no_number_is_refused(options, said):
    with pytest.raises(UsageError, match=said):
        pools_of(["rewrite", "paint"], options)
