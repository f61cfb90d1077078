"""Ray Data's own read_webdataset, with the options that make it right: for comparison, and for those who use it.

Its decoders are off (they leave .jpeg and .webp as bytes, turn text into numbers and know pickle); extensions are made
lower-case and files that belong to no sample left out, as webdataset and all readers here do. It cannot split a tar,
so more workers than shards are of no use. Object stores are read through our storage.
"""

import tarfile
from collections.abc import Iterator
from functools import partial
from typing import Any, NoReturn

import pyarrow as pa
from pyarrow.fs import FileInfo, FileSelector, FileSystemHandler, FileType, LocalFileSystem, PyFileSystem

from tarloom.engines.ray_datasets import quiet_data, root_cause
from tarloom.engines.ray_session import first_line
from tarloom.errors import CorruptShard, EngineError, StorageError, UsageError, missing_extra
from tarloom.format.layout import compression_of
from tarloom.format.storage import Entry, Storage
from tarloom.format.storage.streams import open_stream
from tarloom.format.tar.walk import is_of_a_sample
from tarloom.read.dataset import Dataset
from tarloom.read.ray.data import tallies
from tarloom.read.ray.session import session
from tarloom.read.scan import ScanConfig, Tallier, Tally

try:
    import ray.data
except ImportError as error:
    raise missing_extra("ray", error) from error

__all__ = ["check", "read_webdataset", "scan", "session"]

_SCHEME = "tarloom+"
_DAMAGE = (tarfile.TarError, ValueError, EOFError)
"""What read_webdataset raises over a damaged tar."""


def check(dataset: Dataset) -> None:
    """Raises UsageError for compressed tars, and where more is asked than members as they are."""
    view = dataset.view
    asked = {"columns": view.columns, "where": view.where, "decode": view.decode, "on_error": view.on_error != "raise"}
    beyond = ", ".join(name for name, value in asked.items() if value)
    if beyond:
        raise UsageError(
            f"read_webdataset reads members of tars as they are, without {beyond}; use the reader ray_data"
        )
    compressed = next((shard.tar.name for shard in dataset.shards if compression_of(shard.tar.name)), None)
    if compressed is not None:
        raise UsageError(f"read_webdataset reads plain tars only, not {compressed}; use the reader ray_data")


def read_webdataset(dataset: Dataset) -> ray.data.Dataset:
    """ray.data.read_webdataset over the dataset's shards: rows of `__key__`, `__url__` and members as bytes.

    Raises UsageError as check does.
    """
    check(dataset)
    storage = dataset.catalog.storage
    local = storage.is_local
    urls = [storage.describe(shard.tar.name) for shard in dataset.shards]
    return ray.data.read_webdataset(
        urls if local else [f"{_SCHEME}{url}" for url in urls],
        filesystem=LocalFileSystem() if local else PyFileSystem(StorageHandler(storage)),
        decoder=None,
        filerename=_lower_extension,
        fileselect=is_of_a_sample,
        suffixes=None if dataset.selected is None else dataset.members.__contains__,
        override_num_blocks=len(urls),
    )


def scan(dataset: Dataset, config: ScanConfig, tallier: Tallier) -> Iterator[Tally]:
    """Tallies of blocks, counted in the tasks that read them."""
    try:
        rows = read_webdataset(dataset)  # which looks for the files
        with quiet_data(known=(*_DAMAGE, OSError)):
            yield from tallies(rows, partial(_tally_frame, tallier), batch_format="pandas", workers=config.num_workers)
    except (EngineError, OSError) as error:
        cause = root_cause(error)
        if isinstance(cause, OSError):
            message = f"{config.path}: read_webdataset cannot open one of its shards ({first_line(cause)})"
            raise StorageError(f"{message}; check that it is there and may be read") from error
        if not isinstance(cause, _DAMAGE):
            raise
        message = f"{config.path}: read_webdataset cannot read one of its shards ({first_line(cause)})"
        raise CorruptShard(f"{message}; find it with: tarloom verify {config.path}") from error


def _lower_extension(name: str) -> str:
    folder, slash, base = name.rpartition("/")
    stem, dot, extension = base.partition(".")
    return f"{folder}{slash}{stem}{dot}{extension.lower()}"


def _tally_frame(tallier: Tallier, frame: Any) -> pa.Table:
    """Of a pandas frame; a member that a sample lacks is NaN there."""
    rows = ({name: value for name, value in row.items() if value == value} for row in frame.to_dict("records"))
    return pa.Table.from_batches([tallier.merged(tallier.of_samples(rows, every=len(frame) + 1)).to_batch()])


class StorageHandler(FileSystemHandler):
    """What Ray needs of pyarrow's file systems, over a storage: read-only, small and picklable.

    Paths are URLs with a scheme of our own in front: Ray would put a file system of its own in place of one that it
    does not know for s3:// or for no scheme. Ray takes schemes off before it asks for files.
    """

    def __init__(self, storage: Storage) -> None:
        super().__init__()
        self._storage = storage

    def get_type_name(self) -> str:
        return "tarloom"

    def normalize_path(self, path: str) -> str:
        return path

    def get_file_info(self, paths: str | list[str]) -> FileInfo | list[FileInfo]:
        return self._info(paths) if isinstance(paths, str) else [self._info(path) for path in paths]

    def get_file_info_selector(self, selector: FileSelector) -> list[FileInfo]:
        entries = self._storage.list(self._name(selector.base_dir))
        return [FileInfo(self._path(entry), type=FileType.File, size=entry.size) for entry in entries]

    def open_input_stream(self, path: str) -> pa.PythonFile:
        entry = self._storage.head(self._name(path))
        if entry is None:
            raise FileNotFoundError(path)
        return pa.PythonFile(open_stream(self._storage, entry), mode="r")

    def open_input_file(self, path: str) -> pa.PythonFile:
        return self.open_input_stream(path)

    def _refuse(self, *args: object, **options: object) -> NoReturn:
        raise NotImplementedError("shards are only read here")

    copy_file = create_dir = delete_dir = delete_dir_contents = delete_file = delete_root_dir_contents = _refuse
    move = open_append_stream = open_output_stream = _refuse

    def _name(self, path: str) -> str:
        return path.rpartition("://")[2].removeprefix(self._storage.url.partition("://")[2]).strip("/")

    def _path(self, entry: Entry) -> str:
        return f"{_SCHEME}{self._storage.describe(entry.name)}"

    def _info(self, path: str) -> FileInfo:
        """Whatever is no file is a folder: Ray asks for the folder of the shards too."""
        entry = self._storage.head(self._name(path)) if self._name(path) else None
        if entry is None:
            return FileInfo(path, type=FileType.Directory)
        return FileInfo(path, type=FileType.File, size=entry.size)
