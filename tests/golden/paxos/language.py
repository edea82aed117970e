"""The little language of the Paxos scripts: one command a line, its output below `----`.

add-nodes N [SETTING=VALUE]   N replicas on one bus; voters=V: the first V are the members; quorum=all
change I V,V... [L,L...]      I is asked to make these the voters (and learners)
join I                        replica I begins, with an empty disk
members                       a line per replica: by which members it goes
campaign I                    time goes on until I's patience ends; only I looks at the clock
elect I                       the same, and everything works until it leads
tick MS [I...]                time goes on; those named (default: all) look at the clock
propose I TEXT                I is asked to propose
read I ID                     I is asked for a read's proof
persist I                     I's writes become durable
deliver [FROM->TO] [KIND]     messages on the bus now reach their receivers, oldest first
drop [FROM->TO] [KIND]        messages on the bus now are lost
hold NAME [FROM->TO] [KIND]   messages are taken from the bus and kept under a name
release NAME                  put a copy of what was held back on the bus
bus                           what is on the bus
crash I, restart I            what was not persisted is gone
forget I COUNT                I crashes and loses its newest COUNT synced entries; it knows that
transfer I TO
flush I                       I's engine is durable as it is
compact I                     the same, and its log forgets what that covers
lease I                       may I read by itself now?
isolate I...                  everything to and from them is dropped from now on, `heal` ends it
run MS [quiet]                everything works for a while
stabilize [quiet]             persist and deliver until nothing is under way
status                        a line per replica
state                         what each has applied; `-` had no effect
"""

from typing import Any

from quoit.base.errors import BadRequest, NotLeader
from quoit.quorum.agreement import Ready
from quoit.quorum.members import Members
from tests.cores.world import Member, Message, World

from . import describe


class Told(World):
    """A World that says what each replica does."""

    def __init__(self, lines: list[str], count: int, **settings: Any) -> None:
        self.lines = lines
        self.cut: list[int] = []
        super().__init__(count, seed=1, **settings)

    def deliver(self, message: Message) -> None:
        if message[0] not in self.cut and message[1] not in self.cut:
            super().deliver(message)

    def _take(self, member: Member, core: Any, ready: Ready) -> None:
        self.lines.extend(f"  {member.id}: {line}" for line in describe.ready(ready))
        super()._take(member, core, ready)


class Script:
    """Runs commands and collects their output."""

    def __init__(self) -> None:
        self.world: Told
        self.lines: list[str] = []
        self.held: dict[str, list[Message]] = {}

    def run(self, command: str) -> str:
        """The output of one command."""
        self.lines.clear()
        name, *words = command.split()
        getattr(self, "do_" + name.replace("-", "_"))(words)
        self._lose()
        return "\n".join(self.lines) or "ok"

    def _lose(self) -> None:
        world = self.world
        cut = world.cut
        world.bus = [one for one in world.bus if one[0] not in cut and one[1] not in cut]

    def _take(self, words: list[str]) -> list[Message]:
        """Remove and return the messages that the words choose."""
        route = next((word for word in words if "->" in word), None)
        kind = next((word for word in words if "->" not in word), None)

        def chosen(one: Message) -> bool:
            sender, to, body = one
            if route is not None and route not in (f"{sender}->{to}", f"*->{to}", f"{sender}->*"):
                return False
            return kind is None or describe.message(body).split(" ")[0] == kind

        taken = [one for one in self.world.bus if chosen(one)]
        self.world.bus = [one for one in self.world.bus if not chosen(one)]
        return taken

    def _show(self, one: Message) -> str:
        sender, to, body = one
        return f"{sender}->{to} {describe.message(body)}"

    # Commands

    def do_add_nodes(self, words: list[str]) -> None:
        settings: dict[str, Any] = {}
        for word in words[1:]:
            name, _, value = word.partition("=")
            settings[name] = int(value) if value.isdigit() else value
        self.world = Told(self.lines, int(words[0]), **settings)

    def do_campaign(self, words: list[str]) -> None:
        number = int(words[0])
        core = self.world.members[number].up
        self.world.now_us = max(self.world.now_us, core.election_us)
        self.world.tick(number)

    def do_elect(self, words: list[str]) -> None:
        self.do_campaign(words)
        self.do_stabilize([])
        core = self.world.members[int(words[0])].up
        self.lines[:] = [f"{words[0]} is {core.role} of {describe.ballot(core.term)}"]

    def do_tick(self, words: list[str]) -> None:
        self.world.now_us += int(words[0]) * 1000
        for number in [int(word) for word in words[1:]] or list(self.world.members):
            self.world.tick(number)

    def do_run(self, words: list[str]) -> None:
        self.world.run(int(words[0]) * 1000)
        if "quiet" in words:
            self.lines.clear()

    def do_propose(self, words: list[str]) -> None:
        number = int(words[0])
        try:
            index, term = self.world.members[number].up.propose(
                words[1].encode(), self.world.now_us
            )
        except NotLeader as refusal:
            self.lines.append(f"refused: {refusal}")
        else:
            self.lines.append(f"at {index}@{describe.ballot(term)}")
        self.world.drain(number)

    def do_change(self, words: list[str]) -> None:
        lists = [tuple(int(one) for one in word.split(",")) for word in words[1:]]
        number = int(words[0])
        try:
            index = self.world.members[number].up.change(Members(*lists), self.world.now_us)
        except (NotLeader, BadRequest) as refusal:
            self.lines.append(f"refused: {refusal}")
        else:
            self.lines.append(f"at {index}")
        self.world.drain(number)

    def do_join(self, words: list[str]) -> None:
        self.world.start(int(words[0]))

    def do_members(self, words: list[str]) -> None:
        for number, member in self.world.members.items():
            if member.core is not None:
                self.lines.append(f"{number}: {describe.members(member.core.members)}")

    def do_read(self, words: list[str]) -> None:
        number, read_id = map(int, words)
        self.world.members[number].up.read(read_id, self.world.now_us)
        self.world.drain(number)

    def do_persist(self, words: list[str]) -> None:
        self.world.persist(int(words[0]))

    def do_deliver(self, words: list[str]) -> None:
        for one in self._take(words):
            self.lines.append(self._show(one))
            self.world.deliver(one)

    def do_drop(self, words: list[str]) -> None:
        self.lines.extend("lost " + self._show(one) for one in self._take(words))

    def do_hold(self, words: list[str]) -> None:
        self.held[words[0]] = taken = self._take(words[1:])
        self.lines.extend("held " + self._show(one) for one in taken)

    def do_release(self, words: list[str]) -> None:
        self.world.bus.extend(self.held[words[0]])

    def do_bus(self, words: list[str]) -> None:
        self.lines.extend(self._show(one) for one in self.world.bus)

    def do_crash(self, words: list[str]) -> None:
        self.world.crash(int(words[0]))

    def do_restart(self, words: list[str]) -> None:
        self.world.start(int(words[0]))

    def do_forget(self, words: list[str]) -> None:
        self.world.forget(int(words[0]), int(words[1]))

    def do_transfer(self, words: list[str]) -> None:
        number, to = map(int, words)
        self.world.members[number].up.transfer(to, self.world.now_us)
        self.world.drain(number)

    def do_flush(self, words: list[str]) -> None:
        self.world.flush(int(words[0]))

    def do_compact(self, words: list[str]) -> None:
        self.world.flush(int(words[0]))
        self.world.compact(int(words[0]))

    def do_lease(self, words: list[str]) -> None:
        valid = self.world.members[int(words[0])].up.lease_valid(self.world.now_us)
        self.lines.append("yes" if valid else "no")

    def do_isolate(self, words: list[str]) -> None:
        self.world.cut = [int(word) for word in words]

    def do_heal(self, words: list[str]) -> None:
        self.world.cut = []

    def do_stabilize(self, words: list[str]) -> None:
        for _ in range(200):
            for number, member in self.world.members.items():
                if member.core is not None and member.writes:
                    self.lines.append(f"persist {number}")
                    self.world.persist(number)
            self._lose()
            if not self.world.bus:
                break
            self.do_deliver([])
        else:
            raise AssertionError("the replicas do not come to rest")
        if "quiet" in words:
            self.lines.clear()

    def do_status(self, words: list[str]) -> None:
        for number, member in self.world.members.items():
            what = "down" if member.core is None else describe.core(member.core)
            self.lines.append(f"{number}: {what}")

    def do_state(self, words: list[str]) -> None:
        for number, member in self.world.members.items():
            what = " ".join(data.decode() or "-" for _, _, data in member.state.applied)
            self.lines.append(f"{number}: {what}")


def render(text: str) -> str:
    """Run a script and return it with the outputs that it gives now."""
    script = Script()
    blocks: list[str] = []
    for block in text.strip().split("\n\n"):
        head, _, _ = block.partition("\n----\n")
        output = [script.run(line) for line in head.splitlines() if line and line[0] != "#"]
        blocks.append(head if not output else f"{head}\n----\n" + "\n".join(output))
    return "\n\n".join(blocks) + "\n"
