"""What mypyc would silently compile into something else must not be in the modules that it compiles."""

import ast
import runpy
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def reused(source: str) -> list[str]:
    """Functions that bind one name to different types in several `except` clauses."""
    found = []
    for function in ast.walk(ast.parse(source)):
        if not isinstance(function, ast.FunctionDef):
            continue
        types: dict[str, str] = {}
        for node in ast.walk(function):
            if isinstance(node, ast.ExceptHandler) and node.name and node.type is not None:
                kind = ast.unparse(node.type)
                if types.setdefault(node.name, kind) != kind:
                    found.append(function.name)
    return found


def test_no_compiled_function_reuses_the_name_of_an_error() -> None:
    modules = runpy.run_path(str(ROOT / "scripts" / "compile_floors.py"))["modules"]()
    assert len(modules) > 40
    assert {name: bad for name in modules if (bad := reused((ROOT / name).read_text()))} == {}


def test_the_check_finds_what_it_looks_for() -> None:
    text = "def f():\n try: g()\n except KeyError as e: h(e)\n except Exception as {}: h({})\n"
    assert reused(text.replace("{}", "e")) == ["f"]
    assert reused(text.replace("{}", "other")) == []
