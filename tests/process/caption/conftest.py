"""Fixtures for the tests of captions."""

import pytest


@pytest.fixture
def short_pauses(monkeypatch):
    """The endpoint's pauses, in this process, as short as tests can wait."""
    from tarloom.process.caption import with_endpoint

    monkeypatch.setattr(with_endpoint, "LONGEST_PAUSE", 0.02)
    monkeypatch.setattr(with_endpoint, "PROOF_SECONDS", 0.3)
