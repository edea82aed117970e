"""Whether this is the compiled build (docs/how-to/compiled-build.md) or the one in pure Python."""

from quoit.base import check

__all__ = ["compiled"]


def compiled() -> bool:
    """The pure floors run as machine code: their source text cannot be patched."""
    return not str(check.__file__).endswith((".py", ".pyc"))
