"""Redis clients as the command line uses them: they do not retry behind the caller's back, because
what a write's outcome is must be seen, and they give up in time."""

from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

__all__ = ["call", "connect", "connect_url"]

ANSWER_S = 8.0
"""Longer than a node ever waits for an outcome."""
CONNECT_S = 2.0


def connect(port: int) -> redis.Redis:
    """A client of the node on this machine at `port`; bytes in and out."""
    return redis.Redis(
        port=port, socket_timeout=ANSWER_S, socket_connect_timeout=CONNECT_S, retry=_never()
    )


def connect_url(url: str) -> redis.Redis:
    """A client of the node at `redis://[:PASSWORD@]HOST:PORT/DB`. ValueError if that is none."""
    found: redis.Redis = redis.Redis.from_url(
        url, socket_timeout=ANSWER_S, socket_connect_timeout=CONNECT_S, retry=_never()
    )
    return found


def call(client: redis.Redis, *words: Any) -> Any:
    """The reply to one command. redis.RedisError as redis-py raises it."""
    return client.execute_command(*words)  # type: ignore[no-untyped-call]


def _never() -> Retry:
    return Retry(NoBackoff(), 0)
