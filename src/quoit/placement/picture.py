"""The ring as a picture: SVG text that follows from the map and the nodes alone.

No script, no outside font or file. Colours change with the reader's light or dark setting, and nothing
is told by colour alone: every mark has a title, every node a number in the list.
"""

from collections.abc import Sequence
from math import cos, pi, sin
from xml.sax.saxutils import escape

from quoit.base.ids import NodeId
from quoit.placement.ring import NodeInfo, Ring, position
from quoit.placement.shard_map import ShardMap, shard_name

__all__ = ["ring_picture"]

SIZE = 640
CENTRE = SIZE / 2
TOKEN_INNER, TOKEN_OUTER = 262.0, 290.0
SHARD_OUTER, SHARD_STEP = 246.0, 14.0
LIST_LEFT, LIST_WIDTH, ROW = SIZE + 16, 360, 20
TOKENS_MAX = 2048
"""Tokens drawn at most; of more, every second, third... of each node."""
LABELS_MAX = 64
"""Shards are numbered in the picture up to this many; all have titles."""

STYLE = """svg{font:13px system-ui,'Segoe UI',Helvetica,Arial,sans-serif;background:#fff}
text{fill:#1f2328}.q{fill:#59636e}.b{fill:#fff}.r{stroke:#d1d9e0;fill:none}
@media(prefers-color-scheme:dark){svg{background:#0d1117}text{fill:#f0f6fc}.q{fill:#9198a1}
.b{fill:#0d1117}.r{stroke:#3d444d}}"""


def ring_picture(shard_map: ShardMap, nodes: Sequence[NodeInfo]) -> str:
    """SVG of the ring: tokens outside in their node's colour, each shard at its position inside, with one
    dot per replica, the preferred leader outermost. Clockwise, 0 at the top."""
    listed = {node.id: node for node in sorted(nodes, key=lambda node: node.id)}
    holding = sorted({node for shard in shard_map.shards for node in shard.replicas})
    for number in holding:
        listed.setdefault(number, NodeInfo(number, f"{number} (gone)", "", 0.0))
    colours = {number: _colour(index) for index, number in enumerate(sorted(listed))}
    height = max(SIZE, 72 + ROW * len(listed))
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {LIST_LEFT + LIST_WIDTH} {height}" '
        'role="img" aria-label="The ring: tokens of the nodes and replicas of the shards">',
        f"<style>{STYLE}</style>",
        f'<rect class="b" width="{LIST_LEFT + LIST_WIDTH}" height="{height}"/>',
        f'<circle class="r" cx="{CENTRE:g}" cy="{CENTRE:g}" r="{TOKEN_INNER:g}"/>',
        *_tokens(nodes, listed, colours),
        *_shards(shard_map, listed, colours),
        f'<text x="{CENTRE:g}" y="{CENTRE:g}" text-anchor="middle">{len(shard_map.shards)} shards, '
        f"{len(listed)} nodes, epoch {shard_map.epoch}</text>",
        *_list(shard_map, listed, colours),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _colour(index: int) -> str:
    """Hues a golden angle apart, of a lightness that is legible on white and on black."""
    return f"hsl({index * 137.508 % 360:.0f} 65% {(50, 42, 58)[index % 3]}%)"


def _place(at: int, radius: float) -> tuple[float, float]:
    angle = at / 2**64 * 2 * pi
    return CENTRE + radius * sin(angle), CENTRE - radius * cos(angle)


def _tokens(
    nodes: Sequence[NodeInfo], listed: dict[NodeId, NodeInfo], colours: dict[NodeId, str]
) -> list[str]:
    """One path per node: a stroke for each of its tokens."""
    tokens: dict[NodeId, list[int]] = {}
    for at, node in Ring(nodes).tokens():
        tokens.setdefault(node, []).append(at)
    every = -(-sum(map(len, tokens.values())) // TOKENS_MAX)
    lines = []
    for number in sorted(tokens):
        strokes = ""
        for at in tokens[number][::every]:
            (x, y), (end_x, end_y) = _place(at, TOKEN_INNER), _place(at, TOKEN_OUTER)
            strokes += f"M{x:.1f} {y:.1f}L{end_x:.1f} {end_y:.1f}"
        lines.append(
            f'<path d="{strokes}" stroke="{colours[number]}" stroke-width="1.2">'
            f"<title>{escape(listed[number].name)}: {len(tokens[number])} tokens</title></path>"
        )
    return lines


def _shards(
    shard_map: ShardMap, listed: dict[NodeId, NodeInfo], colours: dict[NodeId, str]
) -> list[str]:
    lines = []
    radius = 5 if len(shard_map.shards) <= LABELS_MAX else 2.5
    for shard in shard_map.shards:
        at = position(shard_name(shard.id))
        names = ", ".join(escape(listed[node].name) for node in shard.replicas)
        lines.append(f"<g><title>shard {shard.id}: {names} (the first leads)</title>")
        for depth, node in enumerate(shard.replicas):
            x, y = _place(at, SHARD_OUTER - SHARD_STEP * depth)
            lines.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" fill="{colours[node]}"/>')
        if len(shard_map.shards) <= LABELS_MAX:
            x, y = _place(at, SHARD_OUTER - SHARD_STEP * len(shard.replicas))
            lines.append(
                f'<text class="q" x="{x:.1f}" y="{y + 4:.1f}" font-size="10" '
                f'text-anchor="middle">{shard.id}</text>'
            )
        lines.append("</g>")
    return lines


def _list(
    shard_map: ShardMap, listed: dict[NodeId, NodeInfo], colours: dict[NodeId, str]
) -> list[str]:
    lines = [f'<text class="q" x="{LIST_LEFT}" y="40">node: zone, weight, replicas, leads</text>']
    for index, number in enumerate(sorted(listed)):
        node, y = listed[number], 64 + ROW * index
        held = sum(number in shard.replicas for shard in shard_map.shards)
        leads = sum(shard.replicas[0] == number for shard in shard_map.shards)
        text = f"{node.name}: {node.zone or '-'}, {node.weight:g}, {held}, {leads}"
        lines.append(
            f'<circle cx="{LIST_LEFT + 6}" cy="{y - 5}" r="6" fill="{colours[number]}"/>'
            f'<text x="{LIST_LEFT + 20}" y="{y}">{escape(text)}</text>'
        )
    return lines
