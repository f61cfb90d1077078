"""A web of pictures, for the tests of runs that download them."""

import pytest

from source_data.serve import PhotoServer


@pytest.fixture(scope="package")
def server():
    with PhotoServer() as found:
        yield found
