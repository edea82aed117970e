"""`quoit` with nodes that flush and forget their log early, and cache nothing: a small test then reaches
what else takes gigabytes. Run as `python -m tests.real.short_log serve ...`."""

import msgspec

from quoit.cli.main import run
from quoit.node.config import NodeConfig
from quoit.runtime.driver import Driver

_config = Driver._config


def _short(driver: Driver, directory: int) -> NodeConfig:
    config = _config(driver, directory)
    return msgspec.structs.replace(config, flush_log_bytes=100_000, log_tail_entries=10)


if __name__ == "__main__":
    Driver._config = _short  # type: ignore[method-assign]
    run()
