"""How two nodes recognise each other before anything else is read.

    dialer   -> Hello(protocol, cluster id, from, to, nonce, agreement, first map, standing)
    acceptor -> Welcome(nonce, proof over all of the Hello, its own nonce, standing and refusal)
    dialer   -> Proof(the same, as "dialer")

A standing says how far the sender's log is durable (node/standings.py). Who refuses the other one's says why,
in the Welcome, which the other can trust because of the proof.

A proof is HMAC-SHA256 (RFC 2104) with the cluster's secret as key. Nonces are 16 fresh random
bytes of each side, so that a recorded handshake cannot be replayed. It authenticates the connection
when it is made; it does not encrypt it: use a trusted network until TLS arrives.
"""

import hashlib
import hmac

import msgspec

from quoit.base.errors import PeerFault

__all__ = ["HELLO_BYTES_MAX", "PROTOCOL", "Hello", "Proof", "Welcome", "decode", "proof_of"]

PROTOCOL = 4
HELLO_BYTES_MAX = 1024


class Hello(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """The dialer introduces itself."""

    protocol: int
    cluster_id: str
    sender: int
    receiver: int
    nonce: bytes
    agreement: str
    """The protocol that keeps the shards' logs."""
    first_map: str
    """A checksum of what the first placement follows from."""
    standing: tuple[int, int, int]
    """(directory, life, began)."""


class Welcome(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """The acceptor proves that it knows the secret."""

    nonce: bytes
    proof: bytes
    standing: tuple[int, int, int]
    refusal: str = ""
    """Why the dialer must stop; empty: it is welcome."""


class Proof(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """The dialer proves it too."""

    proof: bytes


_decoder: msgspec.msgpack.Decoder[Hello | Welcome | Proof] = msgspec.msgpack.Decoder(
    Hello | Welcome | Proof
)


def decode(payload: bytes) -> Hello | Welcome | Proof:
    """The handshake message in `payload`; PeerFault when it is none."""
    try:
        return _decoder.decode(payload)
    except (msgspec.MsgspecError, ValueError) as error:
        raise PeerFault(f"not a handshake: {error}") from None


def proof_of(
    secret: bytes,
    role: str,
    hello: Hello,
    acceptor_nonce: bytes,
    standing: tuple[int, int, int],
    refusal: str,
) -> bytes:
    """The proof of `role` ("dialer" or "acceptor") for this handshake. standing, refusal: the acceptor's."""
    parts = [
        b"quoit peer",
        role.encode(),
        hello.cluster_id.encode(),
        hello.agreement.encode(),
        hello.first_map.encode(),
        hello.protocol.to_bytes(4, "big"),
        hello.sender.to_bytes(4, "big"),
        hello.receiver.to_bytes(4, "big"),
        hello.nonce,
        acceptor_nonce,
        *(number.to_bytes(8, "big") for number in (*hello.standing, *standing)),
        refusal.encode(),
    ]
    # Lengths keep two different lists of parts from joining to the same bytes.
    message = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
    return hmac.new(secret, message, hashlib.sha256).digest()
