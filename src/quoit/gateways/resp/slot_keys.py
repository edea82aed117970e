"""The keys of one slot, by a chain of ordinary SCANs: a SCAN's cursor starts with the slot, so the
first page starts at it, and the walk ends when the cursor leaves it. It is as linearizable as SCAN
itself: each page is, the whole is not one moment."""

from typing import TYPE_CHECKING

from quoit.base.slots import slot_of
from quoit.data.table import COMMANDS
from quoit.gateways.resp.splice import elements
from quoit.node.session import Session
from quoit.wire import resp

if TYPE_CHECKING:
    from quoit.gateways.resp.connection import RespConnection

__all__ = ["SlotKeys"]

_PAGE = b"1000"
_PAGES_MAX = 10_000


class SlotKeys:
    """Walks one slot for one CLUSTER COUNTKEYSINSLOT or GETKEYSINSLOT.

    limit   keys to give; -1: only count
    It is the sink of a session of its own, and fills the client's ticket at the end.
    """

    __slots__ = ("_client", "_count", "_keys", "_limit", "_pages", "_session", "_slot", "_ticket")

    def __init__(self, client: "RespConnection", ticket: int, slot: int, limit: int) -> None:
        self._client = client
        self._ticket = ticket
        self._slot = slot
        self._limit = limit
        self._keys: list[bytes] = []
        self._count = 0
        self._pages = 0
        self._session = Session(self, -client.session.id)

    def start(self) -> None:
        """Ask for the first page."""
        # SCAN's cursor 0 means the start, which is slot 0.
        self._ask(b"%d" % (self._slot << 32))

    def _ask(self, cursor: bytes) -> None:
        client = self._client
        node = client.host.node
        # Why: the client's own unanswered writes must be seen.
        self._session.unanswered = client.session.unanswered
        args = [b"SCAN", cursor, b"COUNT", _PAGE]
        reply = node.submit(self._session, self._pages, COMMANDS[b"SCAN"], args)
        self._pages += 1
        client.host.kick()
        if reply is not None:
            self.fill(0, reply)

    def fill(self, ticket: int, reply: bytes) -> None:
        """A page."""
        if self._client.session.closed:
            return
        if reply[:1] != b"*":
            self._finish(reply)
            return
        head, body = elements(reply)
        cursor = int(head.split(b"\r\n")[1])
        for part in elements(body):
            key = part[part.index(b"\r\n") + 2 : -2]
            if slot_of(key) == self._slot:
                self._count += 1
                if self._limit >= 0:
                    self._keys.append(key)
        full = 0 <= self._limit <= self._count
        if full or cursor == 0 or cursor >> 32 != self._slot:
            if self._limit >= 0:
                self._finish(resp.bulk_array(self._keys[: self._limit]))
            else:
                self._finish(resp.integer(self._count))
        elif self._pages >= _PAGES_MAX:
            self._finish(b"-ERR this slot has too many keys to walk\r\n")
        else:
            self._ask(b"%d" % cursor)

    def flush(self) -> None:
        """The client's connection is flushed when its ticket is filled."""

    def _finish(self, reply: bytes) -> None:
        client = self._client
        client.host.node.close_session(self._session)
        client.fill(self._ticket, reply)
        client.flush()
