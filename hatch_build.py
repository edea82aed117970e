"""Hatchling's hook. Without QUOIT_COMPILE=1 it does nothing and the wheel is pure Python, as always.

QUOIT_COMPILE=1 pip wheel --no-deps .      docs/how-to/compiled-build.md
"""

import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_TOOLS = ("mypy==", "msgspec==", "setuptools==")
"""msgspec, because mypyc checks the types of what it compiles."""


def _wanted() -> bool:
    return os.environ.get("QUOIT_COMPILE", "") not in ("", "0")


class CompileHook(BuildHookInterface):  # type: ignore[type-arg]
    """Adds the compiled pure floors to the wheel when the flag is set; their sources stay in it."""

    def dependencies(self) -> list[str]:
        """What the build needs besides hatchling, with the versions that the tests ran on."""
        if not _wanted():
            return []
        text = Path(self.root, "requirements-compile.txt").read_text(encoding="utf-8")
        text += Path(self.root, "requirements-dev.txt").read_text(encoding="utf-8")
        text += Path(self.root, "requirements.txt").read_text(encoding="utf-8")
        return [line for line in text.splitlines() if line.startswith(_TOOLS)]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, and name the wheel by its platform."""
        if not _wanted() or version == "editable":
            return
        sys.path.insert(0, str(Path(self.root, "scripts")))
        from compile_floors import compile_into

        self.place = Path(tempfile.mkdtemp(prefix="quoit-compile-"))
        build_data["force_include"].update(compile_into(self.place))
        build_data["pure_python"] = False
        build_data["infer_tag"] = True

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove the intermediate files."""
        if place := getattr(self, "place", None):
            shutil.rmtree(place, ignore_errors=True)
