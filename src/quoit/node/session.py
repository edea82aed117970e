"""What a node remembers of one client's connection. The gateway owns one per connection."""

from typing import Protocol

__all__ = ["ReplySink", "Session"]


class ReplySink(Protocol):
    """Where replies go: the gateway's connection, or a simulated client."""

    def fill(self, ticket: int, reply: bytes) -> None:
        """The encoded reply for the command that was submitted with `ticket`."""
        ...

    def flush(self) -> None:
        """All fills of this turn are done: send what is complete, in ticket order."""
        ...


class Session:
    """One client connection.

    sink      gets the replies that `Node.submit` could not return at once
    id        unique on this node
    db        selected database, 0..15
    proto     RESP version, 2 or 3
    readonly  the client asked for follower reads (READONLY)
    unanswered  shard -> count of this session's writes that wait for their outcome; a read on such
              a shard joins the batch so that a pipeline reads its own writes
    watched   (db, key) -> version seen at WATCH time (version 0: the key did not exist)
    closed    the client is gone; replies are dropped
    """

    __slots__ = ("closed", "db", "id", "proto", "readonly", "sink", "unanswered", "watched")

    def __init__(self, sink: ReplySink, session_id: int) -> None:
        self.sink = sink
        self.id = session_id
        self.db = 0
        self.proto = 2
        self.readonly = False
        self.unanswered: dict[int, int] = {}
        self.watched: dict[tuple[int, bytes], int] = {}
        self.closed = False
