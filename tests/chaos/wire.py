"""A RESP connection of a recording client: one command, one reply, and a deadline."""

import asyncio
from typing import Any

import hiredis

__all__ = ["Broken", "Connection", "Reply"]

Reply = Any
"""bytes, int, None, a list of them, or hiredis.ReplyError."""


class Broken(Exception):
    """The connection failed or was silent too long: what was sent may have been applied."""


class Connection:
    """A connection to one node. Not shared between tasks."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._parser = hiredis.Reader()

    @classmethod
    async def open(cls, host: str, port: int, timeout_s: float = 1.0) -> "Connection":
        """Connect; Broken when that fails."""
        try:
            opening = asyncio.open_connection(host, port)
            return cls(*await asyncio.wait_for(opening, timeout_s))
        except (OSError, TimeoutError) as error:
            raise Broken(repr(error)) from None

    async def call(self, *commands: tuple[bytes, ...], timeout_s: float) -> list[Reply]:
        """Send the commands at once and await all replies. Broken after `timeout_s` or a loss."""
        for command in commands:
            self._writer.write(hiredis.pack_command(command))  # type: ignore[arg-type]
        try:
            return await asyncio.wait_for(self._replies(len(commands)), timeout_s)
        except (OSError, TimeoutError, EOFError, hiredis.ProtocolError) as error:
            raise Broken(repr(error)) from None

    async def _replies(self, count: int) -> list[Reply]:
        found: list[Reply] = []
        while len(found) < count:
            # `gets` answers False when it needs more bytes; RESP2 has no false of its own.
            reply = self._parser.gets()
            if reply is not False:
                found.append(reply)
                continue
            data = await self._reader.read(65_536)
            if not data:
                raise EOFError("the node closed the connection")
            self._parser.feed(data)
        return found

    def close(self) -> None:
        """Leave without ceremony."""
        self._writer.transport.abort()
