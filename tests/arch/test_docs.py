"""The documentation points at things that exist."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
LINK = re.compile(r"\]\(([^)\s]+)\)|(?:src|srcset)=\"([^\"]+)\"")
PATH = re.compile(r"`((?:src|docs|tests|benchmarks|scripts)/[A-Za-z0-9_./-]*)`")
MADE_BY_COMMANDS = ("docs/images/", "benchmarks/results/")
"""Written by `make bench`; a checkout may not have them yet."""


def _text(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def _name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def _made(target: Path) -> bool:
    return str(target.relative_to(ROOT)).startswith(MADE_BY_COMMANDS)


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_relative_links_lead_somewhere(page: Path) -> None:
    prose = re.sub(r"```.*?```", "", _text(page), flags=re.DOTALL)
    missing = []
    for first, second in LINK.findall(prose):
        link = (first or second).partition("#")[0]
        if not link or re.match(r"[a-z]+:", link):
            continue
        target = (page.parent / link).resolve()
        if not target.exists() and not _made(target):
            missing.append(link)
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_paths_of_the_repository_exist(page: Path) -> None:
    paths = PATH.findall(_text(page))
    missing = [one for one in paths if not (ROOT / one).exists() and not _made(ROOT / one)]
    assert missing == []


def test_every_page_has_one_title() -> None:
    for page in PAGES:
        assert _text(page).startswith("# "), page


def test_pages_for_users_can_be_reached_from_the_readme() -> None:
    seen: set[Path] = set()
    waiting = [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page in seen or not page.exists() or page.suffix != ".md":
            continue
        seen.add(page)
        for first, _ in LINK.findall(_text(page)):
            if not re.match(r"[a-z]+:", first):
                waiting.append((page.parent / first.partition("#")[0]).resolve())
    for kind in ("tutorial", "how-to", "explanation"):
        assert set((ROOT / "docs" / kind).glob("*.md")) - seen == set()


def test_invariants_are_numbered_without_gaps_and_point_at_code() -> None:
    rows = re.findall(r"^\| (I\d+) \|(.*)$", _text(ROOT / "docs" / "architecture.md"), re.MULTILINE)
    assert [number for number, _ in rows] == [f"I{count}" for count in range(1, len(rows) + 1)]
    for number, row in rows:
        assert "`src/quoit/" in row or "scenario" in row, number


def test_the_page_of_commands_is_up_to_date() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "generate_docs.py"), "--check"],
        env={"PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
