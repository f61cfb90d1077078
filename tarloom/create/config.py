"""What a creation run is asked to do, declared once: the command line, its help and the plan all come from here.

Names and defaults are img2dataset's where it has the option. `shaping_options` says which of them decide the bytes of
the output: they are written into the plan, and a resumed run must have the same.
"""

import json
from dataclasses import dataclass, field
from typing import Literal

from tarloom import __version__
from tarloom.errors import UsageError

ResizeMode = Literal["border", "no", "keep_ratio", "keep_ratio_largest", "center_crop"]
EncodeFormat = Literal["jpg", "png", "webp"]
Hash = Literal["sha256", "none"]
InputFormat = Literal["auto", "images", "txt", "csv", "tsv", "json", "jsonl", "parquet"]


@dataclass(frozen=True, kw_only=True)
class ListOptions:
    """How the source is read."""

    input_format: InputFormat = "auto"
    """What the source is: "images" is a folder of pictures, the others are URL lists (each also .gz or .zst)."""
    url_col: str = "url"
    """The list's column that holds the URLs."""
    caption_col: str | None = None
    """The list's column that holds the captions, if it has one."""
    save_additional_columns: tuple[str, ...] = ()
    """Other columns of the list to keep in the metadata."""


@dataclass(frozen=True, kw_only=True)
class ImageOptions:
    """How pictures are checked, resized and encoded."""

    image_size: int = 256
    """Pixels of the side that the resize mode refers to."""
    resize_mode: ResizeMode = "border"
    """border: fit into a square and pad with white; no: leave the size; keep_ratio: shorter side to image_size;
    keep_ratio_largest: longer side to image_size; center_crop: keep_ratio, then cut the middle square."""
    resize_only_if_bigger: bool = False
    """Leave pictures alone that are not bigger than image_size."""
    encode_format: EncodeFormat = "jpg"
    """Format of the pictures in the shards."""
    encode_quality: int = 95
    """JPEG and WebP: 0 to 100. PNG: compression level, 0 to 9."""
    min_image_size: int = 0
    """Pictures whose shorter side is smaller fail as too_small."""
    max_image_area: float = float("inf")
    """Pictures of more pixels fail as area_too_large."""
    max_aspect_ratio: float = float("inf")
    """Pictures whose longer side is more than this many times the shorter fail as aspect_ratio_too_large."""
    max_pixels: int = 178_956_970
    """Never decode a picture of more pixels than this, whatever its file's size (too_many_pixels)."""


@dataclass(frozen=True, kw_only=True)
class WebOptions:
    """How URLs are fetched. One deadline holds for the whole of a try: look-up, connection, headers and body."""

    timeout: float = 10
    """Seconds that one try may take, body included."""
    retries: int = 2
    """Further tries after a failure that may pass (docs/errors.md)."""
    max_wait: float = 10
    """The longest pause between two tries in seconds, whatever a server's Retry-After says."""
    thread_count: int = 64
    """Downloads in flight per worker."""
    max_bytes: int = 64 * 1024 * 1024
    """A body longer than this fails as too_large; no more than this of it is read."""
    max_redirects: int = 10
    """Redirects followed before a row fails as too_many_redirects."""
    allow_private: tuple[str, ...] = ()
    """Networks that are not public but may be fetched from, such as 127.0.0.0/8 or 10.1.2.3; "all" for any."""
    user_agent: str = f"tarloom/{__version__}"
    """How the run introduces itself to web servers."""


@dataclass(frozen=True, kw_only=True)
class ShardOptions:
    """How the output is cut into shards."""

    number_sample_per_shard: int = 10000
    """Input rows per shard."""
    oom_shard_count: int = 5
    """Digits of a shard's name."""
    compute_hash: Hash = "sha256"
    """Hash of the fetched bytes to keep in the metadata."""
    shards: str | None = None
    """Make only shards A up to, but without, B of the plan: "A:B", each end optional."""


@dataclass(frozen=True, kw_only=True)
class CreateConfig:
    """Make WebDataset shards from a folder of pictures or a list of URLs."""

    source: str
    """A folder of pictures (with .txt, .cls and .json beside them), or a URL list: txt, csv, tsv, json, jsonl (each
    also .gz or .zst) or parquet; a file, a folder of them or a glob; local or s3://, gs://, az://."""
    output: str
    """The folder for the shards, local or s3://, gs://, az://. A run that was interrupted goes on where it stopped."""
    lists: ListOptions = field(default_factory=ListOptions)
    images: ImageOptions = field(default_factory=ImageOptions)
    web: WebOptions = field(default_factory=WebOptions)
    sharding: ShardOptions = field(default_factory=ShardOptions)


def shaping_options(config: CreateConfig) -> dict[str, str]:
    """The options that decide the output's bytes, as JSON texts by name. Timeouts and the like are not among them."""
    groups = (config.lists, config.images, config.sharding)
    options = {name: value for group in groups for name, value in vars(group).items() if name != "shards"}
    options["max_bytes"] = config.web.max_bytes
    return {name: json.dumps(value) for name, value in sorted(options.items())}


def check_options(config: CreateConfig) -> None:
    """Raise UsageError for values that cannot work together, or at all."""
    images, web, sharding = config.images, config.web, config.sharding
    if not config.source or not config.output:
        raise UsageError(f"{'output' if config.source else 'source'} is empty; name a place")
    best = 9 if images.encode_format == "png" else 100
    at_least = {
        "image_size": (images.image_size, 1),
        "max_pixels": (images.max_pixels, 1),
        "retries": (web.retries, 0),
        "max_wait": (web.max_wait, 0),
        "thread_count": (web.thread_count, 1),
        "max_bytes": (web.max_bytes, 1),
        "max_redirects": (web.max_redirects, 0),
        "number_sample_per_shard": (sharding.number_sample_per_shard, 1),
        "oom_shard_count": (sharding.oom_shard_count, 1),
    }
    for name, (value, least) in at_least.items():
        if not value >= least:
            raise UsageError(f"{name} must be at least {least}, not {value}")
    if images.resize_mode != "no" and images.image_size**2 > images.max_pixels:
        raise UsageError(f"image_size {images.image_size}: its square is more than max_pixels, {images.max_pixels}")
    if not web.timeout > 0:
        raise UsageError(f"timeout must be more than 0 seconds, not {web.timeout}")
    if not web.user_agent.isprintable():
        raise UsageError(f"user_agent must be one line of text, not {web.user_agent!r}")
    if not 0 <= images.encode_quality <= best:
        raise UsageError(f"encode_quality of {images.encode_format} is 0 to {best}, not {images.encode_quality}")
