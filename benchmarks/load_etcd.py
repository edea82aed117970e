"""The load generator's etcd client: gRPC over HTTP/2, as little of both as a benchmark needs.

Made by hand because grpcio costs ~100 us per call in Python and would measure itself. It is fair to
etcd in the ways that count: header compression as Go's own client does it (the headers go once into
the HPACK dynamic table and are one byte each from then on), flow-control windows so large that they
never stop the server, `depth` streams in flight on one connection.

What it relies on: a unary gRPC call that succeeded answers HEADERS, DATA with the message, HEADERS
with END_STREAM; one that failed has no DATA. So replies need no HPACK decoding (RFC 9113 section
6; gRPC over HTTP2 "Responses").
"""

import socket
from collections.abc import Iterator
from typing import Any

from seats import KEY_BYTES, VALUE_BYTES, Seat, SeatProtocol, key_name, stamp

__all__ = ["EtcdClient", "EtcdCommands", "call", "fetch", "fields", "leader_and_member"]

DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM, END_HEADERS, ACK = 1, 4, 1
WINDOW = (1 << 31) - 1
WINDOW_RENEW_BYTES = 1 << 28
KV = b"/etcdserverpb.KV/"


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return (
        len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload
    )


def literal(name: bytes, value: bytes) -> bytes:
    """An HPACK literal that enters the dynamic table (RFC 7541 section 6.2.1), without Huffman."""
    return b"\x40" + bytes((len(name),)) + name + bytes((len(value),)) + value


def first_headers(method: bytes) -> bytes:
    """`:method: POST` and `:scheme: http` are static entries 3 and 6; the rest enters the table."""
    return (
        b"\x83\x86"
        + literal(b":path", method)
        + literal(b":authority", b"localhost")
        + literal(b"content-type", b"application/grpc")
        + literal(b"te", b"trailers")
        + literal(b"user-agent", b"quoit-bench")
    )


LATER_HEADERS = b"\x83\x86\xc2\xc1\xc0\xbf\xbe"
"""The same headers by index: the five literals are entries 66 (oldest) to 62 from then on."""

PREFACE = (
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    + frame(SETTINGS, 0, 0, b"\x00\x02" + bytes(4) + b"\x00\x04" + WINDOW.to_bytes(4, "big"))
    + frame(WINDOW_UPDATE, 0, 0, (WINDOW - 65535).to_bytes(4, "big"))
)


def message(body: bytes) -> bytes:
    """A gRPC message: not compressed, length, body."""
    return b"\x00" + len(body).to_bytes(4, "big") + body


class EtcdCommands:
    """Ready-made DATA payloads for every key. PutRequest{key=1, value=2}; RangeRequest{key=1},
    which is linearizable unless `serializable` is set."""

    def __init__(self, keys: int, writes: bool) -> None:
        names = [key_name(number) for number in range(keys)]
        self.method = KV + (b"Put" if writes else b"Range")
        key_field = b"\x0a" + bytes((KEY_BYTES,))
        if writes:
            value_field = b"\x12" + bytes((VALUE_BYTES & 127 | 128, VALUE_BYTES >> 7))
            body_bytes = 2 + KEY_BYTES + 3 + VALUE_BYTES
            head = b"\x00" + body_bytes.to_bytes(4, "big")
            self.parts = [head + key_field + name + value_field + name for name in names]
            payload_bytes = 5 + body_bytes
        else:
            self.parts = [message(key_field + name) for name in names]
            payload_bytes = 5 + 2 + KEY_BYTES
        self.data_head = payload_bytes.to_bytes(3, "big") + bytes((DATA, END_STREAM))


class EtcdClient(SeatProtocol):
    """A seat on one HTTP/2 connection, with `depth` streams in flight."""

    def __init__(self, seat: Seat, commands: EtcdCommands) -> None:
        super().__init__(seat)
        self.commands = commands
        self.stream = -1
        self.buffer = b""
        self.has_data: dict[int, bool] = {}
        self.received = 0
        later = LATER_HEADERS
        head = len(later).to_bytes(3, "big") + bytes((HEADERS, END_HEADERS))
        self.around = (head, later + commands.data_head)

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        transport.write(PREFACE)
        self.send()

    def send(self) -> None:
        seat = self.seat
        picked = seat.next_batch()
        if not picked:
            return
        parts = self.commands.parts
        head, middle = self.around
        rest = stamp(seat.index, seat.batch) if seat.writes else b""
        stream = self.stream
        pieces: list[bytes] = []
        for number in picked:
            stream += 2
            name = stream.to_bytes(4, "big")
            if stream == 1:
                first = frame(HEADERS, END_HEADERS, 1, first_headers(self.commands.method))
                pieces += (first, self.commands.data_head, name, parts[number], rest)
            else:
                pieces += (head, name, middle, name, parts[number], rest)
            self.has_data[stream] = False
        self.stream = stream
        self.transport.write(b"".join(pieces))

    def data_received(self, data: bytes) -> None:
        if self.buffer:
            data = self.buffer + data
        position, end = 0, len(data)
        has_data = self.has_data
        while end - position >= 9:
            size = int.from_bytes(data[position : position + 3], "big")
            body = position + 9
            if end - body < size:
                break
            kind, flags = data[position + 3], data[position + 4]
            stream = int.from_bytes(data[position + 5 : body], "big")
            if kind == DATA:
                self.received += size
                if not self.seat.writes and has_data.get(stream) is False:
                    self.check_value(data[body : body + size])
                has_data[stream] = True
            elif kind >= RST_STREAM:
                self.control(kind, flags, data[body : body + size])
            if (kind <= HEADERS and flags & END_STREAM) or kind == RST_STREAM:
                if not has_data.pop(stream, True):
                    self.error = "the call failed: " + repr(data[body : body + size])[:120]
            position = body + size
        self.buffer = data[position:]
        if self.received > WINDOW_RENEW_BYTES:
            self.transport.write(frame(WINDOW_UPDATE, 0, 0, self.received.to_bytes(4, "big")))
            self.received = 0
        if not has_data:
            self.finish()

    def check_value(self, payload: bytes) -> None:
        """A value must have come. Streams are answered in any order, so whose is not looked at."""
        if len(payload) < VALUE_BYTES:
            self.error = "no such key"

    def control(self, kind: int, flags: int, payload: bytes) -> None:
        if kind == SETTINGS and not flags & ACK:
            self.transport.write(frame(SETTINGS, ACK, 0))
        elif kind == PING and not flags & ACK:
            self.transport.write(frame(PING, ACK, 0, payload))
        elif kind == GOAWAY:
            self.error = f"GOAWAY {payload[8:80]!r}"


def varint(raw: bytes, position: int) -> tuple[int, int]:
    """(number, position behind it)."""
    number = shift = 0
    while True:
        byte = raw[position]
        position += 1
        number |= (byte & 127) << shift
        if byte < 128:
            return number, position
        shift += 7


def fields(raw: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The (field number, value) pairs of a protobuf message that has varints and bytes only."""
    position = 0
    while position < len(raw):
        tag, position = varint(raw, position)
        if tag & 7 == 0:
            number, position = varint(raw, position)
            yield tag >> 3, number
        elif tag & 7 == 2:
            size, position = varint(raw, position)
            yield tag >> 3, raw[position : position + size]
            position += size
        else:
            raise ValueError(f"wire type {tag & 7} is not expected here")


def call(address: tuple[str, int], method: bytes, bodies: list[bytes]) -> list[bytes]:
    """Unary calls one after the other on a blocking connection. Raises OSError or ValueError."""
    answers: list[bytes] = []
    with socket.create_connection(address, timeout=10.0) as connection:
        connection.sendall(PREFACE)
        stream = file = None
        file = connection.makefile("rb")
        for count, body in enumerate(bodies):
            stream = 2 * count + 1
            headers = first_headers(method) if count == 0 else LATER_HEADERS
            request = frame(HEADERS, END_HEADERS, stream, headers)
            connection.sendall(request + frame(DATA, END_STREAM, stream, message(body)))
            answer = b""
            while True:
                head = file.read(9)
                if len(head) < 9:
                    raise ConnectionError(f"{address} closed the connection")
                payload = file.read(int.from_bytes(head[:3], "big"))
                kind, flags = head[3], head[4]
                if kind == DATA:
                    answer += payload
                elif kind == SETTINGS and not flags & ACK:
                    connection.sendall(frame(SETTINGS, ACK, 0))
                elif kind == PING and not flags & ACK:
                    connection.sendall(frame(PING, ACK, 0, payload))
                elif kind in (GOAWAY, RST_STREAM):
                    raise ValueError(f"{method!r} was refused: {payload!r}")
                if kind <= HEADERS and flags & END_STREAM:
                    break
            if len(answer) < 5:
                raise ValueError(f"{method!r} failed")
            answers.append(answer[5:])
    return answers


def leader_and_member(address: tuple[str, int]) -> tuple[int, int]:
    """(leader's id, id of the member at `address`); leader 0: unknown. StatusResponse{header=1
    {member_id=2}, leader=4}."""
    reply = dict(fields(call(address, b"/etcdserverpb.Maintenance/Status", [b""])[0]))
    header = dict(fields(bytes(reply[1])))
    return int(reply.get(4, 0)), int(header.get(2, 0))


def fetch(address: tuple[str, int], keys: list[bytes]) -> list[bytes | None]:
    """The values of `keys`. RangeResponse{kvs=2: KeyValue{value=5}}."""
    bodies = [b"\x0a" + bytes((len(key),)) + key for key in keys]
    values: list[bytes | None] = []
    for answer in call(address, KV + b"Range", bodies):
        rows = [bytes(raw) for number, raw in fields(answer) if number == 2]
        found = dict(fields(rows[0])).get(5) if rows else None
        values.append(found if isinstance(found, bytes) else None)
    return values
