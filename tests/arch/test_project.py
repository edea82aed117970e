"""Files around the code: pins, Makefile, and what the reference pages say of the command line."""

import re
import tomllib
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
PINS = ("requirements.txt", "requirements-dev.txt", "requirements-bench.txt")
# Ports of the world outside; a name with a dot before one of these would be a machine's address.
ADDRESS = re.compile(r"(https?://|--index-url|--extra-index-url|--find-links|-i |@ )")


def _pins(name: str) -> dict[str, str]:
    found = {}
    for line in (ROOT / name).read_text().splitlines():
        if line and not line.startswith(("#", "-r ")):
            package, separator, version = line.partition("==")
            assert separator, f"{name}: {line!r} is not an exact pin"
            found[_normal(package)] = version
    return found


def _normal(package: str) -> str:
    return re.sub(r"[-_.]+", "-", package).lower()


def test_pins_are_exact_and_name_no_registry() -> None:
    for name in PINS:
        assert _pins(name)
        assert not ADDRESS.search((ROOT / name).read_text()), name


def test_no_package_is_pinned_twice() -> None:
    seen: dict[str, str] = {}
    for name in PINS:
        for package in _pins(name):
            assert package not in seen, f"{package} in {name} and {seen[package]}"
            seen[package] = name


def test_every_dependency_is_pinned_within_its_bounds() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pins = _pins("requirements.txt")
    for wanted in project["dependencies"]:
        match = re.match(r"([\w.-]+)\s*(?:>=([\d.]+))?", wanted)
        assert match is not None
        version = pins[_normal(match[1])]
        if match[2]:
            assert _numbers(version) >= _numbers(match[2]), wanted


def test_everything_that_a_dependency_needs_is_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = _closure(project["dependencies"])
    assert needed == sorted(_pins("requirements.txt"))
    tools = ["pytest", "pytest-xdist", "hypothesis", "import-linter", "mypy", "ruff"]
    pinned = [*_pins("requirements.txt"), *_pins("requirements-dev.txt")]
    assert not [package for package in _closure(tools) if package not in pinned]


def _closure(wanted: list[str]) -> list[str]:
    """Names of all packages that `wanted` needs here, by what the installed ones say."""
    seen: dict[str, list[str]] = {}
    waiting = [Requirement(text) for text in wanted]
    while waiting:
        requirement = waiting.pop()
        name = _normal(requirement.name)
        extras = ["", *sorted(requirement.extras)]
        if seen.get(name) == extras:
            continue
        seen[name] = extras
        for text in metadata.requires(name) or []:
            needed = Requirement(text)
            marker = needed.marker
            if marker is None or any(marker.evaluate({"extra": extra}) for extra in extras):
                waiting.append(needed)
    return sorted(seen)


def _numbers(version: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", version)]


def test_ci_runs_what_the_readme_tells_people_to_run() -> None:
    run = ROOT / ".ci" / "run"
    assert run.stat().st_mode & 0o111
    assert "make test" in run.read_text()


def test_every_make_target_that_is_named_exists() -> None:
    text = (ROOT / "Makefile").read_text()
    phony = re.search(r"^\.PHONY: (.*)$", text, re.M)
    assert phony is not None
    targets = re.findall(r"^([a-z][a-z-]*):", text, re.M)
    assert sorted(phony[1].split()) == sorted(targets)
    documents = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]
    for document in documents:
        if document.exists():
            for named in re.findall(r"`make ([a-z][a-z-]*)", document.read_text()):
                assert named in targets, f"{document.name}: make {named}"


def test_the_exit_codes_are_the_published_ones() -> None:
    from quoit.cli import shared

    text = (ROOT / "docs" / "reference" / "cli.md").read_text()
    rows = dict(re.findall(r"^\| (\d+) \| ([^|]+?) \|", text, re.M))
    for name in ("OK", "FAILED", "USAGE", "CONNECT", "NOT_FOUND", "CONFLICT", "UNHEALTHY", "AUTH",
                 "UNAVAILABLE"):  # fmt: skip
        assert str(getattr(shared, name)) in rows, name


def test_the_settings_page_lists_every_setting() -> None:
    from quoit.cli.config import ServeConfig

    text = (ROOT / "docs" / "reference" / "config.md").read_text()
    table = text.partition("| name | default |")[2].partition("\n\n")[0]
    rows = re.findall(r"^\| `(\w+)` \|", table, re.M)
    assert sorted(rows) == sorted(ServeConfig.__struct_fields__)


def test_every_setting_that_is_not_a_file_only_secret_has_a_flag() -> None:
    import inspect

    from quoit.cli.config import ServeConfig
    from quoit.cli.serve import serve

    flags = set(inspect.signature(serve).parameters) - {"config"}
    assert flags == set(ServeConfig.__struct_fields__) - {"secret"}
