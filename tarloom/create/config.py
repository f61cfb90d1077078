"""What a creation run is asked to do, declared once: the command line, its help and the plan all come from here.

Names and defaults are img2dataset's where it has the option. `shaping_options` says which of them decide the bytes of
the output: they are written into the plan, and a resumed run must have the same.
"""

import json
from dataclasses import dataclass, field
from typing import Literal

from tarloom import __version__

ResizeMode = Literal["border", "no", "keep_ratio", "keep_ratio_largest", "center_crop"]
EncodeFormat = Literal["jpg", "png", "webp"]
Interpolation = Literal["nearest", "linear", "bilinear", "cubic", "bicubic", "area", "lanczos", "lanczos4"]
Hash = Literal["md5", "sha256", "sha512", "none"]
InputFormat = Literal["auto", "images", "tars", "txt", "csv", "tsv", "json", "jsonl", "parquet"]
OutputFormat = Literal["webdataset", "files", "parquet", "dummy"]


@dataclass(frozen=True, kw_only=True)
class ListOptions:
    """How the source is read."""

    input_format: InputFormat = "auto"
    """What the source is: "images" is a folder of pictures, "tars" are shards to repack, the others are URL lists (each
    also .gz or .zst)."""
    url_col: str = "url"
    """The list's column that holds the URLs."""
    caption_col: str | None = None
    """The list's column that holds the captions, if it has one."""
    save_additional_columns: tuple[str, ...] = ()
    """Other columns of the list to keep in the metadata."""
    bbox_col: str | None = None
    """The list's column that holds boxes to blur, each [left, top, right, bottom] from 0 to 1; kept in the metadata."""
    verify_hash: tuple[str, str] | None = None
    """Check every downloaded body: COLUMN KIND, the list's column of hashes and their kind (md5, sha256 or sha512; must
    equal --compute-hash). A mismatch fails the row as hash_mismatch."""
    key_from: str = "row"
    """Where keys come from. row: the row's number in the list (for a folder of pictures, the path; for shards, the old
    key). shard: shard number plus row number in it, as img2dataset. url, content: a hash of either. Anything else: the
    column of that name, of the list or of the shards' metadata."""
    dedup_urls: bool = False
    """Fetch each URL once: later rows that have it too fail as duplicate_url."""


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
    upscale_interpolation: Interpolation = "lanczos"
    """How pictures are made bigger."""
    downscale_interpolation: Interpolation = "area"
    """How pictures are made smaller."""
    encode_format: EncodeFormat = "jpg"
    """Format of the pictures in the shards."""
    encode_quality: int = 95
    """JPEG and WebP: 0 to 100. PNG: compression level, 0 to 9."""
    skip_reencode: bool = False
    """Keep a picture's bytes where it has the wanted format already and need not be resized."""
    disable_all_reencoding: bool = False
    """Keep all bytes as they come: nothing is decoded, checked or resized."""
    extract_exif: bool = True
    """Keep EXIF tags in the metadata."""
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
    allow_storage: tuple[str, ...] = ()
    """Folders and buckets whose files a list may name as URLs, such as /data/pictures or s3://bucket/pictures."""
    user_agent: str = f"tarloom/{__version__}"
    """How the run introduces itself to web servers."""
    host_connections: int = 32
    """Requests to one host at once, per worker."""
    host_rate: float = float("inf")
    """Requests to one host per second, per worker."""


@dataclass(frozen=True, kw_only=True)
class ConsentOptions:
    """Which wishes of the owners are heeded. Rows that must not be used fail as opted_out."""

    disallowed_header_directives: tuple[str, ...] = ("noai", "noimageai", "noindex", "noimageindex")
    """Directives of the X-Robots-Tag header that forbid the use of a picture."""
    user_agent_token: str | None = None
    """The name by which robots.txt and X-Robots-Tag may address this run; it is added to the user agent."""
    robots_txt: bool = False
    """Ask each host's robots.txt first (RFC 9309)."""
    tdm_reservation: bool = False
    """Refuse pictures whose owner reserves text and data mining (TDMRep)."""


@dataclass(frozen=True, kw_only=True)
class ShardOptions:
    """How the output is cut into shards."""

    number_sample_per_shard: int = 10000
    """Input rows per shard; of shards that are repacked, samples."""
    oom_shard_count: int = 5
    """Digits of a shard's name."""
    output_format: OutputFormat = "webdataset"
    """webdataset: tar shards; files: a folder of files per shard; parquet: pictures in the metadata; dummy: none."""
    compute_hash: Hash = "sha256"
    """Hash of the fetched bytes to keep in the metadata."""
    shards: str | None = None
    """Make only shards A up to, but without, B of the plan: "A:B", each end optional."""


@dataclass(frozen=True, kw_only=True)
class ResumeOptions:
    """How a run goes on from an earlier one. Nothing here shapes the output."""

    incremental_mode: Literal["incremental", "overwrite", "extend"] = "incremental"
    """incremental: do what is not done yet; overwrite: delete the output's shards, and their sidecars, first (not to
    go on with such a run); extend: add shards for this source behind those that are there."""
    retry_failed: Literal["transient", "all"] | None = None
    """Fetch failed rows of finished shards again, those whose failure may pass or all, and make these shards anew."""
    max_shard_retry: int = 2
    """Further tries of a shard that this machine or its storage could not make."""


@dataclass(frozen=True, kw_only=True)
class CreateConfig:
    """Make WebDataset shards from a folder of pictures or a list of URLs."""

    source: str
    """A folder of pictures (with .txt, .cls and .json beside them), or a URL list: txt, csv, tsv, json, jsonl (each
    also .gz or .zst) or parquet; or shards to repack (docs/format.md); a file, a folder of them or a glob; local or
    s3://, gs://, az://, hf://; one list also http(s)://."""
    output: str
    """The folder for the shards, local or s3://, gs://, az://. A run that was interrupted goes on where it stopped."""
    downloader: Literal["tarloom", "img2dataset"] = "tarloom"
    """Who fetches and resizes; img2dataset's shards are then checked and completed."""
    lists: ListOptions = field(default_factory=ListOptions)
    images: ImageOptions = field(default_factory=ImageOptions)
    web: WebOptions = field(default_factory=WebOptions)
    consent: ConsentOptions = field(default_factory=ConsentOptions)
    sharding: ShardOptions = field(default_factory=ShardOptions)
    resume: ResumeOptions = field(default_factory=ResumeOptions)


def shaping_options(config: CreateConfig) -> dict[str, str]:
    """The options that decide the output's bytes, as JSON texts by name. Timeouts and the like are not among them."""
    groups = (config.lists, config.images, config.consent, config.sharding)
    options = {name: value for group in groups for name, value in vars(group).items() if name != "shards"}
    options |= {"max_bytes": config.web.max_bytes, "downloader": config.downloader}
    return {name: json.dumps(value) for name, value in sorted(options.items())}
