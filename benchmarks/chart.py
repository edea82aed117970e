"""The charts of the README, drawn from results/latest.json: `python benchmarks/chart.py`.

Plain SVG without scripts or outside fonts, once for light pages and once for dark ones. Colours are
Okabe and Ito's, which people with any colour vision can tell apart; every bar has its name and its
figure written out, so colour carries nothing alone.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any
from xml.sax.saxutils import escape

__all__ = ["draw", "write"]

HERE = Path(__file__).parent
FONT = "font-family=\"-apple-system,'Segoe UI',Helvetica,Arial,sans-serif\""
WIDTH = 960
MARGIN = 24
PANEL_GAP = 32
LABEL_WIDTH = 178
VALUE_WIDTH = 62
BAR_HEIGHT = 16
BAR_STEP = 22
TITLE_HEIGHT = 30


@dataclass(frozen=True)
class Theme:
    background: str
    text: str
    quiet: str
    rule: str
    quoit: str
    etcd: str
    nats: str
    redis: str
    unsafe: str


LIGHT = Theme("#ffffff", "#1f2328", "#59636e", "#d1d9e0", "#0072b2", "#e69f00", "#009e73",
              "#d55e00", "#999999")  # fmt: skip
DARK = Theme("#0d1117", "#f0f6fc", "#9198a1", "#3d444d", "#56b4e9", "#e69f00", "#009e73",
             "#d55e00", "#8b8b8b")  # fmt: skip

BARS = [
    ("quoit-pinned", "quoit, one database", "quoit", 1.0),
    ("quoit-mapped", "quoit, map-aware", "quoit", 0.8),
    ("quoit-entry", "quoit, one entry node", "quoit", 0.6),
    ("etcd-leader", "etcd, at its leader", "etcd", 1.0),
    ("nats", "NATS JetStream R3", "nats", 1.0),
    ("redis", "Redis + WAIT 1 (can lose)", "redis", 1.0),
    ("single-redis", "single Redis (unsafe)", "unsafe", 0.6),
]
PANELS = [
    ("set-64", "SET, 64 clients", ()),
    ("set-64x16", "SET, 64 clients, pipeline of 16", ("single-redis",)),
    ("get-64", "GET, 64 clients", ()),
]
"""Row, title, ways left out (a bar that would make all the others unreadable)."""


@dataclass(frozen=True)
class Bar:
    label: str
    value: float
    text: str
    colour: str
    opacity: float


def thousands(value: float) -> str:
    return f"{value / 1000:.1f}k/s" if value >= 1000 else f"{value:.0f}/s"


def panel_bars(results: dict[str, Any], theme: Theme, row: str, without: Any) -> list[Bar]:
    bars: list[Bar] = []
    for way, label, colour, opacity in BARS:
        found = results["rows"].get(way, {}).get(row)
        if found and way not in without:
            if way == "nats" and row.startswith("get"):
                label += " (not lin.)"
            rate = found["rate"]
            bars.append(Bar(label, rate, thousands(rate), getattr(theme, colour), opacity))
    return bars


def failover_bars(results: dict[str, Any], theme: Theme) -> list[Bar]:
    bars: list[Bar] = []
    for name, found in results["failover"].items():
        gap = median(found["gaps_ms"])
        bars.append(Bar(name, gap, f"{gap:.0f} ms", getattr(theme, name.partition("-")[0]), 1.0))
    return bars


def draw_panel(title: str, bars: list[Bar], x: float, y: float, width: float, theme: Theme) -> str:
    """One titled group of horizontal bars with a common scale."""
    parts = [
        f'<text x="{x}" y="{y + 13}" font-size="14" font-weight="600" fill="{theme.text}">'
        f"{escape(title)}</text>"
    ]
    largest = max(bar.value for bar in bars) or 1.0
    room = width - LABEL_WIDTH - VALUE_WIDTH
    for number, bar in enumerate(bars):
        top = y + TITLE_HEIGHT + number * BAR_STEP
        base = top + 12.5
        start = x + LABEL_WIDTH
        length = max(2.0, bar.value / largest * room)
        parts += [
            f'<text x="{start - 8}" y="{base}" font-size="12" text-anchor="end" '
            f'fill="{theme.text}">{escape(bar.label)}</text>',
            f'<rect x="{start}" y="{top}" width="{length:.1f}" height="{BAR_HEIGHT}" rx="2" '
            f'fill="{bar.colour}" fill-opacity="{bar.opacity}"/>',
            f'<text x="{start + length + 6:.1f}" y="{base}" font-size="12" '
            f'fill="{theme.quiet}">{escape(bar.text)}</text>',
        ]
    bottom = y + TITLE_HEIGHT + len(bars) * BAR_STEP
    axis = x + LABEL_WIDTH
    parts.append(
        f'<path d="M{axis} {y + TITLE_HEIGHT - 4}V{bottom - 2}" stroke="{theme.rule}" fill="none"/>'
    )
    return "\n".join(parts)


def beyond(results: dict[str, Any], row: str, without: tuple[str, ...]) -> str:
    """The figures of the ways that a panel leaves out, for its title."""
    names = {way: label for way, label, *_ in BARS}
    rates = {way: results["rows"].get(way, {}).get(row, {}).get("rate") for way in without}
    told = [f"{names[way]}: {thousands(rate)}" for way, rate in rates.items() if rate]
    return f" ({', '.join(told)})" if told else ""


def caption(results: dict[str, Any]) -> list[str]:
    machine, settings = results["machine"], results["settings"]
    return [
        f"Three nodes on one machine ({machine['cores']} cores, {machine['processor']}), loopback, "
        "real disk, every write synced on a majority (Redis: not quite).",
        f"{settings['value_bytes']}-byte values, 100k random keys, closed loop, median of "
        f"{settings['rounds']}; load generator on the same cores. "
        f"{results['date'][:10]}, commit {results['commit']}.",
    ]


def draw(results: dict[str, Any], theme: Theme) -> str:
    """The whole chart as SVG text."""
    panels: list[tuple[str, list[Bar]]] = []
    for row, title, without in PANELS:
        if bars := panel_bars(results, theme, row, without):
            panels.append((title + beyond(results, row, without), bars))
    if bars := failover_bars(results, theme):
        panels.append(("Leader killed: writes pause for (less is better)", bars))
    width = (WIDTH - 2 * MARGIN - PANEL_GAP) / 2
    parts: list[str] = []
    y = MARGIN + 34.0
    for first in range(0, len(panels), 2):
        pair = panels[first : first + 2]
        for column, (title, bars) in enumerate(pair):
            x = MARGIN + column * (width + PANEL_GAP)
            parts.append(draw_panel(title, bars, x, y, width, theme))
        y += TITLE_HEIGHT + max(len(bars) for _, bars in pair) * BAR_STEP + 22
    for number, line in enumerate(caption(results)):
        parts.append(
            f'<text x="{MARGIN}" y="{y + number * 17}" font-size="11.5" fill="{theme.quiet}">'
            f"{escape(line)}</text>"
        )
    height = y + 30
    names = "; ".join(f"{title}: " + ", ".join(f"{b.label} {b.text}" for b in bars)
                      for title, bars in panels)  # fmt: skip
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" '
        f'width="{WIDTH}" height="{height:.0f}" role="img" {FONT}>\n'
        f"<title>Operations per second, side by side</title>\n<desc>{escape(names)}</desc>\n"
        f'<rect width="100%" height="100%" rx="8" fill="{theme.background}"/>\n'
        f'<text x="{MARGIN}" y="{MARGIN + 14}" font-size="18" font-weight="700" '
        f'fill="{theme.text}">Operations per second, three nodes, side by side</text>'
    )
    return "\n".join([head, *parts, "</svg>\n"])


def write(results: dict[str, Any], directory: Path) -> list[Path]:
    """bench-light.svg and bench-dark.svg in `directory`."""
    directory.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    for name, theme in (("light", LIGHT), ("dark", DARK)):
        path = directory / f"bench-{name}.svg"
        path.write_text(draw(results, theme))
        written.append(path)
    return written


def main() -> None:
    results = json.loads((HERE / "results" / "latest.json").read_text())
    for path in write(results, HERE.parent / "docs" / "images"):
        print(f"written: {path}")


if __name__ == "__main__":
    main()
