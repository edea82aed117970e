"""What one seed means: every choice of a run, drawn from the seed's own named streams and printed.

Each purpose has a stream of its own (`stream`), so that a new draw in one place does not shift all
others.
"""

import random
from typing import Any

import msgspec

__all__ = [
    "BY_SCENARIO",
    "CAN_CHANGE_MEMBERS",
    "FAULTS",
    "LOSING",
    "Options",
    "changed",
    "draw",
    "stream",
]

FAULTS: dict[str, str] = {
    "split": "N1 clean split into two sides",
    "oneway": "N2 one direction of a link is dead",
    "pair": "N3 two nodes cannot talk, all others can",
    "bridge": "N4 one node connects two halves, or a chain",
    "loss": "N5 frames get lost or arrive late",
    "jitter": "N6 long and uneven delays",
    "reorder": "N6 messages overtake one another",
    "hold": "N6 messages arrive seconds late",
    "duplicate": "N6 messages arrive twice, some of them much later",
    "slow_link": "N7 few bytes per second",
    "small_frames": "N8 large frames vanish",
    "reset": "N9 connections break",
    "drop_reply": "N10 a client leaves before its answer",
    "swizzle": "N11 links stop one by one and return in another order",
    "kill": "P1 a process is killed (what it had written stays)",
    "kill_all": "P1 all processes are killed",
    "crash_point": "P2 a process dies at named steps of making something durable",
    "oust": "P1 the newest leader is killed for longer than an election takes",
    "boot_fail": "P5 a process cannot start at first",
    "pause": "P3 a process stands still",
    "slow": "P4 a process gets little CPU",
    "power_cut": "D1, D2 a machine loses what was not synced, or parts of it",
    "power_cut_all": "D1 all machines at once",
    "sync_error": "D3 a sync fails once",
    "full": "D5 no room on the disk for a while",
    "readonly": "D5 the disk takes no change for a while",
    "slow_disk": "D6 a slow disk",
    "hang_disk": "D6 a disk that hangs",
    "flip": "D7 one bit of a stopped node's log or mark changes",
    "flip_data": "D7 bits of a block in a node's engine change",
    "misdirect": "D8 a page of a stopped node's log lies in another one's place",
    "stale": "D8 a page of a stopped node's log is as before it was written",
    "rollback": "D9 a directory is put back to an older copy; its node must be refused",
    "wipe": "D9 a directory is emptied; its node must be refused",
    "wall_jump": "C1 Unix time jumps",
    "drift": "C2 a clock runs faster or slower within the bound",
    "suspend": "C3 a machine sleeps and wakes",
    "chase": "N11 the newest leader is cut off, again and again",
    "rush": "O1 clients hardly think, most use one key",
    "members": "M1 a shard's replicas are added, removed or moved",
    "transfer": "a node is asked to hand its leaderships over",
    "ring": "M2 a node is drained, weighed anew or told to go; the cluster moves replicas by itself",
}
"""Fault kind -> what it does and its number in the catalogue."""


_WEIGHTS = {"crash_point": 4, "full": 2, "hold": 2, "drop_reply": 2}
"""Kinds that need more occasions than others to touch something."""


CAN_CHANGE_MEMBERS = ("raft", "paxos")
"""Protocols whose cores take changes of members."""
_DAMAGING = ("flip", "flip_data", "misdirect", "stale", "rollback", "wipe")
BY_SCENARIO = ("ring",)
"""Kinds that seeds do not draw, only scenarios name."""
LOSING = ("rollback", "wipe")
"""One node is gone for good: not where every write needs all of them."""


class Options(msgspec.Struct, kw_only=True):
    """One run. Times in virtual microseconds."""

    seed: int
    nodes: int = 3
    shards: int = 2
    founders: int = 0
    """So many nodes begin the cluster, others may join it; 0: all."""
    replication_factor: int = 3
    meta_shard: bool = True
    """The cluster keeps its record, and looks after itself by it."""
    consensus: str = "raft"
    quorum: str = "majority"
    lease: bool = True
    drift_ppm: int = 10_000
    rates_ppm: list[int] = []
    """Speed of each node's clock; empty: drawn within half of drift_ppm of true time."""
    clients: int = 8
    keys: int = 20
    operations_per_key_max: int = 60
    """Then a fresh key takes its place, so that each key's history stays small."""
    think_us: int = 60_000
    """Mean pause of a client between two operations."""
    value_bytes: int = 16
    safety_us: int = 8_000_000
    """How long faults happen."""
    fault_gap_us: int = 700_000
    """Mean time between faults."""
    fault_length_us: int = 1_500_000
    """Mean length of a fault."""
    faults: list[str] = []
    """Kinds that may happen."""
    weights: list[int] = []
    """How often each of them happens, relative to the others; empty: equally often."""
    latency_us: int = 300
    jitter_us: int = 300
    """Mean of an exponential part of each frame's delay."""
    tail_share: float = 0.0
    """Of all frames, so many take twenty times as long."""
    disk_us: int = 800
    """Mean duration of a log write with its sync."""
    election_timeout_us: int = 300_000
    heartbeat_us: int = 60_000
    tick_us: int = 20_000
    dead_after_us: int = 600_000_000
    """An unreachable node is dead after this."""
    leader_wait_us: int = 2_000_000
    outcome_wait_us: int = 1_500_000
    pending_commands_max: int = 10_000
    """Commands that a node takes in before it refuses more."""
    inflight_batches_max: int = 4
    pipelined_commands_min: int = 0
    """Fewer waiting commands make no further batch; 0: one or two, by the node's number."""
    flush_log_bytes: int = 64 * 1024 * 1024
    log_tail_entries: int = 10_000
    segment_bytes: int = 262_144
    """Size of a log segment; 0: the default."""
    snapshot_chunk_items: int = 2048
    """Records of a snapshot that are sent at a time."""
    check_each_turn: bool = True

    def line(self) -> str:
        """The choices that differ from their defaults, for people."""
        plain = msgspec.to_builtins(Options(seed=self.seed))
        mine: dict[str, Any] = msgspec.to_builtins(self)
        parts = [
            f"{name}={','.join(map(str, value)) if isinstance(value, list) else value}"
            for name, value in mine.items()
            if value != plain[name] or name in ("seed", "nodes", "shards")
        ]
        return " ".join(parts)


def stream(seed: int, name: str) -> random.Random:
    """The seed's random numbers for one purpose."""
    # A string seed is hashed with SHA-512 by `random`, so PYTHONHASHSEED does not matter.
    return random.Random(f"quoit/{seed}/{name}")


def changed(options: Options, changes: dict[str, Any]) -> Options:
    """`options` with some of them replaced; other fault kinds are equally likely unless weighted."""
    if "faults" in changes:
        changes = {"weights": [], **changes}
    return msgspec.structs.replace(options, **changes)


def draw(
    seed: int, *, nodes: int = 0, consensus: str = "raft", quorum: str = "majority"
) -> Options:
    """The options of `seed`. `nodes` fixes the size of the cluster."""
    rng = stream(seed, "options")
    size = rng.choices((3, 5, 1, 4), (80, 12, 3, 5))[0]
    size = nodes or size
    kinds = [kind for kind in FAULTS if kind not in BY_SCENARIO and rng.random() < 0.35]
    if not kinds:
        kinds = [rng.choice([kind for kind in FAULTS if kind not in BY_SCENARIO])]
    # Each seed that cuts or kills at all does so often enough to elect somebody new.
    if rng.random() < 0.7 and not any(kind in kinds for kind in ("kill", "power_cut", "split")):
        kinds.append(rng.choice(("kill", "power_cut", "split")))
    kinds = [kind for kind in FAULTS if kind in kinds]
    if consensus not in CAN_CHANGE_MEMBERS or "members" not in kinds or size == 1:
        kinds = [kind for kind in kinds if kind != "members"]
    else:
        # The atlas of damage counts on the replicas that there are at the start.
        kinds = [kind for kind in kinds if kind not in _DAMAGING]
    if quorum == "all" or size < 3:
        kinds = [kind for kind in kinds if kind not in LOSING]
    tail_share = rng.choice((0.0, 0.0, 0.01, 0.05))
    if quorum == "all" or any(kind in LOSING for kind in kinds):
        # Where one of three is gone for good, or each may lead by itself, a network that is later than
        # an election time-out all the time keeps nobody elected.
        tail_share = 0.0
    # Some faults show only where segments of the log begin and end.
    often = "full" in kinds or "crash_point" in kinds
    segments = (8_192,) if often else (8_192, 16_384, 65_536, 262_144)
    small_log = rng.random() < 0.5 or "crash_point" in kinds
    weights = [_WEIGHTS.get(kind, 1) * rng.choice((2, 2, 3, 6)) for kind in kinds]
    return Options(
        seed=seed,
        nodes=size,
        consensus=consensus,
        quorum=quorum,
        shards=rng.choices((1, 2, 3, 4), (40, 30, 15, 15))[0],
        lease=rng.random() < 0.8,
        drift_ppm=rng.choice((10_000, 10_000, 1_000, 50_000)),
        clients=rng.choice((4, 8, 8, 12)),
        keys=rng.choice((4, 10, 20)),
        think_us=rng.choice((20_000, 60_000, 60_000, 120_000)),
        value_bytes=rng.choice((8, 16, 16, 200)),
        safety_us=rng.choice((5_000_000, 7_000_000)),
        fault_gap_us=rng.choice((250_000, 500_000, 1_000_000)),
        fault_length_us=rng.choice((300_000, 1_000_000, 2_000_000)),
        faults=kinds,
        weights=weights,
        latency_us=rng.choice((100, 300, 1_000, 5_000)),
        jitter_us=rng.choice((50, 300, 2_000, 10_000)),
        tail_share=tail_share,
        inflight_batches_max=rng.choice((1, 2, 4, 4)),
        pipelined_commands_min=rng.choice((0, 0, 1, 4)),
        disk_us=rng.choice((100, 800, 800, 5_000)),
        election_timeout_us=rng.choice((150_000, 300_000, 300_000, 600_000)),
        pending_commands_max=rng.choice((2, 10_000, 10_000, 10_000, 10_000)),
        flush_log_bytes=rng.choice((4_000, 20_000)) if small_log else 64 * 1024 * 1024,
        log_tail_entries=rng.choice((0, 5, 50)) if small_log else 10_000,
        snapshot_chunk_items=rng.choice((1, 3, 10, 2048)),
        segment_bytes=rng.choice(segments),
    )
