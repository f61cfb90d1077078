"""Values that cannot work together, or at all: found before anything is begun."""

from tarloom.create.config import CreateConfig
from tarloom.errors import UsageError


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
        "host_connections": (web.host_connections, 1),
        "max_shard_retry": (config.resume.max_shard_retry, 0),
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
