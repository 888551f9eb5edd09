"""Use what a chapter defines, without running its experiments.

A technique is written once, in its chapter. `load_chapter` makes a module of
the chapter's imports, functions, classes and CONSTANTS; nothing else of the
file is executed. The module is importable under `mexutils.book`, so that what
it defines can be pickled to a worker process.
"""

import ast
import functools
import importlib
import importlib.abc
import importlib.machinery
import sys
from collections.abc import Iterator
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

__all__ = ["book_dir", "load_chapter"]

_PACKAGE = "mexutils.book"


def book_dir() -> Path:
    """The folder of the chapters: of the installed package or the checkout."""
    package = Path(__file__).parent
    for folder in (package / "book", package.parent / "book"):
        if (folder / "setting.py").is_file():
            return folder
    raise FileNotFoundError(
        "the chapters are neither inside the package nor beside it: install "
        "mexutils anew, or run from a complete checkout"
    )


def load_chapter(name: str) -> ModuleType:
    """The definitions of a chapter as a module.

    name: the chapter's path below `book/`, without suffix:
    `"attacks/knockoff_nets"`.

    Only imports, functions, classes and assignments to CONSTANTS at the top
    level are executed. A technique that fills several chapters, as `stealml`
    and `stealml_labels`, is found in the first of them: what that does not
    define is taken from those that go on with it.

    Raises `FileNotFoundError` that lists the chapters where there is none of
    that name.
    """
    name = name.removesuffix(".py")
    path = book_dir() / f"{name}.py"
    known = sorted(
        str(p.relative_to(book_dir()).with_suffix("").as_posix())
        for p in book_dir().rglob("*.py")
    )
    if name not in known:
        raise FileNotFoundError(
            f"no chapter is called {name!r} ({path} is absent); there are "
            f"{', '.join(known)}"
        )
    return importlib.import_module(f"{_PACKAGE}.{name.replace('/', '.')}")


class _Definitions(importlib.machinery.SourceFileLoader):
    """Loads a percent script, keeping its definitions alone."""

    def source_to_code(self, data, path, *, _optimize=-1):
        tree = ast.parse(data, filename=path)
        tree.body = [node for node in tree.body if _defines(node)]
        return compile(tree, path, "exec", dont_inherit=True)

    def get_code(self, fullname):  # no .pyc: it would hold half the file
        path = self.get_filename(fullname)
        return self.source_to_code(self.get_data(path), path)

    def exec_module(self, module):
        super().exec_module(module)
        module.__doc__ = _opening(Path(module.__file__))
        module.__getattr__ = functools.partial(_in_what_follows, module)
        module.__dir__ = functools.partial(_all_names, module)


def _opening(path: Path) -> str:
    """The title of a chapter and its first paragraph, where it has them."""
    text = path.read_text(encoding="utf-8").partition("# %% [markdown]\n")[2]
    lines = [line.removeprefix("#").strip() for line in text.splitlines()]
    title, paragraph, *_ = [*"\n".join(lines).split("\n\n"), "", ""]
    return f"{title.removeprefix('# ')}\n\n{paragraph}"


def _what_follows(first: ModuleType) -> Iterator[tuple[str, Any]]:
    """What the chapters `first_...`, which go on with `first`, define."""
    path = Path(first.__file__)
    for other in sorted(path.parent.glob(f"{path.stem}_*.py")):
        module = importlib.import_module(
            f"{first.__name__.removesuffix(path.stem)}{other.stem}"
        )
        for name, found in list(vars(module).items()):
            home = getattr(found, "__module__", None)
            if home == module.__name__ or (name.isupper() and found):
                yield name, found


def _in_what_follows(first: ModuleType, name: str):
    if not name.startswith("_"):  # not what Python asks of every module
        for other, found in _what_follows(first):
            if other == name:
                return found
    stem = Path(first.__file__).stem
    raise AttributeError(f"the chapter {stem} defines no {name!r}")


def _all_names(first: ModuleType) -> list[str]:
    return sorted({*vars(first), *(name for name, _ in _what_follows(first))})


def _defines(node: ast.stmt) -> bool:
    if isinstance(node, ast.Assign):
        return all(_is_constant(target) for target in node.targets)
    if isinstance(node, ast.AnnAssign):
        return node.value is not None and _is_constant(node.target)
    return isinstance(
        node,
        ast.Import
        | ast.ImportFrom
        | ast.FunctionDef
        | ast.AsyncFunctionDef
        | ast.ClassDef,
    )


def _is_constant(target: ast.expr) -> bool:
    if isinstance(target, ast.Tuple):
        return all(map(_is_constant, target.elts))
    return isinstance(target, ast.Name) and target.id.isupper()


class _Finder(importlib.abc.MetaPathFinder):
    """Finds `mexutils.book.<part>.<chapter>`."""

    def find_spec(self, fullname, path=None, target=None):
        if fullname != _PACKAGE and not fullname.startswith(f"{_PACKAGE}."):
            return None
        below = fullname.removeprefix(_PACKAGE).strip(".").replace(".", "/")
        place = book_dir() / below
        if place.is_dir():
            spec = importlib.machinery.ModuleSpec(fullname, None)
            spec.submodule_search_locations = [str(place)]
            return spec
        source = place.with_suffix(".py")
        if not source.is_file():
            return None
        loader = _Definitions(fullname, str(source))
        return spec_from_file_location(fullname, source, loader=loader)


sys.meta_path.insert(0, _Finder())
