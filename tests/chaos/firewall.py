"""Faults of the network by nftables, in a network namespace of our own: one set for each fault, one
element for each direction of a pair of nodes. Changes are atomic and hit established connections."""

import json
import subprocess

__all__ = ["Firewall"]

TABLE = "inet chaos"
RULES = {
    "cut": "counter drop",
    "lossy": "numgen random mod 100 < 30 counter drop",
    "thin": "meta length > 1000 counter drop",
}
"""Set -> what happens to packets of its pairs: all lost, 30 % lost, large ones lost."""


class Firewall:
    """RuntimeError when nftables cannot be used here."""

    def __init__(self) -> None:
        lines = [f"add table {TABLE}",
                 f"add chain {TABLE} into {{ type filter hook input priority 0 ; }}"]  # fmt: skip
        for name, rule in RULES.items():
            lines.append(f"add set {TABLE} {name} {{ type ipv4_addr . ipv4_addr ; }}")
            lines.append(f"add rule {TABLE} into ip saddr . ip daddr @{name} {rule}")
        try:
            _nft("\n".join(lines))
        except (OSError, subprocess.CalledProcessError) as error:
            raise RuntimeError(f"nftables cannot be used: {error}") from None

    def add(self, name: str, pairs: list[tuple[str, str]]) -> None:
        """Begin the fault on these directions (from address, to address)."""
        _nft(f"add element {TABLE} {name} {{ {_elements(pairs)} }}")

    def heal(self) -> None:
        """End every fault."""
        _nft("\n".join(f"flush set {TABLE} {name}" for name in RULES))

    def dropped(self) -> int:
        """Packets that faults took so far."""
        found = json.loads(_nft("", "-j", "list", "table", *TABLE.split()))
        return sum(
            part["counter"]["packets"]
            for one in found["nftables"]
            for part in one.get("rule", {}).get("expr", [])
            if "counter" in part
        )


def _elements(pairs: list[tuple[str, str]]) -> str:
    return ", ".join(f"{source} . {target}" for source, target in pairs)


def _nft(script: str, *words: str) -> str:
    command = ["nft", *words] if words else ["nft", "-f", "-"]
    done = subprocess.run(command, input=script, capture_output=True, text=True, check=True)
    return done.stdout
