"""img2dataset's command line, understood: a command of its users runs here as it is.

It is told by its option --url_list. Its options are read as it reads them (Python Fire: "--name value", "--name=value",
"--name" and "--noname" for truth values, values as Python literals) and written as ours; words that it does not know
are left as they are, so that our own options may stand beside. docs/img2dataset.md has the whole table.
"""

import ast
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tarloom.cli.words import option_of
from tarloom.errors import UsageError
from tarloom.format.layout import TAR_SUFFIXES

SIGN = "url_list"
"""The option that only img2dataset has, and always."""
KEYS = ("--key-from", "shard")
"""Its samples are called by their shard and place, which the keys of its users' files already are."""
RENAMED = {SIGN: "source", "output_folder": "output", "processes_count": "num_workers", "distributor": "engine"}
"""Options that have other names here."""
ENGINES = {"multiprocessing": "local", "pyspark": "spark", "ray": "ray"}


def translated(argv: Sequence[str]) -> Sequence[str]:
    """The words of a command line as ours, where they are img2dataset's; else the same words.

    Raises UsageError for what cannot be done here, with the reason.
    """
    named = {_name(word) for word in argv}
    if SIGN not in named:
        return argv
    for theirs, ours in RENAMED.items():
        if {theirs, ours} <= named:
            raise UsageError(f"--{theirs} and {_option(ours)} say the same; give one of them")
    words = list(_each(argv))
    given = {_name(word) for word in words}
    *_, source = (word.partition("=")[2] for word in words if _name(word) == "source")
    if "input_format" not in given and _says_nothing(source):
        words.append("--input-format=txt")  # as it reads whatever it is not told of
    return words if "key_from" in given else [*words, *KEYS]


def _says_nothing(path: str) -> bool:
    """Whether this is a file whose name does not say what it is."""
    from tarloom.create.sources.open import LIST_FORMATS

    name = path.lower().removesuffix(".gz").removesuffix(".zst")
    return os.path.isfile(path) and not path.endswith(TAR_SUFFIXES) and name.rpartition(".")[2] not in LIST_FORMATS


def _each(argv: Sequence[str]) -> Iterator[str]:
    position = 0
    while position < len(argv):
        word = argv[position]
        position += 1
        name, equals, value = _name(word), "=" in word, word.partition("=")[2]
        if name not in _OPTIONS and name.removeprefix("no") in _OPTIONS:
            name, equals, value = name.removeprefix("no"), True, "False"
        if name not in _OPTIONS:
            yield word
            continue
        if not equals:
            follows = position < len(argv) and not argv[position].startswith("--")
            value = argv[position] if follows else "True"
            position += follows
        yield from _OPTIONS[name](name, _literal(value))


def _name(word: str) -> str:
    """The option that a word names, as img2dataset writes it; "" for other words."""
    return option_of(word).replace("-", "_")


def _literal(text: str) -> Any:
    """A value as Fire reads it: a Python literal, else text; words in [a, b] need no quotes."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        inside = text.strip()[1:-1]
        bare = text.strip()[:1] + text.strip()[-1:] in ("[]", "()")
        return _words(inside) if bare else text


def _words(text: str) -> list[str]:
    return [part.strip().strip("'\"") for part in text.split(",")]


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _plain(name: str, value: Any) -> list[str]:
    """One value, or none where it is None."""
    return [] if value is None else [f"{_option(name)}={value}"]


def _flag(name: str, value: Any) -> list[str]:
    return [_option(name)] if _is_true(name, value) else []


def _several(name: str, value: Any) -> list[str]:
    """A list's words; it may stand without brackets, so that one word is a list of itself."""
    if value is None:
        return []
    return [_option(name), *map(str, value if isinstance(value, (list, tuple)) else _words(str(value)))]


def _unflag(name: str, value: Any) -> list[str]:
    return [] if _is_true(name, value) else [f"--no-{name.replace('_', '-')}"]


def _is_true(name: str, value: Any) -> bool:
    """A truth value. Raises UsageError for "false", which to Fire is a text and so true, and to its writer is not."""
    if isinstance(value, str) and value.lower() == "false":
        raise UsageError(f"{name} {value}: img2dataset takes this text for true; write False, or True if it is meant")
    return bool(value)


def _ignored(name: str, value: Any) -> list[str]:
    return []


def _renamed(name: str, value: Any) -> list[str]:
    return _plain(RENAMED[name], value)


@dataclass(frozen=True)
class _Refused:
    """What cannot be done here. A value that asks for nothing (False, None, 0) is let through."""

    reason: str

    def __call__(self, name: str, value: Any) -> list[str]:
        if _is_true(name, value):
            raise UsageError(f"{name}: {self.reason}")
        return []


def _source(name: str, value: Any) -> list[str]:
    if value is None:
        raise UsageError(f"{name}: names nothing; give the list's path")
    return _renamed(name, value)


def _engine(name: str, value: Any) -> list[str]:
    if value not in ENGINES:
        raise UsageError(f"distributor {value!r}: use one of {', '.join(ENGINES)}")
    return _renamed(name, ENGINES[value])


def _input_format(name: str, value: Any) -> list[str]:
    """Ours says nothing of compression: the file's name does."""
    return _plain(name, str(value).removesuffix(".gz"))


def _output_format(name: str, value: Any) -> list[str]:
    if value == "tfrecord":
        raise UsageError("output_format tfrecord: needs TensorFlow; use webdataset, files, parquet or dummy")
    return _plain(name, value)


def _hash(name: str, value: Any) -> list[str]:
    return _plain(name, "none" if value is None else value)


_PLAIN = (
    "image_size resize_mode upscale_interpolation downscale_interpolation encode_quality encode_format url_col "
    "caption_col bbox_col thread_count number_sample_per_shard timeout oom_shard_count retries min_image_size "
    "max_image_area max_aspect_ratio incremental_mode max_shard_retry user_agent_token"
)
_OPTIONS: Mapping[str, Callable[[str, Any], list[str]]] = {
    **dict.fromkeys(_PLAIN.split(), _plain),
    "url_list": _source,
    **dict.fromkeys(("output_folder", "processes_count"), _renamed),
    "distributor": _engine,
    "input_format": _input_format,
    "output_format": _output_format,
    "resize_only_if_bigger": _flag,
    "skip_reencode": _flag,
    "disable_all_reencoding": _flag,
    "extract_exif": _unflag,
    "save_additional_columns": _several,
    "disallowed_header_directives": _several,
    "verify_hash": _several,
    "compute_hash": _hash,
    "subjob_size": _ignored,
    "enable_wandb": _Refused(
        "runs are not sent to Weights & Biases, leave it out; --json and the stats files hold the same figures"
    ),
    "wandb_project": _ignored,
}
"""All options of img2dataset 1.47."""
