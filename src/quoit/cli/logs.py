"""How a server process logs: lines for people on a terminal, JSON elsewhere."""

import logging
import os
import sys
from typing import Any

import structlog

from quoit.cli.config import ServeConfig

__all__ = ["configure_logging"]


def configure_logging(settings: ServeConfig) -> None:
    """Log to standard error from now on."""
    as_json = settings.log_format == "json" or (
        settings.log_format == "auto" and not sys.stderr.isatty()
    )
    renderer: Any = structlog.processors.JSONRenderer()
    if not as_json:
        renderer = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty() and _colours())
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(
            getattr(logging, settings.log_level.upper())
        ),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


def _colours() -> bool:
    return "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"
