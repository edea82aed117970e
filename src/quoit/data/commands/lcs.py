"""LCS: the longest common subsequence of two strings.

The table of lengths is kept as one bit vector per byte of the second string (Hyyro, "Bit-Parallel
LCS-length Computation Revisited", 2004): bit i of a row is 0 where the length grows between the
prefixes of i and i + 1 bytes of the first string. That is far smaller than the table of numbers
that Redis fills, and each row is a handful of operations on Python integers.
"""

from quoit.data.commands.parse import integer_or_none
from quoit.data.errors import NOT_AN_INTEGER, SYNTAX, CommandError
from quoit.data.record import STRING
from quoit.data.table import Context, command
from quoit.data.view import View
from quoit.wire import resp

__all__ = ["lcs"]

_CELLS_MAX = 1 << 28
"""Bits in the table: 32 MiB."""
_ROW_BITS = 512
"""What a row costs beside its bits."""


def _rows(left: bytes, right: bytes) -> list[int]:
    """rows[j]: the bit vector after `j` bytes of `right`."""
    full = (1 << len(left)) - 1
    places: dict[int, int] = {}
    for at, byte in enumerate(left):
        places[byte] = places.get(byte, 0) | 1 << at
    row = full
    rows = [row]
    for byte in right:
        hit = row & places.get(byte, 0)
        row = ((row + hit) | (row - hit)) & full
        rows.append(row)
    return rows


def _length(row: int, prefix: int) -> int:
    """The common length for the first `prefix` bytes of the first string."""
    return prefix - (row & ((1 << prefix) - 1)).bit_count()


def _trace(left: bytes, right: bytes, rows: list[int]) -> list[tuple[int, int]]:
    """The matched (left, right) positions, last first. Where two ways are as good, this goes the
    way that Redis goes, so that the positions are the same."""
    pairs: list[tuple[int, int]] = []
    i, j = len(left), len(right)
    while i and j:
        if left[i - 1] == right[j - 1]:
            i -= 1
            j -= 1
            pairs.append((i, j))
        elif _length(rows[j], i - 1) > _length(rows[j - 1], i):
            i -= 1
        else:
            j -= 1
    return pairs


def _runs(pairs: list[tuple[int, int]]) -> list[tuple[int, int, int]]:
    """(left start, right start, length) of the runs of neighbours in `pairs`, last first."""
    runs: list[tuple[int, int, int]] = []
    for i, j in pairs:
        if runs and runs[-1][0] == i + 1 and runs[-1][1] == j + 1:
            runs[-1] = (i, j, runs[-1][2] + 1)
        else:
            runs.append((i, j, 1))
    return runs


def _span(start: int, length: int) -> bytes:
    return resp.array([resp.integer(start), resp.integer(start + length - 1)])


def _options(args: list[bytes]) -> tuple[bool, bool, bool, int]:
    """(LEN, IDX, WITHMATCHLEN, MINMATCHLEN)."""
    plain: dict[bytes, None] = {}
    least = 0
    at = 3
    while at < len(args):
        option = args[at].upper()
        at += 1
        if option in (b"LEN", b"IDX", b"WITHMATCHLEN"):
            plain[option] = None
        elif option == b"MINMATCHLEN" and at < len(args):
            value = integer_or_none(args[at])
            if value is None:
                raise CommandError(NOT_AN_INTEGER)
            least = max(value, 0)
            at += 1
        else:
            raise CommandError(SYNTAX)
    if b"LEN" in plain and b"IDX" in plain:
        raise CommandError("ERR If you want both the length and indexes, please just use IDX.")
    return b"LEN" in plain, b"IDX" in plain, b"WITHMATCHLEN" in plain, least


def _string(view: View, db: int, key: bytes) -> bytes:
    record = view.get(db, key)
    if record is None:
        return b""
    if record.type != STRING:
        raise CommandError("ERR The specified keys must contain string values")
    return record.payload


@command(
    "LCS",
    -3,
    last_key=2,
    since="7.0.0",
    complexity="O(N*M) with N and M the lengths of the strings",
    summary="Finds the longest common subsequence of two strings.",
)
def lcs(view: View, args: list[bytes], context: Context) -> bytes:
    """LCS key1 key2 [LEN] [IDX] [MINMATCHLEN n] [WITHMATCHLEN]."""
    left, right = _string(view, context.db, args[1]), _string(view, context.db, args[2])
    want_length, want_places, with_length, least = _options(args)
    if (len(left) + _ROW_BITS) * len(right) > _CELLS_MAX:
        raise CommandError(
            "ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len"
        )
    rows = _rows(left, right)
    length = _length(rows[-1], len(left))
    if want_length:
        return resp.integer(length)
    pairs = _trace(left, right, rows)
    if not want_places:
        return resp.bulk(bytes([left[i] for i, _ in reversed(pairs)]))
    matches = []
    for i, j, run in _runs(pairs):
        if run >= least:
            match = [_span(i, run), _span(j, run)]
            if with_length:
                match.append(resp.integer(run))
            matches.append(resp.array(match))
    found = [
        (resp.bulk(b"matches"), resp.array(matches)),
        (resp.bulk(b"len"), resp.integer(length)),
    ]
    return resp.mapping(found, context.proto)
