"""One client's connection: bytes in, commands to the node, replies in order out.

It has the methods of asyncio's Protocol and knows nothing else of asyncio. No future and no task
per command: a reply slot is a place in a list, its ticket is a number that only grows. Slots are
filled in any order and sent in order, all that is complete in one write.

Backpressure. Reading pauses while the transport is above its high-water mark (the client does not
read), while too many commands wait for their outcome, or while too many reply bytes wait for their
turn; commands that were parsed by then stay in `_backlog`. So a client that only writes costs one
chunk of commands, the held replies and the transport's buffer.
"""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from quoit.base import limits
from quoit.base.errors import QuoitError
from quoit.data.table import COMMANDS, Spec
from quoit.gateways.resp.own import OWN, address, unknown_command, wrong_arity
from quoit.gateways.resp.transaction import Transaction
from quoit.node.session import Session
from quoit.wire import resp
from quoit.wire.requests import RequestParser

if TYPE_CHECKING:
    from quoit.gateways.resp.gateway import Host, RespGateway

__all__ = ["RespConnection"]

_LARGE = 64 * 1024
"""Replies of one chunk that are sent before the rest of the chunk runs."""
_NOAUTH = b"-NOAUTH Authentication required.\r\n"
_GUEST = frozenset(("AUTH", "HELLO", "QUIT", "RESET"))
_UNQUEUED = frozenset(("MULTI", "EXEC", "DISCARD", "WATCH", "QUIT", "RESET"))


class RespConnection:
    """See the module's docstring. Public attributes are for the commands that the gateway answers.

    session      what the node remembers of the client
    multi        the open MULTI, or None
    after        ticket -> what to do with its reply before it is sent
    guest        a password is set and the client has not given it
    silenced     CLIENT REPLY OFF
    skip         replies to suppress (CLIENT REPLY SKIP)
    Invariant: ticket of slots[0] == _base; _waiting == slots.count(None); _held == bytes in slots.
    """

    __slots__ = (
        "_backlog", "_base", "_closing", "_ended", "_eof", "_held", "_later", "_linger_bytes",
        "_lost", "_parser", "_reading_paused", "_slots", "_special", "_transport", "_waiting",
        "_write_paused", "active_ms", "after", "gateway", "guest", "host", "last",
        "lib_name", "lib_version", "made_ms", "multi", "name", "no_evict", "no_touch", "session",
        "silenced", "skip",
    )  # fmt: skip

    def __init__(self, gateway: "RespGateway", host: "Host", client_id: int) -> None:
        settings = gateway.settings
        self.gateway = gateway
        self.host = host
        self.session = Session(self, client_id)
        self.guest = bool(settings.password)
        self.multi: Transaction | None = None
        self.after: dict[int, Callable[[bytes], bytes]] = {}
        self.silenced = False
        self.skip = 0
        self.name = b""
        self.lib_name = b""
        self.lib_version = b""
        self.no_evict = False
        self.no_touch = False
        self.made_ms = self.active_ms = host.node.wall_ms
        self.last = ""
        self._parser = RequestParser(
            settings.bulk_bytes_max,
            settings.inline_bytes_max,
            settings.request_bytes_max,
            guest=self.guest,
        )
        self._transport: Any = None
        self._slots: list[bytes | None] = []
        self._base = 0
        self._waiting = 0
        self._held = 0
        self._backlog: list[list[bytes]] = []
        self._later: list[Callable[[], None]] = []
        self._special = self.guest
        self._closing = False
        self._ended = False
        self._linger_bytes = 0
        self._eof = False
        self._lost = False
        self._write_paused = False
        self._reading_paused = False

    # The transport's side

    def connection_made(self, transport: Any) -> None:
        """A client connected."""
        self._transport = transport
        gateway = self.gateway
        gateway.connections_received += 1
        if len(gateway.clients) >= gateway.settings.clients_max:
            gateway.connections_rejected += 1
            transport.write(b"-ERR max number of clients reached\r\n")
            self.close()
            return
        gateway.clients[self.session.id] = self

    def connection_lost(self, error: Exception | None) -> None:
        """The client is gone, or was sent away."""
        self._lost = self._closing = True
        self._backlog.clear()
        self._slots.clear()
        self.after.clear()
        self.multi = None
        self.gateway.clients.pop(self.session.id, None)
        self.host.node.close_session(self.session)

    def eof_received(self) -> bool:
        """The client sends no more. True: stay open until it has all its replies."""
        self._eof = True
        return bool(self._slots or self._backlog)

    def data_received(self, data: bytes) -> None:
        """Bytes from the client."""
        gateway = self.gateway
        gateway.input_bytes += len(data)
        if self._closing:
            self._discard(len(data))
            return
        parser = self._parser
        commands = parser.feed(data)
        idle = not (self._slots or self._special or parser.error)
        if len(commands) == 1 and idle and self._run_one(commands[0]):
            return
        if self._backlog:
            self._backlog += commands
        elif self.guest:
            self._run_guest(commands)
        elif commands:
            self._run(iter(commands))
        slots = self._slots
        if slots and not (self._waiting or self._closing or parser.error or self._backlog):
            # The usual case, `_settle` in short: all is answered, one write.
            count = len(slots)
            reply = slots[0] if count == 1 else b"".join(slots)  # type: ignore[arg-type]
            self._base += count
            self._held = 0
            slots.clear()
            if reply:
                gateway.output_bytes += len(reply)
                self._transport.write(reply)
        else:
            self._settle()

    def _run_guest(self, commands: list[list[bytes]]) -> None:
        """Run a guest's command before the next is parsed: it may be the AUTH."""
        while commands:
            if self._backlog:
                self._backlog += commands
            else:
                self._run(iter(commands))
            if self._closing:
                break
            commands = self._parser.feed(b"")

    def _discard(self, size: int) -> None:
        """Bytes that come after the end. They are read only so that the client gets the reason."""
        self._linger_bytes -= size
        if self._linger_bytes < 0 and self._ended and not self._lost:
            self.abort()

    def pause_writing(self) -> None:
        """The transport's buffer is above its high-water mark."""
        self._write_paused = True
        self._pause_reading()

    def resume_writing(self) -> None:
        """The transport's buffer has drained."""
        self._write_paused = False
        self._continue()

    # Running commands

    def _run(self, commands: Iterator[list[bytes]]) -> None:
        """Run commands up to the last, or until the client must wait."""
        node = self.host.node
        submit = node.submit
        session = self.session
        find = COMMANDS.get
        calls = self.gateway.calls
        slots = self._slots
        add = slots.append
        ticket = self._base + len(slots)
        special = self._special
        waiting = 0
        size = 0
        spec: Spec | None = None
        try:
            for args in commands:
                spec = find(args[0]) or find(args[0].upper())
                if spec is None:
                    reply: bytes | None = self._refuse(unknown_command(args), ticket)
                else:
                    count = len(args)
                    arity = spec.arity
                    if count != arity and (arity > 0 or count < -arity):
                        reply = self._refuse(wrong_arity(spec), ticket)
                    else:
                        calls[spec.name] += 1
                        if special:
                            reply = self._specially(spec, args, ticket)
                            special = self._special
                        elif spec.handler is None:
                            reply = self._own(spec, args, ticket)
                            special = self._special
                            reply = self._muted(reply, ticket) if special else reply
                        else:
                            reply = submit(session, ticket, spec, args)
                add(reply)
                ticket += 1
                if reply is None:
                    waiting += 1
                    continue
                size += len(reply)
                if size > _LARGE or self._closing:
                    self._held += size
                    self._waiting += waiting
                    size = waiting = 0
                    if self._closing:
                        break
                    self._send()
                    ticket = self._base + len(slots)
                    if self._closing:
                        break
                    if self._must_wait():
                        self._backlog = list(commands)
                        break
        except QuoitError as error:
            self._fail(error)
            return
        self._held += size
        self._waiting += waiting
        self.active_ms = node.wall_ms
        if spec is not None:
            self.last = spec.name
        while self._later:
            self._later.pop(0)()
        if self._waiting:
            self.host.kick()

    def _run_one(self, args: list[bytes]) -> bool:
        """`_run` in short, for one data command when nothing else is open: the usual case without
        pipelining. False: nothing was done."""
        spec = COMMANDS.get(args[0])
        if spec is None or spec.handler is None or self._backlog:
            return False
        if len(args) != spec.arity and (spec.arity > 0 or len(args) < -spec.arity):
            return False
        node = self.host.node
        self.gateway.calls[spec.name] += 1
        self.last = spec.name
        self.active_ms = node.wall_ms
        try:
            reply = node.submit(self.session, self._base, spec, args)
        except QuoitError as error:
            self._fail(error)
            return True
        self._slots.append(reply)
        if reply is None:
            self._waiting += 1
            self.host.kick()
        elif len(reply) > _LARGE:
            self._held += len(reply)
            self._settle()
        else:
            self._base += 1
            self._slots.clear()
            self.gateway.output_bytes += len(reply)
            self._transport.write(reply)
        return True

    def _fail(self, error: QuoitError) -> None:
        """What comes through here is damage or a broken invariant: nobody may be served."""
        self.host.fail(str(error), error)
        self.abort()

    def _specially(self, spec: Spec, args: list[bytes], ticket: int) -> bytes | None:
        """A command while the connection is in a special state."""
        if self.guest and spec.name not in _GUEST:
            reply: bytes | None = self._count_error(_NOAUTH)
        elif self.multi is not None and spec.name not in _UNQUEUED:
            reply = self.multi.queue(spec, args)
        elif spec.handler is None:
            reply = self._own(spec, args, ticket)
        else:
            reply = self.host.node.submit(self.session, ticket, spec, args)
        return self._muted(reply, ticket)

    def _own(self, spec: Spec, args: list[bytes], ticket: int) -> bytes | None:
        reply = OWN[spec.name](self, args, ticket)
        if reply is not None and reply[:1] == b"-":
            self._count_error(reply)
        return reply

    def _refuse(self, reply: bytes, ticket: int) -> bytes | None:
        """A command that does not exist or has the wrong number of arguments."""
        if self.guest:
            reply = _NOAUTH
        elif self.multi is not None:
            self.multi.dirty = True
        return self._muted(self._count_error(reply), ticket)

    def _count_error(self, reply: bytes) -> bytes:
        code = reply[1:33].split(None, 1)[0]
        self.gateway.errors[code.decode("ascii", "replace")] += 1
        return reply

    def _muted(self, reply: bytes | None, ticket: int) -> bytes | None:
        """CLIENT REPLY: the reply, or nothing in its place."""
        if self.skip:
            self.skip -= 1
            if not self.skip:
                self.refresh()
        elif not self.silenced:
            return reply
        if reply is None:
            self.after[ticket] = lambda _: b""
            return None
        return b""

    # Replies

    def fill(self, ticket: int, reply: bytes) -> None:
        """The reply for a command that the node could not answer at once."""
        if self._lost:
            return
        if self.after:
            change = self.after.pop(ticket, None)
            if change is not None:
                reply = change(reply)
        self._slots[ticket - self._base] = reply
        self._waiting -= 1
        self._held += len(reply)

    def flush(self) -> None:
        """Send what is complete, in order; go on with what had to wait."""
        if self._lost:
            return
        self._send()
        if self._reading_paused:
            self._continue()
        elif self._closing or self._eof:
            self._settle()

    def _send(self) -> None:
        slots = self._slots
        if self._ended:
            return
        if not slots or slots[0] is None:
            if self._held > self.gateway.settings.output_bytes_max:
                self._cut_off()
            return
        if self._waiting:
            count = slots.index(None)
            data = b"".join(slots[:count])  # type: ignore[arg-type]
            del slots[:count]
            self._base += count
        else:
            data = b"".join(slots)  # type: ignore[arg-type]
            self._base += len(slots)
            slots.clear()
        if data:
            self._held -= len(data)
            self.gateway.output_bytes += len(data)
            self._transport.write(data)
            if self._write_paused or self._held:
                unsent = self._transport.get_write_buffer_size() + self._held
                if unsent > self.gateway.settings.output_bytes_max:
                    self._cut_off()

    def _settle(self) -> None:
        """After commands ran: send, pause or close as needed."""
        parser = self._parser
        if parser.error and not self._closing and not self._backlog:
            self._closing = True
            if not parser.silent:
                reply = self._count_error(resp.error(f"ERR Protocol error: {parser.error}"))
                self._slots.append(reply)
                self._held += len(reply)
        self._send()
        if self._closing or self._eof:
            if not self._slots and (self._closing or not self._backlog):
                self._closing = True
                self._end()
        elif self._backlog or self._must_wait():
            self._pause_reading()

    def _end(self) -> None:
        """Everything is answered: close."""
        if self._lost or self._ended:
            return
        self._ended = True
        if self._parser.oversize and not self._eof and self._transport.can_write_eof():
            # Why: closing while the client still sends a huge value resets the connection, and the
            # reset overtakes the error that tells the client why.
            self._linger_bytes = limits.BULK_BYTES_MAX
            self._transport.write_eof()
        else:
            self._transport.close()

    # Backpressure

    def _must_wait(self) -> bool:
        settings = self.gateway.settings
        return (
            self._write_paused
            or self._waiting > settings.unanswered_max
            or self._held > settings.held_bytes_max
        )

    def _pause_reading(self) -> None:
        if not self._reading_paused and not self._closing and not self._eof:
            self._reading_paused = True
            self._transport.pause_reading()

    def _continue(self) -> None:
        """Run what had to wait, then read again, unless there is still a reason to wait."""
        while not self._must_wait():
            if not self._backlog or self._closing:
                if self._reading_paused and not self._closing and not self._eof:
                    self._reading_paused = False
                    self._transport.resume_reading()
                break
            backlog, self._backlog = self._backlog, []
            self._run(iter(backlog))
            self._send()
        self._settle()

    def _cut_off(self) -> None:
        self.gateway.output_limit_disconnections += 1
        self.abort()

    # For the commands

    def refresh(self) -> None:
        """A special state began or ended."""
        self._special = self.guest or self.multi is not None or self.silenced or self.skip > 0

    def welcome(self, guest: bool = False) -> None:
        """The client gave the password (or is to give it again)."""
        self.guest = guest
        self._parser.welcome(guest)
        self.refresh()

    def start_later(self, start: Callable[[], None]) -> None:
        """Call `start` once the present command has its reply slot."""
        self._later.append(start)

    def finish(self) -> None:
        """Close once everything so far is answered; run nothing more."""
        self._closing = True

    def close(self) -> None:
        """Another client asked to disconnect this one."""
        self._closing = self._ended = True
        self._transport.close()

    def abort(self) -> None:
        """Disconnect without sending what waits."""
        if not self._lost:
            self._closing = self._ended = self._lost = True
            self._transport.abort()

    def limit(self, bulk_bytes_max: int) -> None:
        """Change the greatest length of one argument."""
        self._parser.limit(bulk_bytes_max)

    def address(self, which: str) -> str:
        """`peername` or `sockname` as host:port."""
        return address(self._transport, which)

    def buffered(self) -> tuple[int, int, int]:
        """(bytes of incomplete commands, replies that wait, bytes that wait)."""
        return self._parser.waiting_bytes(), len(self._slots), self._held
