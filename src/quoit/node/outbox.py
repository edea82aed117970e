"""What a turn has to say to each peer, gathered into frames of bounded size.

Elections, heartbeats and acknowledgements are small and must not wait behind values; when there is
much to send they go into a frame of their own that may overtake (Raft's messages may be reordered).
What failure detectors say is never in an ordinary frame. Forwarded commands always share the ordinary
stream, because a client's pipeline has an order.
"""

from quoit.base import limits
from quoit.node.messages import Frame, Other, encode_frame
from quoit.paxos.messages import Accept, Promise
from quoit.raft.messages import AppendEntries

__all__ = ["Outbox"]


class Outbox:
    """Frames being filled, by peer.

    overtaking  peer -> messages that may overtake all else
    synced      what each frame says of this node's log
    """

    __slots__ = ("frames", "overtaking", "synced")

    def __init__(self) -> None:
        self.frames: dict[int, Frame] = {}
        self.overtaking: dict[int, list[Other]] = {}
        self.synced = 0

    def outgoing(self, peer: int) -> Frame:
        """The frame being filled for `peer`."""
        frame = self.frames.get(peer)
        if frame is None:
            frame = self.frames[peer] = Frame([], [], [], [], [], [])
        return frame

    def overtake(self, peer: int, message: Other) -> None:
        """Send a small message that need not arrive, and has no order among others."""
        self.overtaking.setdefault(peer, []).append(message)

    def drop(self, peer: int) -> None:
        """Forget what was to be sent to `peer`: its connection broke."""
        self.frames.pop(peer, None)
        self.overtaking.pop(peer, None)

    def drain(
        self, connected: dict[int, int]
    ) -> tuple[list[tuple[int, bytes]], list[tuple[int, bytes]]]:
        """All frames as (ordinary, urgent) lists of (peer, payload); what is meant for a peer that
        is not connected is lost, as it would be on the way."""
        ordinary: list[tuple[int, bytes]] = []
        urgent: list[tuple[int, bytes]] = []
        for peer, frame in self.frames.items():
            if peer not in connected:
                continue
            frame.synced = self.synced
            payload = encode_frame(frame)
            if len(payload) <= limits.FRAME_BYTES_SOFT:
                ordinary.append((peer, payload))
                continue
            small = [pair for pair in frame.core if not _bulky(pair[1])]
            if small:
                urgent.append((peer, encode_frame(Frame(small, [], [], [], [], [], self.synced))))
                frame.core = [pair for pair in frame.core if _bulky(pair[1])]
            _split(peer, frame, ordinary)
        for peer, messages in self.overtaking.items():
            if peer in connected:
                urgent.append(
                    (peer, encode_frame(Frame([], [], [], [], [], messages, self.synced)))
                )
        self.frames = {}
        self.overtaking = {}
        return ordinary, urgent


def _bulky(message: object) -> bool:
    return isinstance(message, (AppendEntries, Accept, Promise)) and bool(message.entries)


def _split(peer: int, frame: Frame, into: list[tuple[int, bytes]]) -> None:
    """Encode `frame` in pieces of at most about FRAME_BYTES_SOFT, keeping each list's order."""
    total = sum(
        len(part)
        for part in (
            frame.core, frame.forwards, frame.replies, frame.refused, frame.leading, frame.other,
        )
    )  # fmt: skip
    # A lower bound that costs nothing: much that is to be cut is not encoded at each cut.
    surely = sum(len(reply) for _, reply in frame.replies)
    if total <= 1 or surely <= limits.FRAME_BYTES_SOFT:
        payload = encode_frame(frame)
        if total <= 1 or len(payload) <= limits.FRAME_BYTES_SOFT:
            into.append((peer, payload))
            return
    first = Frame([], [], [], [], [], [], frame.synced)
    second = Frame([], [], [], [], [], [], frame.synced)
    taken = 0
    for source, low, high in (
        (frame.core, first.core, second.core),
        (frame.forwards, first.forwards, second.forwards),
        (frame.replies, first.replies, second.replies),
        (frame.refused, first.refused, second.refused),
        (frame.leading, first.leading, second.leading),
        (frame.other, first.other, second.other),
    ):
        room = max(0, total // 2 - taken)
        low.extend(source[:room])  # type: ignore[arg-type]
        high.extend(source[room:])  # type: ignore[arg-type]
        taken += min(room, len(source))
    _split(peer, first, into)
    _split(peer, second, into)
