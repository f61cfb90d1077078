"""`tarloom search`: the samples nearest to a text, a picture, or another sample."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tarloom.cli.console import Finished
from tarloom.errors import UsageError
from tarloom.format.storage import split_location

if TYPE_CHECKING:
    from tarloom.process.search.index import Match
    from tarloom.process.search.query import Searcher


@dataclass(frozen=True, kw_only=True)
class Search:
    """Find the samples whose vectors are nearest to a text, a picture or a sample. The index is built on first use."""

    path: str
    """An embedded dataset's folder, an output folder of the batch service, or a parquet file of vectors."""
    text: str | None = None
    """Describe what the pictures should show."""
    image: str | None = None
    """A picture's file, local or s3://, gs://, az://."""
    key: str | None = None
    """Key of a sample; finds samples like it."""
    k: int = 10
    """How many to find."""
    model: str | None = None
    """The model that made the vectors, where they do not say where it is; not needed for --key."""
    name: str = "clip"
    """Name of the sidecars that hold the vectors (SHARD.NAME.parquet)."""
    json: bool = False
    """End stdout with one line of JSON."""

    def execute(self) -> Finished:
        from tarloom.process.search.query import Searcher

        asked = [query for query in (self.text, self.image, self.key) if query is not None]
        if len(asked) > 1:
            raise UsageError("give one of --text, --image and --key")
        if asked and not asked[0].strip():
            raise UsageError("what is searched for is empty; say a text, a picture or a key")
        searcher = Searcher(self.path, name=self.name, model=self.model)
        vectors = {"vectors": len(searcher.index), "dimension": searcher.index.dim}
        if not asked:
            return Finished(title=f"Indexed {self.path}", facts=vectors)
        matches = self._matches(searcher)
        if self.json:
            facts = {**vectors, "matches": [{"score": match.score, **match.values} for match in matches]}
            return Finished(title=f"Nearest to {asked[0]}", facts=facts)
        return Finished(title="", lines=_lines(matches))

    def _matches(self, searcher: "Searcher") -> "list[Match]":
        if self.text is not None:
            return searcher.by_texts([self.text], self.k)[0]
        if self.key is not None:
            return searcher.by_key(self.key, self.k)
        storage, name = split_location(self.image or "")
        if storage.head(name) is None:
            raise UsageError(f"image {self.image}: no such file; give a picture")
        return searcher.by_picture(storage.read(name), self.k)


def _lines(matches: "Sequence[Match]") -> Iterator[str]:
    for match in matches:
        key, *others = (" ".join((value or "").split()) for value in match.values.values())
        yield "  ".join([f"{match.score:.4f}", key, *others]).rstrip()
