"""What a curated copy is asked to be, declared once: the command line, its help and the plan come from here."""

from dataclasses import dataclass

from tarloom.create.config import CreateConfig, ImageOptions, ListOptions, ShardOptions
from tarloom.errors import UsageError
from tarloom.format.storage import open_storage
from tarloom.read.view import JoinPolicy


@dataclass(frozen=True, kw_only=True)
class KeepConfig:
    """Copy some samples of a dataset, with all that goes with them, to shards of their own."""

    path: str
    """The dataset's folder, local or remote."""
    output: str
    """The folder for the copy, local or s3://, gs://, az://. A run that was interrupted goes on where it stopped."""
    keep_if: str = ""
    """A condition in SQL on columns of metadata and sidecars, such as "clip_score.score > 0.3" or "caption.text = txt";
    txt is the sample's own caption. Samples for which it is not true, or unknown, stay behind."""
    missing: JoinPolicy = "error"
    """What becomes of samples without a row in a sidecar that the condition names; null: nulls. Stale sidecars are
    refused."""
    number_sample_per_shard: int = 10000
    """Samples per shard of the copy."""
    oom_shard_count: int = 5
    """Digits of a shard's name."""

    def check(self) -> None:
        """Raises UsageError for a copy into the dataset itself."""
        source, output = open_storage(self.path), open_storage(self.output)
        if output.lies_in(source) or source.lies_in(output):
            raise UsageError(
                f"output {self.output}: one of it and {self.path} lies in the other; choose another folder"
            )

    def creation(self) -> CreateConfig:
        """The same as shards that are cut anew: all bytes stay as they are."""
        return CreateConfig(
            source=self.path,
            output=self.output,
            lists=ListOptions(input_format="tars"),
            images=ImageOptions(disable_all_reencoding=True),
            sharding=ShardOptions(
                number_sample_per_shard=self.number_sample_per_shard,
                oom_shard_count=self.oom_shard_count,
                compute_hash="none",
            ),
        )
