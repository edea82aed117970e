"""The load generator's NATS client: a JetStream key-value bucket over NATS' text protocol.

A put is a publish to `$KV.<bucket>.<key>` with a reply subject; JetStream answers there when a
majority of the stream's replicas has it. A get asks the stream's leader for the last message of
the subject (`$JS.API.STREAM.MSG.GET`); the leader answers from its own state without asking the
others, so the read is NOT linearizable, and the comparison says so.
"""

import base64
import json
import socket
from typing import Any

from seats import VALUE_BYTES, Seat, SeatProtocol, key_name, stamp

__all__ = ["BUCKET", "NatsClient", "NatsCommands", "fetch", "request"]

BUCKET = "bench"
STREAM = f"KV_{BUCKET}"
CONNECT = b'CONNECT {"verbose":false,"pedantic":false,"lang":"python","version":"1"}\r\n'
GET_SUBJECT = f"$JS.API.STREAM.MSG.GET.{STREAM}".encode()


class NatsCommands:
    """Ready-made bytes for every key up to where the reply subject goes, and behind it."""

    def __init__(self, keys: int, writes: bool) -> None:
        names = [key_name(number) for number in range(keys)]
        bucket = BUCKET.encode()
        if writes:
            self.heads = [b"PUB $KV.%b.%b " % (bucket, name) for name in names]
            self.tails = [b" %d\r\n%b" % (VALUE_BYTES, name) for name in names]
        else:
            queries = [b'{"last_by_subj":"$KV.%b.%b"}' % (bucket, name) for name in names]
            self.heads = [b"PUB %b " % GET_SUBJECT for _ in names]
            self.tails = [b" %d\r\n%b\r\n" % (len(query), query) for query in queries]


class NatsClient(SeatProtocol):
    """A seat on one connection. Replies come in order on one inbox, so they are only counted."""

    def __init__(self, seat: Seat, commands: NatsCommands) -> None:
        super().__init__(seat)
        self.commands = commands
        self.inbox = b"_INBOX.seat%d.%d" % (seat.index, id(self))
        self.buffer = b""
        self.expected = 0

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        transport.write(CONNECT + b"SUB %b 1\r\n" % self.inbox)
        self.send()

    def send(self) -> None:
        seat = self.seat
        picked = seat.next_batch()
        if not picked:
            return
        heads, tails, inbox = self.commands.heads, self.commands.tails, self.inbox
        self.expected = len(picked)
        rest = stamp(seat.index, seat.batch) + b"\r\n" if seat.writes else b""
        pieces = [heads[number] + inbox + tails[number] for number in picked]
        self.transport.write(rest.join(pieces) + rest)

    def data_received(self, data: bytes) -> None:
        if self.buffer:
            data = self.buffer + data
        position = 0
        before = self.expected
        while (line_end := data.find(b"\r\n", position)) >= 0:
            if data.startswith(b"MSG ", position):
                size = int(data[data.rfind(b" ", position, line_end) + 1 : line_end])
                end = line_end + 2 + size
                if len(data) < end + 2:
                    break
                self.answer(data[line_end + 2 : end])
                position = end + 2
                continue
            if data.startswith(b"PING", position):
                self.transport.write(b"PONG\r\n")
            elif data.startswith(b"-ERR", position):
                self.error = data[position:line_end].decode()
            position = line_end + 2
        self.buffer = data[position:]
        if before and not self.expected:
            self.finish()

    def answer(self, payload: bytes) -> None:
        self.expected -= 1
        if b'"error"' in payload or b'"seq"' not in payload:
            self.error = payload[:160].decode(errors="replace")


def request(address: tuple[str, int], calls: list[tuple[str, bytes]]) -> list[bytes]:
    """Ask each (subject, payload) on a blocking connection and wait for its answer."""
    answers: list[bytes] = []
    with socket.create_connection(address, timeout=10.0) as connection:
        connection.sendall(CONNECT + b"SUB _INBOX.ask 1\r\n")
        file = connection.makefile("rb")
        for subject, payload in calls:
            head = f"PUB {subject} _INBOX.ask {len(payload)}\r\n".encode()
            connection.sendall(head + payload + b"\r\n")
            while True:
                line = file.readline()
                if not line:
                    raise ConnectionError(f"{address} closed the connection")
                if line.startswith(b"PING"):
                    connection.sendall(b"PONG\r\n")
                elif line.startswith((b"MSG", b"HMSG")):
                    answers.append(file.read(int(line.split()[-1]) + 2)[:-2])
                    break
    return answers


def fetch(address: tuple[str, int], keys: list[bytes]) -> list[bytes | None]:
    """The values of `keys`, from the stream's leader."""
    subject = GET_SUBJECT.decode()
    queries = [json.dumps({"last_by_subj": f"$KV.{BUCKET}.{key.decode()}"}) for key in keys]
    answers = request(address, [(subject, query.encode()) for query in queries])
    rows = [json.loads(answer).get("message") for answer in answers]
    return [base64.b64decode(row["data"]) if row else None for row in rows]
