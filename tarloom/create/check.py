"""Values that cannot work together, or at all: found before anything is begun."""

import importlib.util

from tarloom.create.config import CreateConfig, ImageOptions
from tarloom.errors import UsageError, missing_extra


def check_options(config: CreateConfig) -> None:
    """Raise UsageError for values that cannot work together, or at all."""
    if not config.source or not config.output:
        raise UsageError(f"{'output' if config.source else 'source'} is empty; name a place")
    _check_least(config)
    _check_images(config.images)
    _check_hashes(config)
    _check_downloader(config)
    if not config.web.timeout > 0:
        raise UsageError(f"timeout must be more than 0 seconds, not {config.web.timeout}")
    if not config.web.host_rate > 0:
        raise UsageError(f"host_rate must be more than 0 requests per second, not {config.web.host_rate}")
    for name, text in (("user_agent", config.web.user_agent), ("user_agent_token", config.consent.user_agent_token)):
        if text is not None and not text.isprintable():
            raise UsageError(f"{name} must be one line of text, not {text!r}")


def _check_least(config: CreateConfig) -> None:
    images, web, sharding = config.images, config.web, config.sharding
    at_least = {
        "image_size": (images.image_size, 1),
        "max_pixels": (images.max_pixels, 1),
        "retries": (web.retries, 0),
        "max_wait": (web.max_wait, 0),
        "thread_count": (web.thread_count, 1),
        "max_bytes": (web.max_bytes, 1),
        "max_redirects": (web.max_redirects, 0),
        "host_connections": (web.host_connections, 1),
        "max_shard_retry": (config.resume.max_shard_retry, 0),
        "number_sample_per_shard": (sharding.number_sample_per_shard, 1),
        "oom_shard_count": (sharding.oom_shard_count, 1),
    }
    for name, (value, least) in at_least.items():
        if not value >= least:
            raise UsageError(f"{name} must be at least {least}, not {value}")


def _check_images(images: ImageOptions) -> None:
    if images.resize_mode != "no" and images.image_size**2 > images.max_pixels:
        raise UsageError(f"image_size {images.image_size}: its square is more than max_pixels, {images.max_pixels}")
    best = 9 if images.encode_format == "png" else 100
    if not 0 <= images.encode_quality <= best:
        raise UsageError(f"encode_quality of {images.encode_format} is 0 to {best}, not {images.encode_quality}")


def _check_hashes(config: CreateConfig) -> None:
    """What is to be verified must be computed, and what is to be blurred decoded."""
    wanted = config.lists.verify_hash
    if wanted is not None and wanted[1] != config.sharding.compute_hash:
        raise UsageError(f"verify_hash {wanted[1]}: compute_hash is {config.sharding.compute_hash}; name the same")
    if config.lists.bbox_col is not None and config.images.disable_all_reencoding:
        raise UsageError("bbox_col: nothing is decoded with disable_all_reencoding, so nothing could be blurred")


IMG2DATASET_LACKS = (
    "user_agent host_connections host_rate max_redirects max_bytes max_wait robots_txt tdm_reservation allow_storage "
    "max_pixels"
)
"""Options of fetching, and of guarding against pictures, that img2dataset does not have."""


def _check_downloader(config: CreateConfig) -> None:
    """Nothing may be asked of img2dataset that it cannot do, it goes anywhere, and its package must be there."""
    if config.downloader != "img2dataset":
        return
    for group in (config.web, config.consent, config.images):
        for name in vars(group).keys() & set(IMG2DATASET_LACKS.split()):
            if getattr(group, name) != getattr(type(group)(), name):
                raise UsageError(f"{name}: img2dataset cannot do that; leave it out, or the downloader")
    if config.lists.key_from == "content":
        raise UsageError("key_from content: img2dataset does not tell the bytes that it fetched; choose another")
    if config.lists.input_format in ("images", "tars"):
        raise UsageError(
            f"input_format {config.lists.input_format}: img2dataset fetches URLs; leave the downloader out"
        )
    if "all" not in config.web.allow_private:
        raise UsageError("downloader img2dataset: goes to private addresses too; say so with allow_private all")
    if importlib.util.find_spec("img2dataset") is None:
        raise missing_extra("img2dataset", ImportError(name="img2dataset"))
