"""These tests are about no protocol: they run once, not once for each."""

import pytest


@pytest.fixture(autouse=True)
def consensus():
    """In place of the fixture of the directory above."""
