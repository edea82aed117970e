"""Changing the members one voter at a time (Ongaro's thesis, section 4.1).

A majority of the old voters and one of the new share a replica as long as the two lists differ by one, so a
CONFIG entry counts from the moment it is appended, at leaders and followers alike, and no more if it is
truncated (core.py keeps the stack). Two rules keep that true over changes of leader (Ongaro on
raft-dev, 10 July 2015): a leader proposes no change before an entry of its own term is committed, nor
before the last change is. docs/decisions/0010-single-server-change-for-raft.md argues the choice.
"""

from quoit.base.errors import BadRequest, NotLeader
from quoit.base.ids import Index
from quoit.quorum.agreement import CONFIG
from quoit.quorum.members import Members, encode_members
from quoit.raft.core import LEADER, Core
from quoit.raft.messages import TimeoutNow
from quoit.raft.replication import append, broadcast_heartbeat

__all__ = ["change", "settle"]


def change(core: Core, members: Members, now_us: int) -> Index:
    """Propose other members. NotLeader, BadRequest: nothing was proposed."""
    if core.role != LEADER:
        raise NotLeader(core.leader)
    members.check()
    if core.transfer_to:
        raise BadRequest("leadership is being handed over; try again soon")
    if core.commit_index < core.term_start:
        raise BadRequest("this leader is new and has committed nothing yet; try again soon")
    if core.configs[-1][0] > core.commit_index:
        raise BadRequest("an earlier change of members is under way; try again soon")
    old, new = core.members.voters, members.voters
    different = [one for one in old if one not in new] + [one for one in new if one not in old]
    if len(different) > 1:
        raise BadRequest(f"one voter at a time can change, not {len(different)}: {different}")
    return append(core, encode_members(members), CONFIG, now_us)


def settle(core: Core, now_us: int) -> None:
    """Leader: a change is committed. Everybody hears of it at once, also who was removed, for the last
    time. A leader that was removed itself goes, and asks the one that is furthest to take over."""
    core.members_settled = True
    broadcast_heartbeat(core, core.rounds.start(now_us), now_us)
    everyone = core.members.everyone
    core.progress = {peer: one for peer, one in core.progress.items() if peer in everyone}
    core.count_voters()
    if core.id in core.members.voters:
        return
    core.trace("removed", node=core.id, term=core.term)
    heirs = [peer for peer in core.members.voters if peer in core.progress]
    if heirs:
        best = max(heirs, key=lambda peer: (core.progress[peer].match_index, -peer))
        core.send(best, TimeoutNow(core.term))
    core.become_follower(core.term, 0, now_us)
