"""img2dataset's own package fetches and resizes (--downloader img2dataset); its shards are then made ours.

It makes each planned shard in a temporary folder, with its own downloader, resizer and writer. What it made is indexed
and looked through, put into input order, its errors are given our names, and the shard is written and committed like
any other. So runs resume, on any engine, and every output format is there. Rows that it says nothing about fail as
`lost`.

Its connections are its own: it goes to any address, private ones too, and knows no limit of size and no deadline for
the body. That is why `allow_private` must say "all" (check.py).
"""

import contextlib
import fcntl
import itertools
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from tarloom.create.config import CreateConfig
from tarloom.create.img2dataset.named_errors import named_error
from tarloom.create.rows import EncodedPicture, Row, rows_of
from tarloom.create.shards.results import RowResult
from tarloom.create.shards.shard_files import open_shard
from tarloom.create.sources.boxes import BOXES
from tarloom.create.sources.keys import shard_keys
from tarloom.create.tasks import PackerDescription, PackTask
from tarloom.create.web.urls import parse_url
from tarloom.engines.base import Report
from tarloom.errors import FetchError, MissingExtra, UsageError, missing_extra
from tarloom.format.index_load import scan_index
from tarloom.format.layout import metadata_name, numbered_shard, tar_name
from tarloom.format.metadata import SUCCESS
from tarloom.format.parquet import read_table
from tarloom.format.storage import LocalStorage, open_storage

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it would ask a server for its newest version
try:
    from img2dataset.blurrer import BoundingBoxBlurrer
    from img2dataset.downloader import Downloader
    from img2dataset.resizer import Resizer
    from img2dataset.writer import WebDatasetSampleWriter
except ImportError as error:
    if error.name == "img2dataset":
        raise missing_extra("img2dataset", error) from error
    needs = "it needs Python 3.12 or older and the versions that pip install 'tarloom[img2dataset]' gives"
    raise MissingExtra(f"img2dataset cannot be used here: {error}; {needs}") from error

WORKPLACE = "tarloom-img2dataset-"
SHARD = numbered_shard(0)
"""Its name in the temporary folder."""
RESIZING = (
    *("image_size", "resize_mode", "resize_only_if_bigger", "upscale_interpolation", "downscale_interpolation"),
    *("encode_quality", "encode_format", "skip_reencode", "disable_all_reencoding"),
    *("min_image_size", "max_image_area", "max_aspect_ratio"),
)
"""Options of ours that its resizer takes."""


class Img2datasetPacker:
    """Makes shards, one at a time."""

    def __init__(self, description: PackerDescription) -> None:
        """Raises UsageError where there are no URLs to fetch."""
        if description.folder is not None:
            raise UsageError(
                "downloader img2dataset: fetches URLs, and the source is a folder of pictures; leave it out"
            )
        self._config = description.config
        self._schema = description.schema
        self._storage = open_storage(self._config.output)

    def __call__(self, task: PackTask) -> Report:
        """Make one shard and commit its files. Raises StorageError."""
        table = shard_keys(self._config, task.shard, task.first_row).given(task.rows)
        rows = [_checked(row) for row in rows_of(table)]
        fetched = [row for row in rows if row.error is None]
        with _workplace() as folder:
            _download(fetched, folder, self._config)
            made, places = TheirShard(folder, self._config), itertools.count()
            with open_shard(self._storage, self._config, shard=task.shard, rows=table, schema=self._schema) as files:
                for row in rows:
                    files.add(RowResult(row=row, error=row.error) if row.error else made.result(row, next(places)))
                return files.commit()


class TheirShard:
    """A shard as img2dataset left it: rows in the order in which their downloads ended, keys that count from 0."""

    def __init__(self, folder: Path, config: CreateConfig) -> None:
        """Raises CorruptShard where its tar or its parquet is not sound."""
        storage = LocalStorage(str(folder))
        index, extension = scan_index(storage, SHARD), config.images.encode_format
        self._kind = config.sharding.compute_hash
        self._tar = storage.map(tar_name(SHARD))
        self._rows = {int(row["key"]): row for row in read_table(storage, metadata_name(SHARD)).to_pylist()}
        self._pictures: dict[int, tuple[int, int]] = {}
        if extension in index.extensions:
            keys, offsets, sizes = index.keys, index.offsets(extension), index.sizes(extension)
            places = zip(keys.to_pylist(), offsets.to_pylist(), sizes.to_pylist(), strict=True)
            self._pictures = {int(str(key)): (at, size) for key, at, size in places if at is not None and size}

    def result(self, row: Row, place: int) -> RowResult:
        """What became of the row that was its number `place`."""
        found, picture = self._rows.get(place), self._pictures.get(place)
        if found is not None and found["status"] != SUCCESS:
            return RowResult(row=row, error=named_error(found["status"], found["error_message"] or ""))
        if found is None or picture is None:
            return RowResult(row=row, error=FetchError("lost", "img2dataset says nothing about the row"))
        offset, size = picture
        sizes = {name: found[name] for name in ("width", "height", "original_width", "original_height")}
        made = EncodedPicture(data=bytes(self._tar[offset : offset + size]), exif=found.get("exif") or "{}", **sizes)
        return RowResult(row=row, picture=made, digest=found.get(self._kind))


@contextmanager
def _workplace() -> Iterator[Path]:
    """A temporary folder, locked while its worker lives. Those that killed workers have left are removed."""
    for left in Path(tempfile.gettempdir()).glob(f"{WORKPLACE}*/lock"):
        with contextlib.suppress(OSError), open(left, "rb") as lock:  # of a living worker, gone, or another user's
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(left.parent)
    with tempfile.TemporaryDirectory(prefix=WORKPLACE) as folder, open(Path(folder, "new"), "wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        os.rename(Path(folder, "new"), Path(folder, "lock"))  # Not before: others take an open lock for a dead one's.
        yield Path(folder)


def _checked(row: Row) -> Row:
    """The row, as failed where its URL is none that we would fetch: img2dataset would read files of this machine."""
    try:
        parse_url(row.url)
    except FetchError as error:
        return replace(row, error=row.error or error)
    return row


def _download(rows: Sequence[Row], folder: Path, config: CreateConfig) -> None:
    """Let img2dataset make one shard of these rows."""
    columns: dict[str, Any] = {"url": pa.array([row.url for row in rows], pa.string())}
    boxes, wanted = config.lists.bbox_col, config.lists.verify_hash
    if boxes is not None:
        columns[boxes] = pa.array([row.columns[boxes] for row in rows], BOXES)
    if wanted is not None:
        columns[wanted[1]] = pa.array([row.expected_hash for row in rows], pa.string())
    table, path = pa.table(columns), folder / "rows.arrow"
    with pa.ipc.new_file(str(path), table.schema) as writer:
        writer.write_table(table)
    _downloader(config, folder, columns).download_shard((0, str(path)))


def _downloader(config: CreateConfig, folder: Path, columns: Mapping[str, Any]) -> Any:
    images, kind = config.images, config.sharding.compute_hash
    blurrer = None if config.lists.bbox_col is None else BoundingBoxBlurrer()
    return Downloader(
        sample_writer_class=WebDatasetSampleWriter,
        resizer=Resizer(**{name: getattr(images, name) for name in RESIZING}, blurrer=blurrer),
        thread_count=config.web.thread_count,
        save_caption=False,
        extract_exif=images.extract_exif,
        output_folder=str(folder),
        column_list=list(columns),
        timeout=config.web.timeout,
        number_sample_per_shard=config.sharding.number_sample_per_shard,
        oom_shard_count=len(SHARD),
        compute_hash=None if kind == "none" else kind,
        verify_hash_type=config.lists.verify_hash and config.lists.verify_hash[1],
        encode_format=images.encode_format,
        retries=config.web.retries,
        user_agent_token=config.consent.user_agent_token,
        disallowed_header_directives=config.consent.disallowed_header_directives or None,
        blurring_bbox_col=config.lists.bbox_col,
    )
