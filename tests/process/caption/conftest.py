"""Fixtures for the tests of captions."""

import pytest


@pytest.fixture
def short_pauses(monkeypatch):
    """The endpoint's pauses, in this process, as short as tests can wait; for its proof a busy machine has enough."""
    from tarloom.process.caption import with_endpoint

    monkeypatch.setattr(with_endpoint, "LONGEST_PAUSE", 0.02)
    monkeypatch.setattr(with_endpoint, "PROOF_SECONDS", 10.0)


@pytest.fixture
def short_proof(short_pauses, monkeypatch):
    """For tests in which nothing is proven: what is waited for does not come."""
    from tarloom.process.caption import with_endpoint

    monkeypatch.setattr(with_endpoint, "PROOF_SECONDS", 0.3)
