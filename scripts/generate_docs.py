"""Writes docs/reference/commands.md from the table of commands. `--check` only compares.

PYTHONPATH=src python scripts/generate_docs.py [--check]
"""

import sys
from pathlib import Path

# Why both: importing them fills the table.
import quoit.data
import quoit.gateways.resp.gateway
from quoit.data.table import COMMANDS, Spec

TARGET = Path(__file__).resolve().parent.parent / "docs" / "reference" / "commands.md"
TITLES = {
    "string": "Strings",
    "generic": "Keys of any type",
    "transactions": "Transactions",
    "connection": "Connection",
    "server": "Server",
    "cluster": "Cluster",
}
FANOUT = {
    "": "one shard",
    "each": "any shards",
    "sum": "any shards",
    "all-sum": "all shards",
    "all-concat": "all shards",
    "all-ok": "all shards",
    "any": "any shards",
    "cursor": "all shards, step by step",
}
HEAD = """# Commands

This page is written by `scripts/generate_docs.py` from the table of commands that the nodes use
(`src/quoit/data/table.py`); do not edit it.

**arity** counts the command's name; `-2` means two or more. **keys** tells where the keys of one call may
lie. "one shard": the answer is `CROSSSLOT` when they lie on several; a shared hash tag, or a database from
1 to 15, keeps them together. "any shards" and "all shards": put together from one part per shard; each
part is linearizable, the whole is not one moment in time. "-": the command has no keys.

Deviations from Redis, on purpose:

"""


def deviations() -> list[str]:
    """The list in the docstring of quoit.data."""
    text = quoit.data.__doc__ or ""
    listed = text.partition("on purpose:\n")[2]
    return [line.removeprefix("  ") for line in listed.rstrip().splitlines()]


def row(spec: Spec) -> str:
    """One line of the table."""
    keyed = spec.first_key > 0 or spec.fanout
    keys = FANOUT.get(spec.fanout, spec.fanout) if keyed else "-"
    if spec.first_key > 0 and spec.first_key == spec.last_key:
        keys = "one"
    kind = "write" if spec.write else "read" if spec.handler is not None else "-"
    summary = spec.summary
    if spec.subcommands:
        summary += f" ({', '.join(spec.subcommands)})"
    return f"| `{spec.name}` | {spec.arity} | {kind} | {keys} | {summary.replace('|', ' or ')} |"


def page() -> str:
    """The whole page."""
    parts = [HEAD + "\n".join(deviations())]
    groups: dict[str, list[Spec]] = {}
    for _, spec in sorted(COMMANDS.items()):
        groups.setdefault(spec.group, []).append(spec)
    for group in sorted(
        groups, key=lambda one: (list(TITLES).index(one) if one in TITLES else 99, one)
    ):
        lines = [f"## {TITLES.get(group, group.capitalize())}", ""]
        lines += ["| command | arity | kind | keys | what it does |", "|---|---|---|---|---|"]
        lines += [row(spec) for spec in groups[group]]
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def main() -> int:
    """Write the page, or with --check tell whether it is up to date."""
    text = page()
    if "--check" in sys.argv[1:]:
        if not TARGET.exists() or TARGET.read_text() != text:
            print(f"{TARGET.name} is out of date: run scripts/generate_docs.py", file=sys.stderr)
            return 1
        return 0
    TARGET.write_text(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
