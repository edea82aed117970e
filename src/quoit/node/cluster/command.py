"""The command that changes the cluster's record: run by the meta shard's leader, in a batch like any
other, so that forwarding, agreement and unknown outcomes are those of every write. Clients cannot send
it: it is not in the table of commands.
"""

import msgspec

from quoit.base.slots import META_DB
from quoit.data.errors import CommandError
from quoit.data.keys import physical_key
from quoit.data.record import STRING, decode_record
from quoit.data.table import Context, Spec
from quoit.data.view import View
from quoit.node.cluster.changes import Join, NotYet, Refused, change_cluster, decode_change
from quoit.node.cluster.state import ClusterState, decode_cluster, encode_cluster
from quoit.wire import resp

__all__ = ["CHANGE", "RECORD_KEY", "REFUSED", "number_of", "record_in"]

_KEY = b"cluster"
RECORD_KEY = physical_key(META_DB, _KEY)
"""Engine key of the record."""
REFUSED = b"-REFUSED "


def _change(view: View, args: list[bytes], context: Context) -> bytes:
    raw = view.get_string(META_DB, _KEY)
    state = decode_cluster(raw) if raw is not None else ClusterState()
    try:
        change = decode_change(args[1])
        after = change_cluster(state, change, context.now_ms)
    except NotYet as early:
        raise CommandError(f"NOTYET {early}") from None
    except (Refused, msgspec.MsgspecError) as error:
        raise CommandError(f"REFUSED {error}") from None
    if after is not state:
        view.put(META_DB, _KEY, STRING, encode_cluster(after))
    joined = 0
    if isinstance(change, Join):
        name = change.node.name
        joined = change.node.id or next(
            (node.id for node in reversed(after.nodes) if not name or node.name == name), 0
        )
    return resp.bulk(b"%d %d" % (after.version, joined))


CHANGE = Spec(name="META.CHANGE", arity=2, write=True, first_key=0, handler=_change)
"""META.CHANGE change -> "version number": of the record now, and of the node that joined, or 0."""


def number_of(reply: bytes) -> tuple[int, int]:
    """(version, number of the node that joined, or 0) in CHANGE's reply."""
    version, number = reply.split(b"\r\n")[1].split()
    return int(version), int(number)


def record_in(raw: bytes | None) -> bytes | None:
    """The encoded ClusterState in an engine record."""
    return decode_record(raw).payload if raw is not None else None
