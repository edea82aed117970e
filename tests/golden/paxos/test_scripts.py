"""Every script under scripts/ gives exactly the output written in it.

QUOIT_REWRITE=1 writes the present output into the files instead: then read the difference.
"""

import os
from pathlib import Path

import pytest

from .language import render

SCRIPTS = sorted((Path(__file__).parent / "scripts").glob("*.txt"))


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_gives_its_output(path: Path) -> None:
    text = path.read_text()
    found = render(text)
    if os.environ.get("QUOIT_REWRITE"):
        path.write_text(found)
    else:
        assert found == text


def test_there_are_scripts() -> None:
    assert len(SCRIPTS) >= 12
