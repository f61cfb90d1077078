"""Stages by name: those that come with tarloom, and anybody's own as module:Class.

A class is imported when it is named, and describes itself without a framework.
"""

import importlib
from collections.abc import Mapping
from dataclasses import is_dataclass
from types import MappingProxyType

from tarloom.errors import UsageError
from tarloom.format.sidecar import check_stage_name
from tarloom.process.stage import Stage

BUILT_IN: Mapping[str, str] = MappingProxyType(
    {
        "caption": "tarloom.process.caption.stage:CaptionStage",
        "clip": "tarloom.process.embed.stage:EmbedStage",
        "clip_text": "tarloom.process.embed.stage:EmbedTextStage",
        "clip_score": "tarloom.process.stages.clip_score:ClipScoreStage",
        "aesthetic": "tarloom.process.stages.aesthetic:AestheticStage",
        "hash": "tarloom.process.stages.hash:HashStage",
        "quality": "tarloom.process.stages.quality:QualityStage",
        "rewrite": "tarloom.process.rewrite.stage:RewriteStage",
        "paint": "tarloom.process.paint.stage:PaintStage",
    }
)
"""Where each stage's class is."""


def named_stages(text: str) -> dict[str, type[Stage]]:
    """The classes that "caption,short=caption,mine:Stage" asks for, by the names of their sidecars, in this order.

    Raises UsageError for names that are wrong, unknown, or there twice.
    """
    found: dict[str, type[Stage]] = {}
    for word in filter(None, map(str.strip, text.split(","))):
        name, _, what = word.rpartition("=")
        kind = stage_class(what)
        name = name or kind.name
        check_stage_name(name)
        if name in found:
            raise UsageError(f"stage {name!r} is there twice; name one of them anew: other={what}")
        found[name] = kind
    if not found:
        raise UsageError(f"no stage is named; use {_known()}")
    return found


def stage_class(name: str) -> type[Stage]:
    """The class of a built-in stage, or module:Class. Raises UsageError where there is none."""
    module, colon, attribute = BUILT_IN.get(name, name).partition(":")
    if not colon:
        raise UsageError(f"stage {name!r}: there is none of this name; use {_known()}")
    try:
        kind = getattr(importlib.import_module(module), attribute)
    except Exception as error:  # whatever is wrong with somebody's module
        raise UsageError(f"stage {name!r} cannot be imported: {type(error).__name__}: {error}") from error
    if not (isinstance(kind, type) and issubclass(kind, Stage)):
        raise UsageError(f"stage {name!r} is no subclass of tarloom.process.stage.Stage")
    missing = [*sorted(kind.__abstractmethods__), *(["name"] if not hasattr(kind, "name") else [])]
    if missing or not is_dataclass(kind):
        raise UsageError(f"stage {name!r} is not a whole one: it lacks {', '.join(missing) or '@dataclass'}")
    return kind


def _known() -> str:
    return f"{', '.join(BUILT_IN)}, or module:Class"
