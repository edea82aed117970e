"""From runs to figures: medians, the budgets of the design, and the table that is printed."""

from dataclasses import dataclass
from statistics import median
from typing import Any

from rows import ROWS, WAYS

__all__ = ["Budget", "judge", "merge", "render"]

Result = dict[str, Any]
GENERATOR_FULL = 0.9


def merge(runs: list[Result]) -> Result:
    """The median of several runs of one row; errors and bad values add up."""
    middle = ("rate", "p50_ms", "p90_ms", "p99_ms", "p999_ms", "generator_cpu", "gap_ms")
    merged: Result = {name: round(median(run[name] for run in runs), 3) for name in middle}
    merged["rates"] = [run["rate"] for run in runs]
    for name in ("errors", "wrong_replies", "given_up", "checked", "bad"):
        merged[name] = sum(run.get(name, 0) for run in runs)
    firsts = [run.get("first_bad") or run["first_error"] for run in runs]
    merged["first_error"] = next((text for text in firsts if text), "")
    for name in ("node_cpu", "node_memory_mb"):
        columns = zip(*(sorted(run[name], reverse=True) for run in runs), strict=True)
        merged[name] = [round(median(column), 2) for column in columns]
    return merged


@dataclass
class Budget:
    """A row of the design's budget table. `value` is None when a side was not measured."""

    title: str
    value: float | None
    must: float | None
    want: float | None
    unit: str = "x"
    at_most: bool = False

    @property
    def verdict(self) -> str:
        if self.value is None:
            return "not measured"
        if self.reaches(self.want):
            return "pass" if self.must is None else "pass, and the further goal"
        if self.must is None:
            return "below the further goal"
        return "pass" if self.reaches(self.must) else "MISS"

    def reaches(self, goal: float | None) -> bool:
        if goal is None or self.value is None:
            return False
        return self.value <= goal if self.at_most else self.value >= goal

    def as_dict(self) -> Result:
        return {
            "title": self.title,
            "value": self.value,
            "must": self.must,
            "want": self.want,
            "unit": self.unit,
            "at_most": self.at_most,
            "verdict": self.verdict,
        }


class Figures:
    """Look-ups into the results that give None instead of failing on what was not measured."""

    def __init__(self, results: Result) -> None:
        self.rows: dict[str, dict[str, Result]] = results["rows"]
        self.results = results

    def get(self, way: str, row: str, name: str = "rate") -> float | None:
        value = self.rows.get(way, {}).get(row, {}).get(name)
        return float(value) if value else None

    def ratio(self, way: str, other: str, row: str, name: str = "rate") -> float | None:
        above, below = self.get(way, row, name), self.get(other, row, name)
        return round(above / below, 2) if above and below else None

    def best(self, ways: tuple[str, ...], rows: tuple[str, ...]) -> float | None:
        found = [value for way in ways for row in rows if (value := self.get(way, row))]
        return max(found) if found else None


def judge(results: Result) -> list[Budget]:
    """The budgets of docs/reference/benchmarks.md, each against this run's own peers."""
    see = Figures(results)
    etcd_best = see.best(("etcd-leader", "etcd-spread"), ("set-1", "set-64", "set-64x16"))
    deep = see.get("quoit-pinned", "set-64x16")
    gaps = results["failover"].get("quoit", {}).get("gaps_ms") or []
    idle = results["idle_memory_mb"].get("quoit")
    budgets = [
        Budget(f"SET, 64 clients, {title}, against etcd at its leader",
               see.ratio(way, "etcd-leader", "set-64"), 2.2, None)
        for way, title in (("quoit-pinned", "pinned database"), ("quoit-mapped", "map-aware"))
    ]  # fmt: skip
    budgets += [
        Budget("SET, 64 clients, pinned database, against Redis + WAIT 1",
               see.ratio("quoit-pinned", "redis", "set-64"), None, 1.0),
        Budget("SET, 64 clients, one entry node, against etcd spread",
               see.ratio("quoit-entry", "etcd-spread", "set-64"), 1.5, 2.0),
        Budget("SET, depth 16, pinned database, against etcd's best single-key rate",
               round(deep / etcd_best, 2) if deep and etcd_best else None, 4.0, None),
        Budget("SET, depth 16, pinned database, against NATS",
               see.ratio("quoit-pinned", "nats", "set-64x16"), 1.5, None),
        Budget("SET, depth 16, pinned database, thousands a second",
               round(deep / 1000, 1) if deep else None, None, 100.0, unit="k/s"),
        Budget("linearizable GET, 64 clients, at the leader, against etcd at its leader",
               see.ratio("quoit-pinned", "etcd-leader", "get-64"), 3.5, None),
        Budget("linearizable GET, 64 clients, one entry node, against etcd spread",
               see.ratio("quoit-entry", "etcd-spread", "get-64"), 2.5, None),
        Budget("linearizable GET, 64 clients, against single Redis",
               see.ratio("quoit-pinned", "single-redis", "get-64"), None, 0.8),
        *(
            Budget(f"Paxos against Raft, {title}",
                   see.ratio("paxos-pinned", "quoit-pinned", row), 0.85, None)
            for row, title in (("set-64", "SET, 64 clients"), ("set-64x16", "SET, depth 16"),
                               ("get-64", "GET, 64 clients"))
        ),
        Budget("one client, one SET: p50 against etcd's",
               see.ratio("quoit-pinned", "etcd-leader", "set-1", "p50_ms"), 1.0, None,
               at_most=True),
        Budget("leader killed: writes resume after",
               round(median(gaps) / 1000, 2) if gaps else None, 1.0, 0.6, unit="s", at_most=True),
        Budget("memory of an idle node", idle, 90.0, None, unit="MB", at_most=True),
        Budget("quoit --version", results.get("version_ms"), 150.0, None, unit="ms",
               at_most=True),
    ]  # fmt: skip
    return budgets


def number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value / 1000:.1f}k" if value >= 1000 else f"{value:.0f}"


def grid(heads: list[str], rows: list[list[str]]) -> str:
    """A table in plain text; the first column is text, the others line up on the right."""
    widths = [max(len(row[n]) for row in [heads, *rows]) for n in range(len(heads))]

    def line(cells: list[str]) -> str:
        rest = [cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True)]
        return "  ".join([cells[0].ljust(widths[0]), *rest]).rstrip()

    return "\n".join([line(heads), line(["-" * width for width in widths]), *map(line, rows)])


def render(results: Result) -> str:
    """Everything, as text."""
    parts = [throughput(results), details(results), failures(results), checks(results)]
    if any(row["value"] is not None for row in results["budgets"]):
        parts.append(budget_table(results))
    if results["skipped"]:
        lines = [f"  {name}: {why}" for name, why in results["skipped"].items()]
        parts.append("Skipped\n" + "\n".join(lines))
    return "\n\n".join(part for part in parts if part)


def throughput(results: Result) -> str:
    see = Figures(results)
    rows: list[list[str]] = []
    full = False
    for way in WAYS:
        if way.name not in results["rows"]:
            continue
        cells = [way.title]
        for row in ROWS:
            rate = see.get(way.name, row.name)
            ratio = see.ratio(way.name, "etcd-leader", row.name)
            busy = (see.get(way.name, row.name, "generator_cpu") or 0) > GENERATOR_FULL
            full |= busy
            text = number(rate) + ("*" if busy else "")
            cells.append(text + (f" ({ratio:.2f}x)" if ratio else ""))
        rows.append(cells)
    title = "Operations per second (in brackets: against etcd at its leader)"
    notes = [f"  {way.title}: {way.note}" for way in WAYS if way.note and way.name in see.rows]
    if full:
        notes.insert(0, "  * the load generator was the limit, the system can do more")
    table = grid(["", *(row.title for row in ROWS)], rows)
    return "\n".join([title, table, *notes]) if rows else "Nothing was measured."


def details(results: Result) -> str:
    rows: list[list[str]] = []
    for way in WAYS:
        for row in ROWS:
            found = results["rows"].get(way.name, {}).get(row.name)
            if not found:
                continue
            rows.append([
                f"{way.title}: {row.title}",
                *(f"{found[name]:.2f}" for name in ("p50_ms", "p99_ms", "p999_ms")),
                " ".join(f"{share:.2f}" for share in found["node_cpu"]),
                f"{found['generator_cpu']:.2f}",
                f"{max(found['node_memory_mb'], default=0):.0f}",
                str(found["errors"]),
            ])  # fmt: skip
    heads = ["Latency of a batch, ms; cores used", "p50", "p99", "p99.9", "each node",
             "generator", "max MB/node", "errors"]  # fmt: skip
    return grid(heads, rows) if rows else ""


def failures(results: Result) -> str:
    rows: list[list[str]] = []
    for name, found in results["failover"].items():
        gaps = found["gaps_ms"]
        each = " ".join(f"{gap:.0f}" for gap in gaps)
        rows.append([name, f"{median(gaps):.0f}", each, str(found["checked"]), str(found["bad"])])
    heads = ["Leader killed (-9) under load", "gap ms", "each run", "keys read back", "lost"]
    return grid(heads, rows) if rows else ""


def checks(results: Result) -> str:
    lines: list[str] = []
    bad: list[str] = []
    checked = 0
    for way, rows in results["rows"].items():
        for row, found in rows.items():
            checked += found["checked"]
            if found["bad"] or found["wrong_replies"]:
                bad.append(f"  {way} {row}: {found['first_error']}")
            elif found["errors"]:
                lines.append(f"  {way} {row}: {found['errors']} errors: {found['first_error']}")
    verdict = "all as acknowledged" if not bad else "WRONG DATA"
    lines = [f"Data read back after the writes: {checked} keys, {verdict}", *bad, *lines]
    for name, rates in results["cross_check"].items():
        cells = ", ".join(f"{what} {number(rate)}" for what, rate in rates.items())
        lines.append(f"redis-benchmark (no WAIT) against {name}: {cells}")
    return "\n".join(lines)


def budget_table(results: Result) -> str:
    def goal(row: Result, name: str) -> str:
        if not row[name]:
            return "-"
        return ("<= " if row["at_most"] else ">= ") + f"{row[name]:g}{row['unit']}"

    def shown(row: Result) -> str:
        return "-" if row["value"] is None else f"{row['value']:g}{row['unit']}"

    rows = [
        [row["title"], shown(row), goal(row, "must"), goal(row, "want"), row["verdict"]]
        for row in results["budgets"]
    ]
    return grid(["Budget", "measured", "must", "then", "verdict"], rows) if rows else ""
