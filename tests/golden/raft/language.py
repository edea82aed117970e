"""The little language of the golden scripts: one command a line, its output below `----`.

add-nodes N [setting=VALUE]   N fresh replicas on one bus; voters=V: the first V of them are the members
add-node                      one more, which nobody knows yet
change I V,V... [L,L...]      I is asked to make these the voters (and learners)
members                       a line per replica: by which members it goes
campaign I                    time goes on until I's patience ends; only I looks at the clock
tick MS [I...]                time goes on; those named (default: all) look at the clock
propose I TEXT                I is asked to append
read I ID                     I is asked for a read's proof
persist I [COUNT]             I's oldest writes (default: all) become durable
deliver [FROM->TO] [KIND]     messages on the bus now reach their receivers, oldest first
drop [FROM->TO] [KIND]        messages on the bus now are lost
hold NAME [FROM->TO] [KIND]   messages are taken from the bus and kept under a name
release NAME                  put a copy of what was held back on the bus
bus                           what is on the bus
crash I, restart I [damaged REACH TERM]
transfer I TO
compact I INDEX
lease I                       is I's lease valid now?
isolate I                     everything to and from I is dropped from now on, `heal` ends it
stabilize [quiet]             persist and deliver until nothing is under way
status                        a line per replica
"""

from typing import Any

from quoit.base.errors import BadRequest, NotLeader
from quoit.base.ids import NodeId
from quoit.quorum.agreement import Ready
from quoit.quorum.members import Members
from quoit.raft.describe import describe_core, describe_members, describe_message, describe_ready

from .cluster import Cluster, Message


class Script:
    """Runs commands and collects their output."""

    def __init__(self) -> None:
        self.cluster: Cluster | None = None
        self.lines: list[str] = []
        self.held: dict[str, list[Message]] = {}
        self.cut: list[NodeId] = []
        self.lost_kinds: list[str] = []

    def run(self, command: str) -> str:
        """The output of one command."""
        self.lines = []
        name, *words = command.split()
        getattr(self, "do_" + name.replace("-", "_"))(words)
        self._lose()
        return "\n".join(self.lines) or "ok"

    @property
    def world(self) -> Cluster:
        assert self.cluster is not None, "the script must begin with add-nodes"
        return self.cluster

    def _ready(self, node_id: NodeId, ready: Ready) -> None:
        for line in describe_ready(ready):
            self.lines.append(f"  {node_id}: {line}")

    def _lose(self) -> None:
        if self.cluster is not None:
            self.world.bus = [
                one
                for one in self.world.bus
                if one[0] not in self.cut
                and one[1] not in self.cut
                and type(one[2]).__name__ not in self.lost_kinds
            ]

    def _take(self, words: list[str]) -> list[Message]:
        """Remove and return the messages that the words choose."""
        route = next((word for word in words if "->" in word), None)
        kind = next((word for word in words if "->" not in word), None)

        def chosen(message: Message) -> bool:
            sender, to, body = message
            if route is not None and route not in (f"{sender}->{to}", f"*->{to}", f"{sender}->*"):
                return False
            return kind is None or type(body).__name__ == kind

        bus = self.world.bus
        self.world.bus = [message for message in bus if not chosen(message)]
        return [message for message in bus if chosen(message)]

    def _show(self, message: Message) -> str:
        sender, to, body = message
        return f"{sender}->{to} {describe_message(body)}"

    # Commands

    def do_add_nodes(self, words: list[str]) -> None:
        settings: dict[str, Any] = {}
        for word in words[1:]:
            name, _, value = word.partition("=")
            settings[name] = int(value)
        self.cluster = Cluster(int(words[0]), on_ready=self._ready, **settings)

    def do_campaign(self, words: list[str]) -> None:
        self.world.campaign(int(words[0]))
        if "quiet" in words:
            self.lines = []

    def do_elect(self, words: list[str]) -> None:
        self.world.campaign(int(words[0]))
        self.do_stabilize([])
        raft = self.world.members[int(words[0])].raft
        self.lines = [f"{words[0]} is {raft.role} of term {raft.term}"]

    def do_wait(self, words: list[str]) -> None:
        self.world.now_us += int(words[0]) * 1000

    def do_tick(self, words: list[str]) -> None:
        self.world.now_us += int(words[0]) * 1000
        for node_id in [int(word) for word in words[1:]] or list(self.world.members):
            self.world.tick(node_id)

    def do_propose(self, words: list[str]) -> None:
        try:
            index, term = self.world.propose(int(words[0]), words[1].encode())
        except NotLeader as refusal:
            self.lines.append(f"refused: {refusal}")
        else:
            self.lines.insert(0, f"at {index}/{term}")

    def do_add_node(self, words: list[str]) -> None:
        self.lines.append(f"node {self.world.add_node()}")

    def do_change(self, words: list[str]) -> None:
        lists = [tuple(int(one) for one in word.split(",")) for word in words[1:]]
        try:
            index = self.world.change(int(words[0]), Members(*lists))
        except (NotLeader, BadRequest) as refusal:
            self.lines.append(f"refused: {refusal}")
        else:
            self.lines.insert(0, f"at {index}")

    def do_members(self, words: list[str]) -> None:
        for node_id, member in self.world.members.items():
            if member.core is not None:
                self.lines.append(f"{node_id}: {describe_members(member.core.members)}")

    def do_read(self, words: list[str]) -> None:
        node_id, *read_ids = [int(word) for word in words]
        for read_id in read_ids:
            self.world.members[node_id].raft.read(read_id, self.world.now_us)
        self.world.drain(node_id)

    def do_persist(self, words: list[str]) -> None:
        node_id, *count = [int(word) for word in words]
        self.world.persist(node_id, *count)

    def do_deliver(self, words: list[str]) -> None:
        for message in self._take(words):
            self.lines.append(self._show(message))
            self.world.deliver(message)

    def do_drop(self, words: list[str]) -> None:
        self.lines.extend("lost " + self._show(message) for message in self._take(words))

    def do_hold(self, words: list[str]) -> None:
        self.held[words[0]] = taken = self._take(words[1:])
        self.lines.extend("held " + self._show(message) for message in taken)

    def do_release(self, words: list[str]) -> None:
        self.world.bus.extend(self.held[words[0]])

    def do_bus(self, words: list[str]) -> None:
        self.lines.extend(self._show(message) for message in self.world.bus)

    def do_crash(self, words: list[str]) -> None:
        self.world.crash(int(words[0]))

    def do_restart(self, words: list[str]) -> None:
        damage: dict[str, Any] = {}
        if "damaged" in words:
            damage = {"damaged": True, "must_reach": int(words[2]), "must_term": int(words[3])}
        self.world.restart(int(words[0]), **damage)

    def do_wipe(self, words: list[str]) -> None:
        disk = self.world.members[int(words[0])].disk
        del disk.log[int(words[1]) - disk.compacted[0] :]

    def do_transfer(self, words: list[str]) -> None:
        node_id, to = int(words[0]), int(words[1])
        self.world.members[node_id].raft.transfer(to, self.world.now_us)
        self.world.drain(node_id)

    def do_compact(self, words: list[str]) -> None:
        self.world.compact(int(words[0]), int(words[1]))

    def do_lease(self, words: list[str]) -> None:
        valid = self.world.members[int(words[0])].raft.lease_valid(self.world.now_us)
        self.lines.append("valid" if valid else "none")

    def do_isolate(self, words: list[str]) -> None:
        self.cut = [int(word) for word in words]

    def do_lose(self, words: list[str]) -> None:
        self.lost_kinds.append(words[0])

    def do_heal(self, words: list[str]) -> None:
        self.cut = []
        self.lost_kinds = []

    def do_stabilize(self, words: list[str]) -> None:
        for _ in range(100):
            for member in self.world.members.values():
                if member.core is not None and member.writes:
                    self.lines.append(f"persist {member.id}")
                    self.world.persist(member.id)
            self._lose()
            if not self.world.bus:
                break
            self.do_deliver([])
        else:
            raise AssertionError("the cluster does not come to rest")
        if "quiet" in words:
            self.lines = []

    def do_status(self, words: list[str]) -> None:
        for node_id, member in self.world.members.items():
            what = "down" if member.core is None else describe_core(member.core)
            self.lines.append(f"{node_id}: {what}")


def render(text: str) -> str:
    """Run a script and return it with the outputs that it gives now."""
    script = Script()
    blocks: list[str] = []
    for block in text.strip().split("\n\n"):
        head, _, _ = block.partition("\n----\n")
        output: list[str] = []
        for line in head.splitlines():
            if line and not line.startswith("#"):
                output.append(script.run(line))
        blocks.append(head if not output else f"{head}\n----\n" + "\n".join(output))
    return "\n\n".join(blocks) + "\n"
