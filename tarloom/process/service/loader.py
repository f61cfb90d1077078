"""Where a batch job's samples come from: shards as they lie, or what shards are made from first.

shards     a folder of tars (or one tar), local or in an object store
a source   img2dataset's parquet or another list with URLs (http, s3://, files), or a folder of pictures
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from tarloom.create.config import CreateConfig, ImageOptions, ListOptions, ShardOptions, WebOptions
from tarloom.create.sources.inputs import find_files
from tarloom.create.sources.list_parquet import column_names
from tarloom.engines.base import Report
from tarloom.engines.choose import EngineConfig
from tarloom.errors import UsageError
from tarloom.format.layout import is_shard_file
from tarloom.format.storage import Storage
from tarloom.process.images.creating import Creation
from tarloom.read.dataset import Dataset, open_dataset


@dataclass(frozen=True, kw_only=True)
class InputOptions:
    """How a list is read and its pictures are kept; of no meaning where the input is shards."""

    url_col: str = "url"
    """The list's column that holds the URLs: http(s), s3://, or files."""
    caption_col: str | None = None
    """The list's column that holds the captions; by default `caption` where a parquet has it."""
    key_col: str | None = None
    """The list's column that holds the keys; by default `key` where a parquet has it, else rows are numbered."""
    image_size: int = 512
    """Pictures are kept with their shorter side at most so long: more than models of embeddings see."""
    number_sample_per_shard: int = 1000
    """Rows of the list in each shard."""
    download_workers: int = 4
    """Processes that download and resize, each a shard at a time, beside those that embed."""


class UnifiedDataLoader:
    """Samples of a folder of shards, or of a list of URLs, wherever they lie.

    web: how URLs are fetched. Files below the input's own folder may be named by a list; other places only where
    web.allow_storage has them. Raises UsageError where there is nothing.
    """

    def __init__(self, input_dir: str, *, options: InputOptions | None = None, web: WebOptions | None = None) -> None:
        self.input_dir = input_dir
        self._options, self._web = options or InputOptions(), web or WebOptions()
        self._files, self._is_folder = find_files(input_dir)

    @cached_property
    def is_shards(self) -> bool:
        """Whether the input is shards already."""
        return any(is_shard_file(file.entry.name) for file in self._files)

    @property
    def rows_per_shard(self) -> int:
        """Of a source: how many of its rows become a shard."""
        return self._options.number_sample_per_shard

    def check_apart(self, output: Storage) -> None:
        """Raises UsageError where a source's folder would hold what is made of it, and be another source next time; or
        the shards' own folder, of which no file but theirs is sound."""
        folder = self._files[0].storage
        if output.place == folder.place if self.is_shards else self._is_folder and output.lies_in(folder):
            raise UsageError(f"output {output.url}: lies in the input {folder.url}; choose a folder that does not")

    def list_shards(self) -> list[str]:
        """The addresses of the tars, or of the lists, in the order in which they are read."""
        lists = [file.where for file in self._files if file.extension == "parquet"] or [f.where for f in self._files]
        tars = [file.where for file in self._files if is_shard_file(file.entry.name)]
        return tars or lists

    def dataset(self) -> Dataset:
        """The shards. Raises UsageError where the input is a source that shards are made from first."""
        if not self.is_shards:
            raise UsageError(f"{self.input_dir}: holds no shards; make them first (tarloom create), and load those")
        return open_dataset(self.input_dir)

    def iterate_samples(self) -> Iterator[dict[str, Any]]:
        """Samples of the shards in order: `__key__`, `__url__` (the tar's), members as bytes, and `url` and `caption`
        where the metadata have them. Little of them is in memory at a time."""
        dataset = self.dataset()
        texts = [name for name in ("url", "caption") if name in dataset.columns]
        yield from dataset.select(*dataset.members, *texts)

    def creation(
        self, output: str, *, rows: int | None = None, watch: Callable[[Report], None] = lambda report: None
    ) -> Creation:
        """What makes shards of a source, in a process beside this one; close it after use.

        rows: only the first shards, that hold so many rows of it. watch: called from another thread with the report of
        each shard that is made.
        """
        run_on = EngineConfig(num_workers=self._options.download_workers)
        return Creation(self._create_config(output, rows), run_on, watch)

    def _create_config(self, output: str, rows: int | None) -> CreateConfig:
        options, found = self._options, self._found_columns
        shards = None if rows is None else f"0:{-(-rows // options.number_sample_per_shard)}"
        return CreateConfig(
            source=self.input_dir,
            output=output,
            lists=ListOptions(
                url_col=options.url_col,
                caption_col=options.caption_col or found.get("caption"),
                key_from=options.key_col or found.get("key", "row"),
            ),
            images=ImageOptions(
                image_size=options.image_size,
                resize_mode="keep_ratio",
                resize_only_if_bigger=True,
                skip_reencode=True,
            ),
            web=self._allowed,
            sharding=ShardOptions(number_sample_per_shard=options.number_sample_per_shard, shards=shards),
        )

    @property
    def _allowed(self) -> WebOptions:
        """A list may name the files of its own folder, or bucket's folder."""
        storage = self._files[0].storage
        own = () if self.input_dir.startswith(("http://", "https://", "hf://")) else (storage.url,)
        return WebOptions(**{**vars(self._web), "allow_storage": (*self._web.allow_storage, *own)})

    @property
    def _found_columns(self) -> dict[str, str]:
        """Of img2dataset's columns, those that the first parquet list has."""
        first = next((file for file in self._files if file.extension == "parquet"), None)
        names = [] if first is None else column_names(first)
        return {name: name for name in ("caption", "key") if name in names}
