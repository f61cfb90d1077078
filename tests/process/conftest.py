"""What tests of processing share."""

import pytest


@pytest.fixture
def log(tmp_path):
    """A folder in which stages write down what they were asked."""
    folder = tmp_path / "log"
    folder.mkdir()
    return folder
