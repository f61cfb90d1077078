"""A real S3 server for the tests: started once, on loopback, with a bucket in it; stopped when the tests end."""

import os
import subprocess
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import obstore
import pytest
from obstore.store import from_url

SCRIPT = Path(__file__).parents[1] / "scripts" / "s3_server.sh"
BUCKET = "tarloom-tests"
LACKS_SOMETHING = 3


@dataclass(frozen=True, kw_only=True)
class S3Server:
    """Where the server is and how its clients are let in: `environment` is set for as long as the server runs."""

    environment: Mapping[str, str]
    bucket: str

    def folder(self, name: str) -> str:
        """The URL of a folder in the bucket."""
        return f"s3://{self.bucket}/{name}"


@contextmanager
def running_s3_server() -> Iterator[S3Server]:
    """Start the server; skip the tests that want it where this machine lacks what it needs, and say what that is.

    It stops when its stdin ends: also when pytest is killed.
    """
    process = subprocess.Popen(
        [SCRIPT, "run"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    with process:
        environment = dict(_exports(process))
        if not environment:
            _give_up(process)
        try:
            with environment_set(environment):
                make_bucket(BUCKET)
                yield S3Server(environment=environment, bucket=BUCKET)
        finally:
            _stop(process)


@contextmanager
def environment_set(values: Mapping[str, str]) -> Iterator[None]:
    """Environment variables with these values, and with their old ones again afterwards."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def make_bucket(name: str) -> None:
    """Create a bucket: obstore cannot, but it signs the request."""
    url = obstore.sign(from_url(f"s3://{name}"), "PUT", "", timedelta(minutes=1))
    with urllib.request.urlopen(urllib.request.Request(url, method="PUT"), timeout=30):
        pass


def _exports(process: subprocess.Popen[str]) -> Iterator[tuple[str, str]]:
    """The lines `export NAME=VALUE` that the script prints when the server is up; none if it could not start."""
    assert process.stdout is not None
    for line in process.stdout:
        if not line.startswith("export "):
            return
        name, _, value = line.strip().removeprefix("export ").partition("=")
        yield name, value


def _give_up(process: subprocess.Popen[str]) -> None:
    _, errors = process.communicate()
    reason = (errors.strip().splitlines() or ["no reason given"])[-1]
    if process.returncode == LACKS_SOMETHING:
        pytest.skip(f"no S3 server here: {reason}")
    pytest.fail(f"the S3 server did not start:\n{errors}", pytrace=False)


def _stop(process: subprocess.Popen[str]) -> None:
    process.communicate(timeout=240)
    assert process.returncode == 0, f"{SCRIPT} ended with exit code {process.returncode}"
