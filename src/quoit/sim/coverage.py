"""What runs have covered: faults that hit something, and transitions of nodes and cores that happened.

Coverage is the limit, not the number of seeds: a fault that is scheduled and touches nothing tests
nothing. Many runs together must reach every line of these tables at least once; one that stays at
zero means a fault, a knob or a load is missing.
"""

from collections.abc import Mapping

from quoit.sim.crash_points import POINTS
from quoit.sim.options import BY_SCENARIO, CAN_CHANGE_MEMBERS, FAULTS, LOSING

__all__ = ["ENOUGH_RUNS", "Coverage", "expected"]

ENOUGH_RUNS = 100
"""From so many runs on, nothing expected may stay at zero."""
RARE_RUNS = 500
"""Rare transitions are asked for from so many runs on."""
RARE = (
    "void", "crash commit rename segment", "crash commit allocate segment", "crash commit sync names",
    "crash snapshot installed", "crash snapshot before reset", "crash snapshot after reset",
)  # fmt: skip

CORE = (
    "pre_candidate", "candidate", "leader", "follower", "vote_refused", "quorum_lost",
    "transfer", "transfer_aborted", "snapshot_wanted", "snapshot_installed", "distrust", "healed",
)  # fmt: skip
"""Trace events that the cores of both protocols have."""
PROTOCOLS: dict[str, tuple[str, ...]] = {
    "raft": (*CORE, "truncate"),
    "paxos": (*CORE, "void"),
}
"""Protocol -> trace events of its core."""
NODE = (
    "reads_local", "reads_indexed", "forwards", "forwards_received", "parked", "refused",
    "unknown_outcomes", "busy", "flushes", "snapshots_sent", "snapshots_installed",
    "give_back", "refused_for_good", "disk_full", "disk_has_room", "disk_hangs", "disk_answers",
    "leader_known", "engine_set_aside",
)  # fmt: skip
"""Counters and trace events of the node."""

_POINT = "crash "


MEMBERS = ("members", "operation_begins", "operation_ends")
"""Trace events of changes of members."""


def expected(consensus: str, quorum: str) -> tuple[list[str], list[str]]:
    """(faults, transitions) that many runs together must cover."""
    transitions = [*PROTOCOLS[consensus], *NODE, *(_POINT + point for point in POINTS)]
    if quorum == "all":
        # Every replica accepts each write, so each may serve reads without asking anyone.
        transitions = [one for one in transitions if one != "reads_indexed"]
    can_change = consensus in CAN_CHANGE_MEMBERS
    faults = [one for one in FAULTS if (can_change or one != "members") and one not in BY_SCENARIO]
    if quorum == "all":
        transitions.remove("refused_for_good")
        faults = [one for one in faults if one not in LOSING]
    return faults, transitions + (list(MEMBERS) if can_change else [])


class Coverage:
    """Sums over runs.

    faults       fault kind -> (runs in which it hit something, how often)
    transitions  event -> (runs in which it happened, how often)
    """

    def __init__(self) -> None:
        self.runs = 0
        self.faults: dict[str, tuple[int, int]] = {}
        self.transitions: dict[str, tuple[int, int]] = {}

    def add(self, hits: Mapping[str, int], seen: Mapping[str, int]) -> None:
        """One run is over."""
        self.runs += 1
        _sum(self.faults, hits)
        _sum(self.transitions, seen)

    def missing(self, consensus: str, quorum: str) -> list[str]:
        """What should have been covered and was not."""
        faults, transitions = expected(consensus, quorum)
        return [
            *(f"fault {one}" for one in faults if not self.faults.get(one, (0, 0))[1]),
            *(
                f"transition {one}"
                for one in transitions
                if not _count(self.transitions, one) and (self.runs >= RARE_RUNS or one not in RARE)
            ),
        ]

    def table(self, consensus: str, quorum: str) -> list[str]:
        """Lines for people: name, runs, times."""
        faults, transitions = expected(consensus, quorum)
        points = [one for one in transitions if one.startswith(_POINT)]
        others = [one for one in transitions if not one.startswith(_POINT)]
        more = sorted(one for one in self.transitions if one not in transitions)
        return [
            f"covered in {self.runs} runs (runs, times):",
            *_columns("faults", faults, self.faults, 4),
            *_columns("transitions", others, self.transitions, 4),
            *_columns("crash points", points, self.transitions, 3),
            "  other counts: "
            + ", ".join(f"{one} {_count(self.transitions, one)}" for one in more),
        ]


def _count(table: Mapping[str, tuple[int, int]], name: str) -> int:
    return table.get(name, (0, 0))[1]


def _sum(table: dict[str, tuple[int, int]], counts: Mapping[str, int]) -> None:
    for name, count in counts.items():
        if count:
            runs, total = table.get(name, (0, 0))
            table[name] = (runs + 1, total + count)


def _columns(
    title: str, names: list[str], table: Mapping[str, tuple[int, int]], columns: int
) -> list[str]:
    cells = []
    width = max(map(len, names)) - (len(_POINT) if names[0].startswith(_POINT) else 0)
    for name in names:
        runs, total = table.get(name, (0, 0))
        mark = "*" if not total else " "
        cells.append(f"{name.removeprefix(_POINT):{width}}{mark}{runs:4}{total:7}")
    height = -(-len(cells) // columns)
    rows = [cells[at::height] for at in range(height)]
    return [f"  {title}", *("    " + "   ".join(row) for row in rows)]
