"""The compiled build: which modules mypyc compiles, and how. `hatch_build.py` calls it for a wheel.

    python scripts/compile_floors.py     print the modules that are compiled

A module is compiled if it belongs to a pure floor and nothing below excludes it. All others stay Python
in both builds, so the list needs no care when files are added: `make compiled` runs the tests on it.
"""

import os
import re
from pathlib import Path

__all__ = ["FLOORS", "INTERPRETED", "compile_into", "modules"]

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = Path("src", "quoit")

FLOORS = ("base", "quorum", "raft", "paxos", "placement", "wire", "data", "node")

INTERPRETED = {
    "base/ids.py": "only aliases",
    "base/limits.py": "constants that tests change while they run",
    "node/node.py": "the simulator has a subclass of Node; Python code cannot subclass a compiled class",
}
"""Modules of these floors that stay Python, and why; so do all packages' own `__init__.py`."""

STRUCTS_IN_MEMORY = ("node/batch.py",)
"""Modules that are compiled although they define msgspec structs: nothing is ever decoded into these."""

_STRUCT = re.compile(r"^class \w+\(msgspec\.Struct\b", re.MULTILINE)
_PROTOCOL = re.compile(r"^class \w+\(Protocol\)", re.MULTILINE)


def modules() -> list[str]:
    """The modules to compile, as paths relative to the repository's root, sorted."""
    found = []
    for floor in FLOORS:
        for path in sorted((ROOT / PACKAGE / floor).rglob("*.py")):
            name = path.relative_to(ROOT / PACKAGE).as_posix()
            if path.name == "__init__.py" or name in INTERPRETED:
                continue
            # Why: their implementations are elsewhere, often not compiled, so nothing would be won.
            text = path.read_text(encoding="utf-8")
            if _PROTOCOL.search(text):
                continue
            # Why: mypyc simplifies the annotations of such a class, and msgspec would decode by them:
            # a tagged union arrives as a dict.
            if _STRUCT.search(text) and name not in STRUCTS_IN_MEMORY:
                continue
            found.append((PACKAGE / name).as_posix())
    return found


def compile_into(place: Path) -> dict[str, str]:
    """Compile the modules; `place` is an empty directory. Absolute path of each shared library ->
    its path in the wheel. Needs mypy, setuptools and a C compiler."""
    from mypyc.build import mypycify
    from setuptools import Distribution

    # Why: mypy names modules by their paths from here.
    before = Path.cwd()
    os.chdir(ROOT)
    try:
        extensions = mypycify(
            modules(),
            opt_level="3",
            debug_level="0",
            group_name="quoit",
            target_dir=str(place / "c"),
        )
        build = Distribution({"ext_modules": extensions}).get_command_obj("build_ext")
        build.build_lib = str(place / "lib")
        build.build_temp = str(place / "objects")
        build.ensure_finalized()
        build.run()
    finally:
        os.chdir(before)
    libraries = sorted((place / "lib").rglob("*.so"))
    return {str(path): path.relative_to(place / "lib").as_posix() for path in libraries}


if __name__ == "__main__":
    print("\n".join(modules()))
