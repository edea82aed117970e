"""Faults of the network and of clients' connections (faults.md, N1 to N11 and O1)."""

import random

from quoit.sim.fault_base import Faults
from quoit.sim.network import Link

__all__ = ["NetworkFaults"]


class NetworkFaults(Faults):
    """See fault_base.Faults."""

    def _cut(self, kind: str, pairs: list[tuple[int, int]], length_us: int) -> None:
        network = self.world.network
        shown = ",".join(f"{sender}>{receiver}" for sender, receiver in pairs)
        self.world.note(0, "cut", links=shown, seconds=length_us / 1e6)
        for sender, receiver in pairs:
            network.cut(sender, receiver, kind)

        def end() -> None:
            for sender, receiver in pairs:
                network.mend(sender, receiver, kind)

        self._lasting(end, length_us)

    def _between(self, left: list[int], right: list[int]) -> list[tuple[int, int]]:
        return [(a, b) for a in left for b in right] + [(b, a) for a in left for b in right]

    def _do_split(self, rng: random.Random) -> None:
        nodes = self._nodes()
        if len(nodes) < 2:
            return
        rng.shuffle(nodes)
        at = rng.randrange(1, len(nodes))
        if rng.random() < 0.5:
            alone = self._one(rng).id
            nodes.remove(alone)
            nodes.insert(0, alone)
            at = 1
        self._cut("split", self._between(nodes[:at], nodes[at:]), self._length(rng))

    def _do_oneway(self, rng: random.Random) -> None:
        nodes = self._nodes()
        if len(nodes) < 2:
            return
        one = self._one(rng).id
        others = [node for node in nodes if node != one]
        if rng.random() < 0.5:
            others = [rng.choice(others)]
        if rng.random() < 0.5:
            pairs = [(one, other) for other in others]
        else:
            pairs = [(other, one) for other in others]
        self._cut("oneway", pairs, self._length(rng))

    def _do_pair(self, rng: random.Random) -> None:
        nodes = self._nodes()
        if len(nodes) >= 2:
            left, right = rng.sample(nodes, 2)
            self._cut("pair", self._between([left], [right]), self._length(rng))

    def _do_chase(self, rng: random.Random) -> None:
        self._chase(rng, rng.randrange(2, 5), [])

    def _chase(self, rng: random.Random, left: int, cut: list[tuple[int, int]]) -> None:
        """Cut off the newest leader; as soon as there is another one, that one instead."""
        network = self.world.network
        if self.stopped:
            return
        leader = self._newest_leader()
        pairs = []
        if left and leader:
            pairs = self._between([leader], [node for node in self._nodes() if node != leader])
            for sender, receiver in pairs:
                network.cut(sender, receiver, "chase")
        for sender, receiver in cut:
            network.mend(sender, receiver, "chase")
        if pairs:
            self.world.after(rng.randrange(400_000, 1_200_000), self._chase, rng, left - 1, pairs)

    def _do_bridge(self, rng: random.Random) -> None:
        nodes = self._nodes()
        if len(nodes) < 3:
            return
        rng.shuffle(nodes)
        middle = len(nodes) // 2
        if rng.random() < 0.5:
            pairs = self._between(nodes[:middle], nodes[middle + 1 :])
        else:
            pairs = [
                (nodes[a], nodes[b])
                for a in range(len(nodes))
                for b in range(len(nodes))
                if abs(a - b) > 1
            ]
        self._cut("bridge", pairs, self._length(rng))

    def _do_swizzle(self, rng: random.Random) -> None:
        links = list(self.world.network.links)
        rng.shuffle(links)
        for link in links[: len(links) * 2 // 3]:
            begin = self._spread(rng, self.options.fault_length_us // 2)
            self.world.after(begin, self._swizzle_one, link, self._length(rng))

    def _swizzle_one(self, link: tuple[int, int], length_us: int) -> None:
        if not self.stopped:
            self._cut("swizzle", [link], length_us)

    # How links treat frames

    def _links(self, rng: random.Random) -> list[Link]:
        links = list(self.world.network.links.values())
        if not links or rng.random() < 0.5:
            return links
        return rng.sample(links, rng.randrange(1, len(links) + 1))

    def _set_links(self, rng: random.Random, field: str, value: float | int) -> None:
        links = self._links(rng)
        shown = ",".join(f"{link.sender}>{link.receiver}" for link in links)
        self.world.note(0, "links", **{field: value}, links=shown)
        for link in links:
            setattr(link, field, value)

        def end() -> None:
            for link in links:
                setattr(link, field, 0)

        self._lasting(end, self._length(rng))

    def _do_loss(self, rng: random.Random) -> None:
        self._set_links(rng, "loss", rng.choice((0.01, 0.05, 0.2, 0.5)))

    def _do_jitter(self, rng: random.Random) -> None:
        # The election time-out is among them: that is where time-outs and answers race.
        self._set_links(rng, "delay_us", rng.choice((5_000, 50_000, 200_000, 400_000)))

    def _do_reorder(self, rng: random.Random) -> None:
        self._set_links(rng, "reorder", rng.choice((0.1, 0.4)))

    def _do_hold(self, rng: random.Random) -> None:
        self._set_links(rng, "hold", rng.choice((0.02, 0.1)))

    def _do_duplicate(self, rng: random.Random) -> None:
        self._set_links(rng, "repeat", rng.choice((0.05, 0.3)))

    def _do_slow_link(self, rng: random.Random) -> None:
        self._set_links(rng, "bytes_per_s", rng.choice((5_000, 20_000, 100_000)))

    def _do_small_frames(self, rng: random.Random) -> None:
        self._set_links(rng, "bytes_max", rng.choice((60, 150, 400)))

    def _do_reset(self, rng: random.Random) -> None:
        for link in self._links(rng):
            self.world.network.reset(link)

    # Clients

    def _do_drop_reply(self, rng: random.Random) -> None:
        workload = self.world.workload
        workload.drop_replies = rng.choice((0.1, 0.5))

        def end() -> None:
            workload.drop_replies = 0.0

        self._lasting(end, self._length(rng))

    def _do_rush(self, rng: random.Random) -> None:
        workload = self.world.workload
        workload.rush = rng.choice((10, 50))
        workload.hot = rng.randrange(0, self.options.keys) if rng.random() < 0.5 else -1

        def end() -> None:
            workload.rush, workload.hot = 1, -1

        self._lasting(end, min(self._length(rng), 400_000))
