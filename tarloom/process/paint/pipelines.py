"""What a model's pipeline takes, read from its class: nothing is loaded but the model's own list of its parts."""

import inspect
from collections.abc import Mapping
from typing import Any

from tarloom.errors import UsageError, missing_extra
from tarloom.process.models import cannot_load, is_folder, model_location
from tarloom.process.paint.stage import PaintStage

try:
    import diffusers
    from diffusers.utils.logging import disable_progress_bar, set_verbosity_error
except ImportError as error:
    raise missing_extra("diffusers", error) from error

# It draws bars through those of the run, and recommends other packages.
disable_progress_bar()
set_verbosity_error()

OURS = frozenset({"prompt", "generator", "output_type", "return_dict", "num_images_per_prompt", "latents"})
"""Arguments of a pipeline that are not the user's to give."""
_NEEDED = frozenset({"prompt", "generator", "output_type", "num_images_per_prompt"})
_OF_OTHERS = frozenset(
    {"image", "mask_image", "control_image", "controlnet_conditioning_scale", "num_frames", "video_length"}
)
"""Arguments of pipelines that start from pictures, or make videos."""
_IF_THERE_IS_ONE = frozenset(
    {
        "Flux2KleinPipeline",
        "Flux2Pipeline",
        "FluxKontextPipeline",
        "GlmImagePipeline",
        "QwenImage21Pipeline",
        "ZImageOmniPipeline",
    }
)
"""Pipelines that take a picture, but need none."""
_OPTIONS = {"num_inference_steps": "steps", "guidance_scale": "guidance"}
"""Ours, by the pipelines' names."""


def check_pipeline(stage: PaintStage) -> None:
    """Raises UsageError for a model that makes no pictures from texts alone, and for what it cannot be told."""
    index = read_index(stage)
    kind = _named(index.get("_class_name"), stage)
    if not isinstance(kind, type) and stage.trust_remote_code:
        return  # its code comes with it, and is looked at when it is loaded
    if not isinstance(kind, type) or not is_text_to_image(kind):
        raise UsageError(
            f"{stage.model}: {index.get('_class_name')} is no text-to-image pipeline of diffusers; "
            "give a model that makes pictures from a text alone"
        )
    check_told(stage, kind)
    if stage.scheduler is not None:
        _check_scheduler(stage, index)


def read_index(stage: PaintStage) -> Mapping[str, Any]:
    """The model's list of its parts. Raises UsageError."""
    try:
        index: Mapping[str, Any] = diffusers.DiffusionPipeline.load_config(
            model_location(stage.model), revision=stage.revision, local_files_only=is_folder(stage.model)
        )
    except Exception as error:  # of the hub or of whatever the file holds
        raise cannot_load(stage.model, error) from error
    return index


def is_text_to_image(kind: type) -> bool:
    """Whether the pipeline takes a text and makes a picture, as far as its signature says."""
    arguments = arguments_of(kind)
    others = _OF_OTHERS & arguments.keys() - ({"image"} if kind.__name__ in _IF_THERE_IS_ONE else set())
    asks_for = {name for name, default in arguments.items() if default is inspect.Parameter.empty}
    return arguments.keys() >= _NEEDED and not others and asks_for <= {"self", "prompt", "args", "kwargs"}


def arguments_of(kind: type) -> dict[str, Any]:
    """What a pipeline can be called with, by name, and the defaults."""
    parameters = inspect.signature(kind.__call__).parameters
    return {name: parameter.default for name, parameter in parameters.items()}


def check_told(stage: PaintStage, kind: type) -> None:
    """Raises UsageError for options that the pipeline does not have."""
    takes = set(arguments_of(kind)) - OURS
    unknown = [_OPTIONS.get(name, name) for name in stage.told() if name not in takes]
    if unknown:
        raise UsageError(
            f"{stage.model}: {kind.__name__} takes no {', '.join(unknown)}; leave out what does not apply. "
            f"It takes {', '.join(sorted(takes - {'self', 'args', 'kwargs'}))}"
        )


def _named(name: object, stage: PaintStage) -> Any:
    """What diffusers has by this name, imported now; None where there is no such thing. Raises UsageError."""
    try:
        return getattr(diffusers, str(name), None)
    except Exception as error:  # a package that it needs may lack, or be broken
        raise cannot_load(stage.model, error) from error


def _check_scheduler(stage: PaintStage, index: Mapping[str, Any]) -> None:
    """Raises UsageError unless the one that is asked for does with the settings of the model's own."""
    own = (index.get("scheduler") or [None, None])[1]
    compatible = getattr(_named(own, stage), "_get_compatibles", list)
    fitting = sorted(kind.__name__ for kind in compatible())
    if stage.scheduler not in [own, *fitting]:
        raise UsageError(
            f"{stage.model}: the scheduler {stage.scheduler} does not take the place of its {own}; "
            f"it can be {', '.join(fitting) or 'no other'}"
        )
