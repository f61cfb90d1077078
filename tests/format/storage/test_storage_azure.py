"""Storage in Azure's blob storage keeps the storages' promises, and a dataset there is the one on local disk."""

import subprocess
import sys
import uuid

import obstore
import pytest
from obstore.store import from_url

import tarloom
from tarloom.errors import StorageError
from tarloom.format.storage import open_storage
from tarloom.format.storage.client import object_store
from tests.azure_server import running_azure_server
from tests.format.storage.storage_contract import StorageContract, assert_clear
from tests.source_tree import ROOT


@pytest.fixture(scope="module")
def container(tmp_path_factory):
    with running_azure_server(tmp_path_factory.mktemp("azure")) as url:
        yield url


@pytest.fixture
def folder(container):
    return f"{container}/{uuid.uuid4().hex}"


class TestAzureStorage(StorageContract):
    @pytest.fixture
    def storage(self, folder):
        return open_storage(folder)

    @pytest.fixture
    def put_raw(self, folder):
        return lambda name, data: obstore.put(from_url(folder), name, data)


@pytest.mark.parametrize("call", ["list", "read", "write"])
def test_an_absent_container_is_named(container, call):
    with pytest.raises(StorageError, match="no such bucket") as caught:
        {
            "list": lambda storage: list(storage.list()),
            "read": lambda storage: storage.read("a"),
            "write": lambda storage: storage.write("a", b""),
        }[call](open_storage("az://tarloom-has-no-such-container/folder"))
    assert_clear(caught.value, "az://tarloom-has-no-such-container/folder")


@pytest.mark.parametrize(
    ("key", "said"), [("d3Jvbmc=", "check the credentials"), (None, "set AZURE_STORAGE_ACCOUNT_NAME")]
)
def test_wrong_credentials_and_none_are_one_clear_line(folder, monkeypatch, key, said):
    if key is None:
        monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_NAME")
    else:
        monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", key)
    object_store.cache_clear()
    with pytest.raises(StorageError, match=said) as caught:
        list(open_storage(folder).list())
    assert_clear(caught.value, folder)
    object_store.cache_clear()


def test_a_dataset_is_created_indexed_read_and_verified_there(folder, tmp_path):
    for place in (folder, str(tmp_path / "set")):
        words = ["--source", str(ROOT / "source_data" / "pictures"), "--output", place, "--image-size", "64"]
        subprocess.run([sys.executable, ROOT / "create" / "create_webdataset.py", *words], check=True)
    here, there = open_storage(str(tmp_path / "set")), open_storage(folder)
    assert there.read("00000.tar") == here.read("00000.tar")
    foreign = open_storage(f"{folder}-foreign")
    foreign.write("a.tar", there.read("00000.tar"))
    keys = [sample["__key__"] for sample in tarloom.open(str(tmp_path / "set"))]
    for _ in range(2):  # the second time by the index that the first has left there
        assert [sample["__key__"] for sample in tarloom.open(f"{folder}-foreign")] == keys
    for name in ("set", ""):
        words = ["verify", "--path", str(tmp_path / name) if name else folder]
        subprocess.run([sys.executable, "-m", "tarloom.cli", *words], check=True, stdout=subprocess.DEVNULL)
