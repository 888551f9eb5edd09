"""What the run of a chapter stands on, as a key.

It is `mexutils.keys` for a whole script: the code of its cells, and all that
they reach of libraries, helpers and other chapters.
"""

import ast
import hashlib
import io
import re
import sys
import threading
import tokenize
from collections.abc import Iterator, Set
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from mexutils import chapters, keys
from mexutils.keys import Reading, code_digest, short_digest

SHOWING = {"mexutils.claims", "mexutils.notebook", "mexutils.plotting"}
"""How a result is shown changes nothing that is measured."""
HELPERS = Path(keys.__file__).parent
SETUP = "ce86b2a8ed41fc308b0c12d24893c9469d21a3fa91ca4fc5406f06fd3ca41954"
"""What a chapter's first cell counts as, whatever it says or installs.

It looks for mexutils, which was there when the chapter ran. The number is the
digest of the cell that every chapter began with when this was decided, so that
no result became stale by it.
"""


def chapter_key(name: str) -> str:
    """The key of what the run of a chapter stands on.

    name: the chapter's path below `book/`, as in `load_chapter`.

    That is the code of its cells, and which cell it stands in, with all that
    it uses of libraries, helpers and other chapters. The experiments of those
    do not count, nor does what the chapter leaves unused.

    The chapters are read from their files as they are now. The helpers,
    `mexutils`, count as this process has imported them.

    A chapter that cannot be read as Python, or imported, gets a key of the
    bytes of all chapters and helpers. Raises `FileNotFoundError` that lists
    the chapters where there is none of that name.
    """
    return _chapter(name, ast.NodeTransformer())


def measurement_key(name: str) -> str:
    """`chapter_key`, but for the ranges that the claims must lie in.

    What a chapter measures does not stand on the `low`, `high` and `paper`
    of its `claims.add(...)`, nor on how its figures and tables look.
    """
    return _chapter(name, _WithoutRanges(), aside=SHOWING)


class _WithoutRanges(ast.NodeTransformer):
    """Leaves a claim its name and what was measured."""

    def visit_Call(self, node: ast.Call) -> ast.Call:
        self.generic_visit(node)
        if ast.unparse(node.func) == "claims.add":
            node.keywords = [
                keyword
                for keyword in node.keywords
                if keyword.arg not in ("low", "high", "paper")
            ]
        return node


def _chapter(
    name: str, change: ast.NodeTransformer, aside: Set[str] = frozenset()
) -> str:
    """The key of a chapter's changed code, but for the modules left aside."""
    path = chapters.book_dir() / f"{name.removesuffix('.py')}.py"
    with _chapters_as_they_are():
        if not path.is_file():
            chapters.load_chapter(name)  # says which there are
        try:
            cells = _cells(path.read_text(), change)
            defined = {
                name: value
                for name, value in vars(chapters.load_chapter(name)).items()
                if _home(value) not in aside
            }
            return short_digest(_read_cells(cells, defined))
        except Exception:  # whatever a broken chapter raises
            return short_digest(_bytes_of_all(name))


def _home(value) -> str | None:
    """The module that a value is, or stands in."""
    if isinstance(value, ModuleType):
        return value.__name__
    return getattr(value, "__module__", None)


@contextmanager
def _chapters_as_they_are() -> Iterator[None]:
    """Chapters are imported anew within; after it, all is as it was."""

    def loaded() -> list[str]:
        # A copy: another thread may import something meanwhile.
        return [n for n in list(sys.modules) if f"{n}.".startswith(_PACKAGE)]

    with _LOCK:
        before = {name: sys.modules.pop(name) for name in loaded()}
        try:
            yield
        finally:
            for name in loaded():
                del sys.modules[name]
            sys.modules.update(before)


_PACKAGE = "mexutils.book."
_LOCK = threading.Lock()


def _bytes_of_all(name: str) -> bytes:
    """A digest of every script that a chapter might use, and its name."""
    digest = hashlib.sha256(name.encode())
    for folder in (chapters.book_dir(), HELPERS):
        for path in sorted(folder.rglob("*.py")):
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.digest()


@dataclass
class _Cell:
    """A cell of code: its statements, and what makes a notebook of them.

    magics: comments that jupytext turns into commands, as `# %pip install`.
    last: the last word; a semicolon there hides the cell's value.
    """

    line: int
    is_code: bool
    statements: list[ast.stmt] = field(default_factory=list)
    magics: list[str] = field(default_factory=list)
    last: str = ""


def _cells(text: str, change: ast.NodeTransformer) -> list[_Cell]:
    """The cells of code of a percent script, with changed statements."""
    cells = [_Cell(0, True)]
    silent = (tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT)
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        border = re.match(r"# ?%%(.*)", token.line)
        if token.type != tokenize.COMMENT:
            if token.type not in silent and token.string:
                cells[-1].last = token.string
        elif border and token.start[1] == 0:
            other = re.search(r"\[(markdown|md|raw)\]", border[1])
            cells.append(_Cell(token.start[0], not other))
        elif re.match(r"# ?[%!]\w", token.string):
            cells[-1].magics.append(token.string)
    for statement in change.visit(ast.parse(text)).body:
        around = [cell for cell in cells if cell.line <= statement.lineno]
        around[-1].statements.append(statement)
    if not cells[0].statements:
        del cells[0]
    return [cell for cell in cells if cell.is_code]


def _read_cells(cells: list[_Cell], defined: dict[str, Any]) -> bytes:
    """A digest of the cells and of what they use of what is imported.

    What the chapter itself defines stands in its cells.
    """
    imported = {
        alias.asname or alias.name.partition(".")[0]
        for cell in cells
        for statement in cell.statements
        for node in ast.walk(statement)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    known = {
        name: value
        for name, value in defined.items()
        if name in imported or isinstance(value, ModuleType)
    }
    reading = Reading()
    for cell in cells:
        about = (len(cell.statements), cell.magics, cell.last == ";")
        reading.put("cell", repr(about))
        for code in _compiled(cell.statements):
            is_setup = _is_setup(cell.statements)
            reading.put("code", SETUP if is_setup else code_digest(code))
            reading.uses(code, known)
    return reading.result().encode()


def _is_setup(statements: list[ast.stmt]) -> bool:
    """Whether a cell does nothing but look for mexutils."""
    match statements:
        case [ast.Try(body=[ast.Import(names=[ast.alias("mexutils")])])]:
            return True
    return False


def _compiled(statements: list[ast.stmt]) -> Iterator[CodeType]:
    """The code of a cell; its last expression, which is shown, apart."""
    shown = None
    if statements and isinstance(statements[-1], ast.Expr):
        *statements, shown = statements
    yield compile(ast.Module(statements, []), "cell", "exec")
    if shown is not None:
        yield compile(ast.Expression(shown.value), "cell", "eval")
