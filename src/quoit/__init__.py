"""quoit: a distributed store whose acknowledged writes are never lost and never go back in time."""

__version__ = "0.1.0"
