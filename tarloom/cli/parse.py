"""Command lines generated from the configuration dataclasses: options, defaults and help are declared there, once."""

import contextlib
import dataclasses
import io
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence, Set
from functools import cache, partial
from itertools import pairwise
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import docstring_parser
import tyro
from tyro.constructors import ConstructorRegistry, StructConstructorSpec, StructFieldSpec, StructTypeInfo

from tarloom.errors import UsageError

Options = TypeVar("Options")
PREFIXED = "prefixed"
"""In a field's metadata: the options of this group are called --NAME.option, by this name; others by their own."""


def parse(options: type[Options], argv: Sequence[str], *, prog: str, defaults: Mapping[str, Any]) -> Options:
    """Fill `options` from the command line. Option names may be written with "-" or "_".

    defaults: values of a program's own, by field name, at any depth of nesting. Raises UsageError with one line that
    names the wrong option; leaves with SystemExit(0) after --help.
    """
    registry = ConstructorRegistry()
    registry.struct_rule(partial(_describe, root=options, defaults=defaults))
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            return tyro.cli(options, prog=prog, args=_together(options, argv), registry=registry)
    except SystemExit as stop:
        if stop.code in (0, None):
            raise
        raise UsageError(f"{_one_line(complaint.getvalue())}; see {prog} --help") from None


def value_of(option: str, words: Sequence[str]) -> str | None:
    """What these words give the option, before it is known which others there are; the last time counts."""
    found = None
    for number, word in enumerate(words):
        _, equals, value = word.partition("=")
        if f"--{option_of(word)}" == option:
            found = value if equals else next(iter(words[number + 1 :]), None)
    return found


def option_of(word: str) -> str:
    """The name of the option that a word of the command line begins with, as we write it; "" for other words."""
    return word.partition("=")[0][2:].replace("_", "-") if word.startswith("--") else ""


def options_in(words: Sequence[str]) -> set[str]:
    """The options that these words give; --no-x gives x, too."""
    return {option_of(word).removeprefix("no-") for word in words} - {""}


def without(options: Set[str], words: Sequence[str]) -> list[str]:
    """The words but for these options and their values."""
    return [word for group in _by_option(words) if not options & options_in(group[:1]) for word in group]


def options_of(kind: type, prefix: str = "") -> Iterator[tuple[str, "dataclasses.Field[Any]", Any]]:
    """All options, at any depth of nesting: names with what stands in front of them, fields, and types."""
    hints = get_type_hints(kind)
    for field in dataclasses.fields(kind):
        if dataclasses.is_dataclass(hints[field.name]):
            inner = f"{field.metadata[PREFIXED]}." if PREFIXED in field.metadata else prefix
            yield from options_of(hints[field.name], inner)
        else:
            yield prefix + field.name, field, hints[field.name]


def _together(options: type, words: Sequence[str]) -> list[str]:
    """The words, with all values of a list behind its name, once, where it is given several times."""
    lists = {name.replace("_", "-") for name, _, hint in options_of(options) if _is_list(hint)}
    groups = _by_option(words)
    times = Counter(option_of(group[0]) for group in groups)
    found, values = list[str](), defaultdict[str, list[str]](list)
    for first, *others in groups:
        name = option_of(first)
        if name not in lists or times[name] == 1:
            found += [first, *others]
        else:  # what stands behind "=" is all that it is given
            _, equals, value = first.partition("=")
            values[name] += [value] if equals else others
            found += others if equals else []
    return [*found, *(word for name, given in values.items() for word in (f"--{name}", *given))]


def _by_option(words: Sequence[str]) -> list[Sequence[str]]:
    """The words, cut in front of every option; what stands before the first is alone."""
    begins = [0, *(number for number, word in enumerate(words) if word.startswith("--"))]
    return [words[begin:end] for begin, end in pairwise([*begins, len(words)]) if begin < end]


def _is_list(hint: Any) -> bool:
    """Whether any number of values are given: tuple[str, ...], or that or None."""
    return Ellipsis in get_args(hint) or any(Ellipsis in get_args(kind) for kind in get_args(hint))


def _describe(info: StructTypeInfo, *, root: type, defaults: Mapping[str, Any]) -> StructConstructorSpec | None:
    """How tyro makes one of our dataclasses from options, and what the help says about them."""
    if not dataclasses.is_dataclass(info.type):
        return None
    hints = get_type_hints(info.type, include_extras=True)
    described = []
    for field in dataclasses.fields(info.type):
        default = defaults.get(field.name, _default(field))
        described.append(
            StructFieldSpec(
                name=field.name,
                type=_called(field, _appearing(hints[field.name], default), in_root=info.type is root),
                default=default,
                helptext=partial(_help, info.type, field.name),  # only asked for when it is shown
            )
        )
    return StructConstructorSpec(instantiate=info.type, fields=tuple(described))


def _help(options: type, field: str) -> str | None:
    return " ".join(_docstrings(options).get(field, "").split()) or None


@cache
def _docstrings(options: type) -> dict[str, str]:
    """What stands below each field, read from the source of the class and of those it is made from."""
    found: dict[str, str] = {}
    for kind in (each for each in reversed(options.__mro__) if dataclasses.is_dataclass(each)):
        found |= {item.arg_name: item.description or "" for item in docstring_parser.parse_from_object(kind).params}
    return found


def _default(field: "dataclasses.Field[Any]") -> Any:
    """The field's default. Nested options have their own, field by field: a program may differ in some of them."""
    if field.default is not dataclasses.MISSING:
        return field.default
    return tyro.MISSING_NONPROP


def _called(field: "dataclasses.Field[Any]", hint: Any, *, in_root: bool) -> Any:
    """The type, and whether options below this field of the whole command bear its name."""
    if PREFIXED in field.metadata:
        return Annotated[hint, tyro.conf.arg(name=field.metadata[PREFIXED])]
    return Annotated[hint, tyro.conf.OmitArgPrefixes] if in_root else hint


def _appearing(hint: Any, default: Any) -> Any:
    """The type, and how it is shown. Only what is on by default needs a --no-... to turn it off."""
    shown = Annotated[hint, _appearance(hint, default)]
    return Annotated[shown, tyro.conf.FlagCreatePairsOff] if default is False else shown


def _appearance(hint: Any, default: Any) -> Any:
    """In the help: a group is called by its class (ImageOptions: "image options"); None is not shown as a default."""
    if dataclasses.is_dataclass(hint):
        kind = re.sub(r"(Options|Config|Stage)$", "", hint.__name__)  # type: ignore[union-attr]
        return tyro.conf.arg(name=kind.lower(), prefix_name=False)
    bare = default is None or default in ((), "") or isinstance(default, bool)
    return tyro.conf.arg(metavar=_metavar(hint), help_behavior_hint="" if bare else None)


def _metavar(hint: Any) -> str | None:
    """How the help writes the values of an option that may be left out: without the None that stands for that."""
    kinds = get_args(hint)
    if type(None) not in kinds:
        return None
    (kind,) = (each for each in kinds if each is not type(None))
    if get_origin(kind) is Literal:
        return f"{{{','.join(get_args(kind))}}}"
    return " ".join(each.__name__.upper() for each in get_args(kind) or (kind,))


def _one_line(boxes: str) -> str:
    """tyro's complaint without its frames and hints, and without the options' help, which it indents deepest."""
    boxes = "\n".join(line for line in boxes.splitlines() if not line.startswith(f"│{9 * ' '}"))
    text = re.sub(r"[╭╮╰╯│]|─ [A-Z][a-z ]+ ─+|\x1b\[[0-9;]*m", " ", boxes)
    parts = (" ".join(part.split()) for part in re.split(r"─{3,}", text))
    wanted = (part for part in parts if part and not part.startswith(("Argument helptext", "For full helptext")))
    return "; ".join(wanted)
