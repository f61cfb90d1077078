"""Fixtures of the creation tests: the misbehaving web server, and a small folder of real pictures."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from source_data.serve import PhotoServer
from tests.create.helpers import PICTURES


@pytest.fixture(scope="session")
def photo_server() -> Iterator[PhotoServer]:
    with PhotoServer() as server:
        yield server


@pytest.fixture
def pictures(tmp_path) -> Path:
    """Twenty pictures with captions and classes."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(1, 21):
        for path in PICTURES.glob(f"{number:04d}.*"):
            shutil.copy(path, folder)
    return folder
