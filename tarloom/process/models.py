"""Which model a stage uses: a folder on this machine or a name on the Hugging Face hub, and how it is told apart."""

import hashlib
import re
import textwrap
from pathlib import Path

from tarloom.errors import UsageError

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
_SAMPLE_BYTES = 1 << 20
_DIGEST, _NEWEST = "sha256:", "main"
HUB_SECONDS = 15.0
_REASON_CHARACTERS = 300
"""Of a framework's message: its first line alone often says no more than that there are reasons."""


def is_folder(model: str) -> bool:
    """Whether the model is a folder here, rather than a name on the hub."""
    return Path(model).expanduser().is_dir()


def model_location(model: str) -> str:
    """What loaders are given: the folder's absolute path, so that workers may run elsewhere, or the hub's name."""
    return str(Path(model).expanduser().resolve()) if is_folder(model) else model


def check_model(model: str, *, revision: str | None = None, file: str = "config.json") -> None:
    """Raises UsageError unless the model is a folder with this file, or the hub (or its cache) has that name."""
    if not model:
        raise UsageError("model is empty; give a model folder or a name on the hub")
    if is_folder(model):
        if not Path(model).expanduser().joinpath(file).is_file():
            raise UsageError(f"{model}: no {file} in this folder; give a model folder or a name on the hub")
    elif not _HUB_NAME.fullmatch(model):
        raise UsageError(f"{model}: no such folder, and not a name on the hub; check the model's path")
    else:
        _check_hub(model, revision, file)


def model_identity(model: str, *, revision: str | None = None) -> str:
    """For fingerprints: equal for equal folders, wherever they lie.

    Told apart are names and sizes of files, and the first and last MiB of each: a model's many GB are not read.
    """
    if not is_folder(model):
        return f"{model}@{revision or _NEWEST}"
    digest = hashlib.sha256()
    root = Path(model).expanduser().resolve()
    for path in sorted(path for path in root.rglob("*") if path.is_file() and not _hidden(path, root)):
        size = path.stat().st_size
        digest.update(f"{path.relative_to(root)}\0{size}\0".encode())
        with path.open("rb") as file:
            digest.update(file.read(_SAMPLE_BYTES))
            file.seek(max(_SAMPLE_BYTES, size - _SAMPLE_BYTES))
            digest.update(file.read(_SAMPLE_BYTES))
    return f"{root.name}@{_DIGEST}{digest.hexdigest()[:32]}"


def hub_name(identity: str) -> str | None:
    """Of a model on the hub, by its identity; None for folders."""
    name, _, version = identity.rpartition("@")
    return name if name and version and not version.startswith(_DIGEST) else None


def told_revision(identity: str) -> str | None:
    """Of a model on the hub, by its identity; None for the newest one, and for folders."""
    version = identity.rpartition("@")[2] if "@" in identity else ""
    return None if version in ("", _NEWEST) or version.startswith(_DIGEST) else version


def may_be_the_same(identity: str, other: str) -> bool:
    """Whether two identities can be those of one model: its folder may have any name.

    Of a name on the hub and a folder nobody can tell, nor of the newest revision and one that is named.
    """
    names, versions = zip(*(each.rpartition("@")[::2] for each in (identity, other)), strict=True)
    folders = [version.startswith(_DIGEST) for version in versions]
    if any(folders):
        return not all(folders) or versions[0] == versions[1]
    return names[0] == names[1] and (versions[0] == versions[1] or _NEWEST in versions)


def file_text(given: str) -> str:
    """What a text file holds; the text itself where it cannot be a path. Raises UsageError."""
    if "\n" in given or given.lstrip().startswith("{"):
        return given
    try:
        return Path(given).expanduser().read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise UsageError(f"{given}: cannot be read ({error}); check the path") from error


def cannot_load(model: str, error: Exception | str) -> UsageError:
    """The error to raise where a framework cannot load or use the model."""
    reason = textwrap.shorten(str(error), _REASON_CHARACTERS, placeholder=" ...") or type(error).__name__
    return UsageError(f"{model}: the model cannot be used here: {reason}; check its name or folder")


def _check_hub(model: str, revision: str | None, file: str) -> None:
    try:
        from huggingface_hub import HfApi, try_to_load_from_cache
    except ImportError:
        return  # the worker's framework brings it and will say what is wrong
    try:
        if not isinstance(try_to_load_from_cache(model, file, revision=revision), str):
            HfApi().model_info(model, revision=revision, timeout=HUB_SECONDS)
    except Exception as error:
        raise UsageError(
            f"{model}: no such folder, and no such model could be found on the hub ({type(error).__name__}); "
            "check the path or the name, and the network"
        ) from error


def _hidden(path: Path, root: Path) -> bool:
    return any(part.startswith((".", "__")) for part in path.relative_to(root).parts)
