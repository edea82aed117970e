"""Election safety and leader completeness (Raft, figure 3), watched from outside.

The world reports each leadership it sees and each entry that a replica applies; both checks keep
only a few numbers per shard.
"""

__all__ = ["ElectionChecker"]


class ElectionChecker:
    """At most one leader per shard and term; a new leader's log holds every committed entry.

    leaders    (shard, term) -> node
    committed  shard -> (index, term of the entry, term in which it was known to be committed) of
               the highest entry that any replica applied
    changes    leaderships seen
    """

    def __init__(self) -> None:
        self.leaders: dict[tuple[int, int], int] = {}
        self.committed: dict[int, tuple[int, int, int]] = {}
        self.changes = 0

    def leads(self, shard: int, term: int, node: int) -> str:
        """`node` leads. A problem, or ""."""
        other = self.leaders.setdefault((shard, term), node)
        if other != node:
            return f"two leaders in shard {shard}, term {term}: nodes {other} and {node}"
        return ""

    def is_new(self, shard: int, term: int) -> bool:
        """Nobody was seen to lead in this term yet."""
        return (shard, term) not in self.leaders

    def applied(self, shard: int, index: int, entry_term: int, node_term: int) -> None:
        """A replica whose term is `node_term` applied an entry: so it is committed."""
        known = self.committed.get(shard)
        if known is None or index > known[0]:
            self.committed[shard] = (index, entry_term, node_term)

    def complete(
        self, shard: int, term: int, node: int, first_index: int, term_there: int | None
    ) -> str:
        """`node` begins to lead in `term`; its log starts at `first_index` and has an entry of
        `term_there` (None: no such entry) at the highest committed index. A problem, or ""."""
        index, entry_term, known_in = self.committed.get(shard, (0, 0, 0))
        # Why `>=`: what is committed in the same or a later term this leader may not know of.
        if not index or not entry_term or known_in >= term or index < first_index:
            return ""
        if term_there == entry_term:
            return ""
        return (
            f"node {node} leads shard {shard} in term {term} without the committed entry "
            f"{index} of term {entry_term} (it has term {term_there} there)"
        )

    def committed_index(self, shard: int) -> int:
        """The highest index that any replica applied."""
        return self.committed.get(shard, (0, 0, 0))[0]
