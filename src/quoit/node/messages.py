"""What nodes say to one another: one Frame per peer and turn, msgpack through msgspec.

Requests carry an id that is unique on the sending node and never reused; a reply names it. A frame
is never retransmitted by quoit: after a broken connection the outcome of what was in it is unknown.
"""

import msgspec

from quoit.base.errors import PeerFault
from quoit.detector.messages import DetectorMessage
from quoit.node.cluster.messages import NodeReport, OperationAsk, OperationTold
from quoit.node.config import PeerInfo
from quoit.paxos.messages import PaxosMessage
from quoit.quorum.agreement import SnapshotMeta
from quoit.quorum.members import Members
from quoit.raft.messages import RaftMessage

__all__ = [
    "AFTER_WRITE",
    "GENERATION_SHIFT",
    "PROTO3",
    "TRANSACTION",
    "ClusterTold",
    "ClusterVersion",
    "CoreMessage",
    "DigestAsk",
    "DigestReply",
    "DigestVerdict",
    "Forward",
    "Frame",
    "Leading",
    "NodeList",
    "ReplicaAsk",
    "ReplicaReply",
    "SnapshotAck",
    "SnapshotChunk",
    "TransactionForward",
    "decode_frame",
    "decode_transaction",
    "encode_frame",
    "encode_transaction",
]

PROTO3 = 1
"""Forward flag: the client speaks RESP3."""
TRANSACTION = 8
"""Forward flag: an EXEC; the only argument is an encoded TransactionForward."""
AFTER_WRITE = 2
"""Forward flag: this read follows an unanswered write of its session and must join the batch."""
GENERATION_SHIFT = 8
"""Above the forward flags: the generation (forwarding.py)."""

Forward = tuple[int, int, int, int, list[bytes]]
"""(request id, shard, flags, db, arguments)."""


class TransactionForward(msgspec.Struct, frozen=True, array_like=True, tag=100):
    """EXEC for the shard's leader: all or nothing in one entry."""

    request: int
    shard: int
    proto: int
    watched: list[tuple[int, bytes, int]]
    """(db, key, version) as seen by WATCH."""
    commands: list[tuple[int, list[bytes]]]
    """(db, arguments), in order."""


class SnapshotChunk(msgspec.Struct, frozen=True, array_like=True, tag=101):
    """A piece of a shard's state. Chunks come in order, the next one after an acknowledgement."""

    shard: int
    term: int
    transfer: int
    """Unique per sending node; a new transfer forgets the pieces of an older one."""
    number: int
    meta: SnapshotMeta
    data: bytes
    """Records of the engine, as a msgpack list of (key, value)."""
    state: bytes
    """The shard's state record in the last chunk, which has no records, else empty."""
    records: int
    """Number of records up to and with this chunk."""
    total: int
    """CRC32C of the data of all chunks up to and with this one."""
    check: int
    """CRC32C of this chunk (snapshots.checksum_of)."""


class SnapshotAck(msgspec.Struct, frozen=True, array_like=True, tag=102):
    """What became of a chunk: snapshots.REFUSED (the transfer is of no use here), HELD, or INSTALLED
    (all of it, durably)."""

    shard: int
    transfer: int
    number: int
    answer: int


class NodeList(msgspec.Struct, frozen=True, array_like=True, tag=103):
    """The nodes that the sender knows, told when it connects and when it learns of another."""

    own: PeerInfo
    """The sender, which knows best where its ports are."""
    others: list[PeerInfo]


class ReplicaAsk(msgspec.Struct, frozen=True, array_like=True, tag=104):
    """What has this node got of the shard?"""

    shard: int
    operation: int


class ReplicaReply(msgspec.Struct, frozen=True, array_like=True, tag=105):
    """Sent behind all that an earlier replica of the shard had to say, on the same connection."""

    shard: int
    operation: int
    applied: int
    """Its applied index; -1: it has no replica."""


class Leading(msgspec.Struct, frozen=True, array_like=True):
    """The sender leads the shard, which has these members as of the entry at config_index; they are
    agreed on. It invites nodes that hold no replica yet, and tells others that theirs is not wanted."""

    shard: int
    term: int
    config_index: int
    members: Members


CoreMessage = RaftMessage | PaxosMessage
"""What agreement cores say to one another."""


class DigestAsk(msgspec.Struct, frozen=True, array_like=True, tag=108):
    """The leader has just proposed an entry of kind DIGEST at this index."""

    shard: int
    index: int


class DigestReply(msgspec.Struct, frozen=True, array_like=True, tag=106):
    """A replica's digest of its data at an applied index."""

    shard: int
    index: int
    digest: bytes


class DigestVerdict(msgspec.Struct, frozen=True, array_like=True, tag=107):
    """The receiver's replica holds other data at this index than the majority."""

    shard: int
    index: int


class ClusterVersion(msgspec.Struct, frozen=True, array_like=True, tag=110):
    """The sender has this version of the cluster's record."""

    version: int


class ClusterTold(msgspec.Struct, frozen=True, array_like=True, tag=111):
    """The cluster's record (node/cluster/state.py)."""

    record: bytes


Other = (
    SnapshotChunk
    | SnapshotAck
    | NodeList
    | ReplicaAsk
    | ReplicaReply
    | DigestAsk
    | DigestReply
    | DigestVerdict
    | ClusterVersion
    | ClusterTold
    | DetectorMessage
    | OperationAsk
    | OperationTold
    | NodeReport
)


class Frame(msgspec.Struct, array_like=True):
    """All that one node has to say to another in one turn."""

    core: list[tuple[int, CoreMessage]]
    """(shard, message)."""
    forwards: list[Forward]
    replies: list[tuple[int, bytes]]
    """(request id, encoded RESP reply). What is too large for a frame comes in parts: any number of
    (minus the request id, part) and, as their end, (minus the request id, nothing); only the end: it
    is too large to be sent at all."""
    refused: list[tuple[int, int]]
    """(request id, leader or 0): proven not applied, ask there."""
    leading: list[Leading]
    """What the sender leads."""
    other: list[Other]
    synced: int = 0
    """Sequence of the newest durable record of the sender's log (standings.py)."""


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Frame).decode
_decode_transaction = msgspec.msgpack.Decoder(TransactionForward).decode


def encode_frame(frame: Frame) -> bytes:
    """The frame's bytes, without its length."""
    return _encode(frame)


def encode_transaction(transaction: TransactionForward) -> bytes:
    """As the only argument of a forward with TRANSACTION, so that it keeps its place among others."""
    return _encode(transaction)


def decode_transaction(payload: bytes) -> TransactionForward:
    """The transaction in `payload`; PeerFault when it is not one."""
    try:
        return _decode_transaction(payload)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise PeerFault(f"a peer sent a transaction that cannot be read: {error}") from None


def decode_frame(payload: bytes) -> Frame:
    """The frame in `payload`; PeerFault when it is not one."""
    try:
        return _decode(payload)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise PeerFault(f"a peer sent a frame that cannot be read: {error}") from None
