"""Snapshots: bringing a follower forward that needs entries which were compacted (Raft section 7).

The node moves the data; the core decides who needs a snapshot and what it does to the log.
"""

from quoit.base.ids import Index, NodeId, Term
from quoit.quorum.progress import Mode, Progress
from quoit.raft.core import LEADER, Core
from quoit.raft.messages import InstallSnapshot, InstallSnapshotReply

__all__ = ["accepts", "done", "on_install", "want"]


def want(core: Core, peer: NodeId, progress: Progress) -> None:
    """Ask the node to send `peer` a snapshot; until that ends nothing else is sent to it."""
    progress.need_snapshot()
    core.trace("snapshot_wanted", node=core.id, term=core.term, follower=peer)
    core.snapshot_wanted.append(peer)
    core.has_ready = True


def done(core: Core, peer: NodeId, index: Index, ok: bool) -> bool:
    """The node's transfer of the snapshot at `index` ended. True: go on sending at once; otherwise
    the answer to the next heartbeat starts a new attempt."""
    progress = core.progress.get(peer)
    if progress is None or progress.mode is not Mode.SNAPSHOT:
        return False
    progress.snapshot_ended(index if ok else 0)
    progress.probing = not ok
    return ok


def accepts(core: Core, term: Term, index: Index) -> bool:
    """A snapshot of `index` from a leader of `term` would bring this replica forward."""
    return term >= core.term and index > core.commit_index and core.role != LEADER


def on_install(core: Core, sender: NodeId, message: InstallSnapshot, now_us: int) -> None:
    """The node holds the data of this snapshot: the state at meta.index is applied."""
    meta = message.meta
    if core.follow(sender, message.term, now_us) and meta.index > core.commit_index:
        log = core.log
        core.trace("snapshot_installed", node=core.id, term=core.term, index=meta.index)
        if log.term(meta.index) != meta.term:
            log.reset(meta.index, meta.term)
            core.handed_index = meta.index
            core.stable_index = 0  # until the reset itself is durable
            core.snapshot = meta
        # Else the log already holds that entry, and what follows it may have been acknowledged:
        # it stays (Raft figure 13, step 6).
        later = [one for one in core.configs if one[0] > meta.index]
        core.configs = [(meta.index, meta.members), *(later if core.snapshot is None else [])]
        core.set_members(core.configs[-1][1])
        core.applied_index = core.applying_index = meta.index
        core.commit_to(meta.index)
    # A stale leader learns the newer term from this, a current one how far the replica is.
    core.send_after_persist(sender, InstallSnapshotReply(core.term, core.commit_index))
