"""A real server of Azure's blob storage for the tests (Microsoft's Azurite), on loopback, with a container in it.

npm installs it once below the user's cache; nothing is installed beside, and no root is needed.
"""

import base64
import hashlib
import hmac
import os
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import formatdate
from pathlib import Path

import pytest

from tests.s3_server import environment_set

PACKAGE = "azurite@3.35.0"
CONTAINER = "tarloom-tests"
ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""Those of every Azurite, published by Microsoft."""
UP = "successfully listens on "


@contextmanager
def running_azure_server(folder: Path) -> Iterator[str]:
    """Keeps its state in a folder; yields the container's URL. AZURE_* in the environment lead to it meanwhile.

    Skips the tests that want it where this machine has no npm, or npm no registry.
    """
    words = [_installed(), "--location", folder, "--blobPort", "0", "--silent", "--disableTelemetry"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    with process:
        try:
            assert process.stdout is not None
            endpoint = next(line for line in process.stdout if UP in line).split(UP)[1].strip()
            _make_container(endpoint)
            names = {"ACCOUNT_NAME": ACCOUNT, "ACCOUNT_KEY": KEY, "ENDPOINT": f"{endpoint}/{ACCOUNT}"}
            environment = {f"AZURE_STORAGE_{name}": value for name, value in names.items()}
            with environment_set(environment | {"AZURE_ALLOW_HTTP": "true"}):
                yield f"az://{CONTAINER}"
        finally:
            process.terminate()


def _installed() -> Path:
    """The server's program."""
    place = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"), "tarloom", PACKAGE)
    program = place / "node_modules" / ".bin" / "azurite-blob"
    if not program.exists():
        if shutil.which("npm") is None:
            pytest.skip("no Azure server here: npm, which installs Azurite, is missing")
        words = ["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", place, PACKAGE]
        done = subprocess.run(words, capture_output=True, text=True, timeout=240)
        if done.returncode:
            pytest.skip(f"no Azure server here: npm could not install {PACKAGE}: {done.stderr[-200:]}")
    return program


def _make_container(endpoint: str) -> None:
    """Which obstore cannot. Signed as learn.microsoft.com/rest/api/storageservices/authorize-with-shared-key says."""
    headers = {"x-ms-date": formatdate(time.time(), usegmt=True), "x-ms-version": "2021-08-06"}
    signed = "".join(f"{name}:{value}\n" for name, value in headers.items())
    text = "PUT" + 12 * "\n" + signed + f"/{ACCOUNT}/{ACCOUNT}/{CONTAINER}\nrestype:container"
    signature = base64.b64encode(hmac.digest(base64.b64decode(KEY), text.encode(), hashlib.sha256)).decode()
    url = f"{endpoint}/{ACCOUNT}/{CONTAINER}?restype=container"
    allowed = {"Authorization": f"SharedKey {ACCOUNT}:{signature}", "Content-Length": "0"}
    with urllib.request.urlopen(urllib.request.Request(url, method="PUT", headers=headers | allowed), timeout=30):
        pass
