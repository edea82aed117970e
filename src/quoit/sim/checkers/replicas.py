"""State machine safety: replicas apply the same entries, and hold equal data at equal applied index.

The second part is what catches effects that were applied twice, in part, or differently: it compares
the data in the engines, not the log.
"""

from collections.abc import Iterable
from hashlib import blake2b
from zlib import crc32

__all__ = ["ReplicaChecker", "digest"]


def digest(pairs: Iterable[tuple[bytes, bytes]]) -> bytes:
    """A hash of a shard's data in order."""
    state = blake2b(digest_size=16)
    for key, value in pairs:
        state.update(len(key).to_bytes(4, "big") + key + len(value).to_bytes(4, "big") + value)
    return state.digest()


class ReplicaChecker:
    """What each replica applied and what it then held.

    entries   (shard, index) -> (term, checksum of the data, node that applied it first)
    digests   (shard, applied index) -> (digest, node that had it first)
    compared  digests that were compared with one of another node or of an earlier life
    """

    def __init__(self) -> None:
        self.entries: dict[tuple[int, int], tuple[int, int, int]] = {}
        self.digests: dict[tuple[int, int], tuple[bytes, int]] = {}
        self.compared = 0

    def applied(self, node: int, shard: int, index: int, term: int, data: bytes) -> str:
        """A node applies an entry. A problem, or ""."""
        mark = (term, crc32(data), node)
        first = self.entries.setdefault((shard, index), mark)
        if first[:2] != mark[:2]:
            return (
                f"shard {shard}, index {index}: node {first[2]} applied an entry of term {first[0]}, "
                f"node {node} another one of term {term}"
            )
        return ""

    def holds(self, node: int, shard: int, index: int, value: bytes) -> str:
        """A node's data at an applied index. A problem, or ""."""
        first = self.digests.get((shard, index))
        if first is None:
            self.digests[shard, index] = (value, node)
            return ""
        self.compared += 1
        if first[0] != value:
            return (
                f"shard {shard}: nodes {first[1]} and {node} hold different data at applied "
                f"index {index}"
            )
        return ""
