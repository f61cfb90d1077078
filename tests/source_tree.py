"""What the project's source says of itself: modules, imports and functions, read without running them."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).parents[1]
LIBRARY = ROOT / "tarloom"
PROGRAM_FOLDERS = ("create", "read", "process")


@dataclass(frozen=True)
class Import:
    """One imported module. `lazy`: inside a function, so that it runs when it is needed."""

    module: str
    line: int
    lazy: bool


@dataclass(frozen=True)
class Source:
    """One file of Python."""

    path: Path

    @property
    def name(self) -> str:
        """Its place in the project, for messages: tarloom/format/tar/walk.py."""
        return self.path.relative_to(ROOT).as_posix()

    @property
    def module(self) -> str:
        return ".".join(self.path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.path.read_text(encoding="utf-8"), self.name)

    @cached_property
    def imports(self) -> list[Import]:
        """All imports but those for type checkers alone. `from tarloom.read import pieces` imports both."""
        return list(_imports(self.tree, lazy=False))

    def functions(self) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
        for node in ast.walk(self.tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield node


def library() -> list[Source]:
    return [Source(path) for path in sorted(LIBRARY.rglob("*.py"))]


def programs() -> list[Source]:
    return [Source(path) for folder in PROGRAM_FOLDERS for path in sorted((ROOT / folder).glob("*.py"))]


def _imports(node: ast.AST, *, lazy: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            continue
        if isinstance(child, ast.Import):
            yield from (Import(alias.name, child.lineno, lazy) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            module = child.module or ""
            yield Import(module, child.lineno, lazy)
            yield from (Import(f"{module}.{alias.name}", child.lineno, lazy) for alias in child.names)
        inside = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        yield from _imports(child, lazy=lazy or inside)
