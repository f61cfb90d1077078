"""docs/img2dataset.md tells of every option of img2dataset 1.47, and what it says of ours is so."""

import dataclasses
import json
import re

import pytest

from tarloom.create.config import CreateConfig
from tarloom.engines.choose import EngineConfig
from tests.interop.conftest import IMG2DATASET
from tests.peers import peer_python, run_python
from tests.source_tree import ROOT

DEFAULTS = {
    "url_list": None, "image_size": 256, "output_folder": "images", "processes_count": 1, "resize_mode": "border",
    "resize_only_if_bigger": False, "upscale_interpolation": "lanczos", "downscale_interpolation": "area",
    "encode_quality": 95, "encode_format": "jpg", "skip_reencode": False, "output_format": "files",
    "input_format": "txt", "url_col": "url", "caption_col": None, "bbox_col": None, "thread_count": 256,
    "number_sample_per_shard": 10000, "extract_exif": True, "save_additional_columns": None, "timeout": 10,
    "enable_wandb": False, "wandb_project": "img2dataset", "oom_shard_count": 5, "compute_hash": "sha256",
    "verify_hash": None, "distributor": "multiprocessing", "subjob_size": 1000, "retries": 0,
    "disable_all_reencoding": False, "min_image_size": 0, "max_image_area": float("inf"),
    "max_aspect_ratio": float("inf"), "incremental_mode": "incremental", "max_shard_retry": 1,
    "user_agent_token": None, "disallowed_header_directives": None,
}  # fmt: skip
"""img2dataset 1.47's options."""

TABLE = re.findall(
    r"^\| `(\w+)` \| (?:`([^`]*)`)? ?\| ([^|]*) \|", (ROOT / "docs/img2dataset.md").read_text(), re.MULTILINE
)
TEXT = (ROOT / "docs/img2dataset.md").read_text()


def our_defaults() -> dict[str, object]:
    """Of all options of a creation run, by name."""
    config, found = CreateConfig(source="s", output="o"), {}
    for item in dataclasses.fields(config):
        value = getattr(config, item.name)
        found |= vars(value) if dataclasses.is_dataclass(value) else {item.name: value}
    return found | vars(EngineConfig())


def test_the_table_has_each_option_once():
    assert sorted(name for name, _, _ in TABLE) == sorted(DEFAULTS)


def test_the_list_of_options_is_img2datasets():
    code = (
        "import inspect, json, img2dataset; found = inspect.signature(img2dataset.download).parameters.values();"
        "print(json.dumps({p.name: None if p.default is p.empty else p.default for p in found}))"
    )
    printed = run_python(peer_python(IMG2DATASET), "-c", code, NO_ALBUMENTATIONS_UPDATE="1")
    assert json.loads(printed.splitlines()[-1]) == DEFAULTS


@pytest.mark.parametrize(("name", "default", "here"), TABLE, ids=[row[0] for row in TABLE])
def test_a_row_of_the_table_is_so(name, default, here):
    ours = our_defaults()
    if DEFAULTS[name] is not None:
        assert default == str(DEFAULTS[name])
    if here == "same":
        value = ours[name]
        shown = " ".join(value) if isinstance(value, tuple) else str(value)
        assert (shown or "None") == default
    elif here.startswith("better: "):
        assert here.removeprefix("better: `--").removesuffix("`").replace("-", "_") in ours
    elif here == "better":
        assert name in ours
    else:
        assert here in ("refused", "not needed")
        assert name not in ours


def test_options_that_it_names_are_there():
    named = {word.replace("-", "_") for word in re.findall(r"`--([a-z0-9_-]+)", TEXT)}
    assert named - DEFAULTS.keys() - {"json", "help"} <= our_defaults().keys()
