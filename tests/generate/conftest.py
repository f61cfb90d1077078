"""One generated dataset for all tests that only look at it."""

import pytest

from tests.generate.making import LOST, ROWS, generate, tables


@pytest.fixture(scope="session")
def table(tmp_path_factory):
    return tables(tmp_path_factory.mktemp("tables"))


@pytest.fixture(scope="session")
def whole(table, tmp_path_factory, ray_session):
    """What an uninterrupted run makes on the local engine; not to be written to."""
    folder = tmp_path_factory.mktemp("whole") / "set"
    summary = generate(table, folder)
    assert (summary.rows, summary.successes, summary.shards) == (ROWS, ROWS - len(LOST), 3)
    assert summary.failed_by_error == {"no_match": len(LOST)}
    return folder
