"""For all tests: what the compiled build (`make compiled`) cannot run is skipped, and says so."""

import pytest

from quoit.base.build import compiled


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not compiled():
        return
    skip = pytest.mark.skip(
        reason="compiled build: machine code has no source text to patch or read"
    )
    for item in items:
        if item.get_closest_marker("source_text"):
            item.add_marker(skip)
