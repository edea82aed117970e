"""The house rules that a reader relies on, held by reading the source.

import-linter (in `make lint`) holds the floors; this holds what it cannot see: sizes, docstrings,
names that are banned in pure floors even when they come in through the back door, iteration over
sets, and that every public thing says what it is.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src" / "quoit"
FILES = sorted(SOURCE.rglob("*.py"))
OTHERS = sorted([*(ROOT / "tests").rglob("*.py"), *(ROOT / "benchmarks").rglob("*.py")])
PURE = (
    "base", "quorum", "raft", "paxos", "placement", "wire", "detector", "storage", "data", "node",
)  # fmt: skip

FILE_LINES_MAX = 500
FUNCTION_LINES_MAX = 70
BANNED_MODULES = {"pickle", "marshal", "shelve", "unittest.mock"}
BANNED_IN_PURE = {
    "asyncio", "socket", "threading", "time", "random", "os", "logging", "uuid", "secrets",
    "datetime", "subprocess", "multiprocessing", "concurrent",
}  # fmt: skip
BANNED_NAMES = {"utils", "util", "helpers", "common", "misc"}
# One adapter each: nothing else may know that these libraries exist.
ADAPTERS = {
    "rocksdict": ["storage/engine.py"],
    "google_crc32c": ["base/checksum.py"],
    "uvloop": ["cli/process.py"],
}


def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def _where(path: Path, node: ast.AST) -> str:
    return f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 1)}"


def _is_pure(path: Path) -> bool:
    return path.relative_to(SOURCE).parts[0] in PURE


def _imports(tree: ast.Module) -> Iterator[tuple[ast.AST, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node, alias.name
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node, node.module


def _functions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def _code_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of the body without its docstring. Nested functions count too: they are read with it."""
    body = function.body
    if ast.get_docstring(function) is not None:
        body = body[1:]
    return body[-1].end_lineno - body[0].lineno + 1 if body else 0


def test_there_is_something_to_check() -> None:
    assert len(FILES) > 50


def test_files_stay_small() -> None:
    long = {
        str(path.relative_to(ROOT)): count
        for path in [*FILES, *OTHERS]
        if (count := len(path.read_text().splitlines())) > FILE_LINES_MAX
        # Tables of cases are read by row, not as a whole.
        and "tests" not in path.relative_to(ROOT).parts
    }
    assert not long


def test_functions_stay_small() -> None:
    long = {
        f"{_where(path, function)} {function.name}": lines
        for path in FILES
        for function in _functions(_tree(path))
        if (lines := _code_lines(function)) > FUNCTION_LINES_MAX
    }
    assert not long


def test_every_module_and_package_says_what_it_is() -> None:
    silent = [str(path.relative_to(ROOT)) for path in FILES if not ast.get_docstring(_tree(path))]
    assert not silent


def test_every_public_function_and_class_says_what_it_is() -> None:
    silent = []
    for path in FILES:
        tree = _tree(path)
        public = _exported(tree)
        for node in tree.body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                if node.name in public and not ast.get_docstring(node):
                    silent.append(f"{_where(path, node)} {node.name}")
    assert not silent


def _exported(tree: ast.Module) -> list[str]:
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(
            isinstance(target, ast.Name) and target.id == "__all__" for target in node.targets
        ):
            return list(ast.literal_eval(node.value))
    return []


def test_what_is_exported_exists() -> None:
    absent = []
    for path in FILES:
        tree = _tree(path)
        names = {
            name
            for node in ast.walk(tree)
            for name in (
                [node.name]
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
                else [alias.asname or alias.name for alias in node.names]
                if isinstance(node, ast.Import | ast.ImportFrom)
                else [node.id]
                if isinstance(node, ast.Name)
                else []
            )
        }
        absent += [f"{_where(path, tree)} {name}" for name in _exported(tree) if name not in names]
    assert not absent


def test_banned_modules_are_imported_nowhere() -> None:
    found = [
        f"{_where(path, node)} {module}"
        for path in FILES
        for node, module in _imports(_tree(path))
        if module in BANNED_MODULES or module.split(".")[0] in BANNED_MODULES
    ]
    assert not found


def test_pure_floors_import_nothing_of_the_world() -> None:
    found = [
        f"{_where(path, node)} {module}"
        for path in FILES
        if _is_pure(path)
        for node, module in _imports(_tree(path))
        if module.split(".")[0] in BANNED_IN_PURE
    ]
    assert not found


def test_pure_floors_do_not_open_files_or_print() -> None:
    found = [
        f"{_where(path, node)} {node.func.id}"
        for path in FILES
        if _is_pure(path)
        for node in ast.walk(_tree(path))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in ("open", "print", "input", "eval", "exec", "__import__", "id", "hash")
    ]
    assert not found


def test_each_foreign_library_has_one_adapter() -> None:
    found = [
        f"{_where(path, node)} {module}"
        for path in FILES
        for node, module in _imports(_tree(path))
        if (allowed := ADAPTERS.get(module.split(".")[0])) is not None
        and str(path.relative_to(SOURCE)) not in allowed
    ]
    assert not found


def test_no_module_is_named_after_nothing() -> None:
    found = [str(path) for path in FILES if path.stem in BANNED_NAMES]
    assert not found


def test_asserts_are_invariants() -> None:
    """`assert` vanishes under -O."""
    found = [
        _where(path, node)
        for path in FILES
        for node in ast.walk(_tree(path))
        if isinstance(node, ast.Assert)
    ]
    assert not found


def _set_valued(node: ast.AST) -> bool:
    if isinstance(node, ast.Set | ast.SetComp):
        return True
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        return node.func.id in ("set", "frozenset")
    return False


def _iterated(tree: ast.AST) -> Iterator[ast.expr]:
    for node in ast.walk(tree):
        if isinstance(node, ast.For | ast.comprehension):
            yield node.iter
        elif (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id in ("list", "tuple", "iter", "enumerate", "dict")
            and node.args
        ):
            yield node.args[0]


def _set_names(function: ast.AST) -> set[str]:
    """Local names and attributes (`self.x`) that are given a set or declared as one."""
    names = set()
    for node in ast.walk(function):
        if isinstance(node, ast.Assign) and _set_valued(node.value):
            names.update(ast.unparse(target) for target in node.targets)
        elif isinstance(node, ast.AnnAssign):
            kind = ast.unparse(node.annotation)
            if kind.startswith(("set", "frozenset")) or (node.value and _set_valued(node.value)):
                names.add(ast.unparse(node.target))
        elif isinstance(node, ast.arg) and node.annotation is not None:
            if ast.unparse(node.annotation).startswith(("set[", "frozenset[")):
                names.add(node.arg)
    return names


def test_pure_floors_do_not_iterate_over_sets() -> None:
    """A set's order differs between processes, so it would differ between a run and its replay."""
    found = []
    for path in FILES:
        if not _is_pure(path):
            continue
        tree = _tree(path)
        names = _set_names(tree)
        for expression in _iterated(tree):
            if _set_valued(expression) or ast.unparse(expression) in names:
                found.append(_where(path, expression))
    assert not found


def test_the_set_check_finds_what_it_looks_for() -> None:
    tree = ast.parse("def f(a: set[int]):\n    b = set(a)\n    for x in b: pass\n    list(a)")
    names = _set_names(tree)
    assert [ast.unparse(one) for one in _iterated(tree) if ast.unparse(one) in names] == ["b", "a"]


@pytest.mark.parametrize("path", [*FILES, *OTHERS], ids=lambda path: path.name)
def test_nothing_is_left_for_later(path: Path) -> None:
    if path == Path(__file__):
        return
    for number, line in enumerate(path.read_text().splitlines(), 1):
        for word in ("TO" + "DO", "FIX" + "ME", "X" * 3):
            assert word not in line, f"{path}:{number}"
