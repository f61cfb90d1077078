"""Command lines generated from the configuration dataclasses: options, defaults and help are declared there, once."""

import contextlib
import dataclasses
import io
import re
from collections.abc import Mapping, Sequence
from functools import cache, partial
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import docstring_parser
import tyro
from tyro.constructors import ConstructorRegistry, StructConstructorSpec, StructFieldSpec, StructTypeInfo

from tarloom.cli.words import PREFIXED, bare_options, named, together
from tarloom.errors import UsageError

Options = TypeVar("Options")
_NO_NUMBER = (
    (
        r"no type matching \{None\}\|(\w+) could be instantiated from \[(.*?)\]\. Got errors: .*",
        r"not of the kind \1: \2",
    ),
    (r"invalid literal for int\(\) with base 10: ", "not of the kind INT: "),
    (r"could not convert string to float: ", "not of the kind FLOAT: "),
)
"""What tyro says of a value that is no number, of an option that may be left out and of others; and what we do."""


def parse(options: type[Options], argv: Sequence[str], *, prog: str, defaults: Mapping[str, Any]) -> Options:
    """Fill `options` from the command line. Option names may be written with "-" or "_".

    defaults: values of a program's own, by field name, at any depth of nesting. Raises UsageError with one line that
    names the wrong option; leaves with SystemExit(0) after --help.
    """
    showing = bool({"-h", "--help"} & set(argv))
    words = ["--help"] if showing else together(options, named(options, argv))
    registry = ConstructorRegistry()
    registry.struct_rule(partial(_describe, root=options, defaults=defaults, showing=showing))
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            return tyro.cli(options, prog=prog, args=words, registry=registry)
    except SystemExit as stop:
        if stop.code in (0, None):
            raise
        raise UsageError(f"{_one_line(complaint.getvalue())}; see {prog} --help") from None


def _describe(
    info: StructTypeInfo, *, root: type, defaults: Mapping[str, Any], showing: bool
) -> StructConstructorSpec | None:
    """How tyro makes one of our dataclasses from options, and what the help says about them.

    showing: it is the help that is wanted, which has what may be a bare word in its usage line.
    """
    if not dataclasses.is_dataclass(info.type):
        return None
    hints = get_type_hints(info.type, include_extras=True)
    bare, described = bare_options(root).values(), []
    for field in dataclasses.fields(info.type):
        default = defaults.get(field.name, _default(field))
        hint = hints[field.name]
        hint = _bare(hint, field.name, showing=showing) if field in bare else _appearing(hint, default)
        described.append(
            StructFieldSpec(
                name=field.name,
                type=_called(field, hint, in_root=info.type is root),
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


def _bare(hint: Any, name: str, *, showing: bool) -> Any:
    """The type of an option that may be a bare word. By then it has its name, which the help shows as left out."""
    if showing:
        return Annotated[hint, tyro.conf.arg(metavar=f"[--{name}] {name.upper()}"), tyro.conf.Positional]
    return Annotated[hint, tyro.conf.arg(metavar=name.upper())]


def _appearing(hint: Any, default: Any) -> Any:
    """The type, and how it is shown. Only what is on by default needs a --no-... to turn it off."""
    shown = Annotated[hint, _appearance(hint, default)]
    return Annotated[shown, tyro.conf.FlagCreatePairsOff] if default is False else shown


def _appearance(hint: Any, default: Any) -> Any:
    """In the help: a group is called by its class (ImageOptions: "image options"); None and False are no defaults to
    show."""
    if dataclasses.is_dataclass(hint):
        kind = re.sub(r"(Options|Config|Stage)$", "", hint.__name__)  # type: ignore[union-attr]
        return tyro.conf.arg(name=kind.lower(), prefix_name=False)
    bare = default is None or default is False or default in ((), "")
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
    parts = (_plain(" ".join(part.split())) for part in re.split(r"─{3,}", text))
    wanted = (part for part in parts if part and not part.startswith(("Argument helptext", "For full helptext")))
    return re.sub(r"\(('[^()]*')\)\.", _choices, "; ".join(wanted))


def _plain(text: str) -> str:
    """Without what Python says of its own types."""
    for pattern, words in _NO_NUMBER:
        text = re.sub(pattern, words, text)
    return text


def _choices(found: re.Match[str]) -> str:
    """What an option may be, as the help has it. Where it may be left out, tyro names None, too, and in any order."""
    names = re.findall(r"'([^']*)'", found[1])
    return ", ".join(sorted(name for name in names if name != "None") if "None" in names else names)
