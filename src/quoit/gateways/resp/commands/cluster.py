"""CLUSTER: the map of shards in the words of Redis Cluster, for clients that want to go straight to
the leader (https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/).

Every node is shown as a master of the slots that it leads: any node serves any key, and a node
follows some shards and leads others.
"""

from hashlib import sha1
from typing import TYPE_CHECKING

from quoit.base.limits import SLOTS
from quoit.base.slots import slot_of
from quoit.data.commands.parse import integer_or_none
from quoit.gateways.resp.own import own, unknown_subcommand
from quoit.gateways.resp.slot_keys import SlotKeys
from quoit.node.status import NodeStatus, PeerStatus, ShardStatus
from quoit.wire import resp

if TYPE_CHECKING:
    from quoit.gateways.resp.connection import RespConnection

__all__ = ["node_name"]

_HELP = (
    "CLUSTER <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "COUNT-FAILURE-REPORTS <node-id>",
    "    0: nodes do not report one another.",
    "COUNTKEYSINSLOT <slot>",
    "    How many keys the slot has in database 0.",
    "GETKEYSINSLOT <slot> <count>",
    "    Keys of the slot in database 0.",
    "INFO",
    "    The state of the cluster as this node sees it.",
    "KEYSLOT <key>",
    "    The slot of a key.",
    "LINKS",
    "    The connections between this node and its peers.",
    "MYID",
    "    This node's id.",
    "NODES",
    "    All nodes, with the slots that each one leads.",
    "REPLICAS <node-id>",
    "    None: every node is shown as a master.",
    "SHARDS",
    "    The shards with their nodes.",
    "SLOTS",
    "    The slots with their nodes, the leader first.",
    "HELP",
    "    Prints this help.",
)
_SUBCOMMANDS = (
    "COUNT-FAILURE-REPORTS", "COUNTKEYSINSLOT", "GETKEYSINSLOT", "HELP", "INFO", "KEYSLOT", "LINKS",
    "MYID", "MYSHARDID", "NODES", "REPLICAS", "SHARDS", "SLAVES", "SLOTS",
)  # fmt: skip
_GETKEYS_MAX = 100_000


def node_name(status: NodeStatus, node: int) -> bytes:
    """A node's id as Redis Cluster writes ids: 40 hexadecimal digits, the same everywhere."""
    return sha1(f"{status.cluster_id}/{node}".encode()).hexdigest().encode()


def _leader(shard: ShardStatus) -> int:
    """The shard's leader; while unknown its first replica, for any node can forward."""
    return shard.leader or (shard.replicas[0] if shard.replicas else 0)


def _led(status: NodeStatus) -> dict[int, list[tuple[int, int]]]:
    """Node -> slot ranges that it leads, neighbours joined."""
    led: dict[int, list[tuple[int, int]]] = {}
    for shard in sorted(status.shards, key=lambda shard: shard.slot_low):
        ranges = led.setdefault(_leader(shard), [])
        if ranges and ranges[-1][1] + 1 == shard.slot_low:
            ranges[-1] = (ranges[-1][0], shard.slot_high)
        else:
            ranges.append((shard.slot_low, shard.slot_high))
    return led


def _slots(status: NodeStatus, proto: int) -> bytes:
    peers = {peer.id: peer for peer in status.peers}
    rows = []
    for shard in sorted(status.shards, key=lambda shard: shard.slot_low):
        leader = _leader(shard)
        order = [leader] + [node for node in shard.replicas if node != leader]
        nodes = [
            resp.array(
                [
                    resp.bulk(peers[node].host.encode()),
                    resp.integer(peers[node].resp_port),
                    resp.bulk(node_name(status, node)),
                    resp.array([]),
                ]
            )
            for node in order
            if node in peers
        ]
        rows.append(
            resp.array([resp.integer(shard.slot_low), resp.integer(shard.slot_high), *nodes])
        )
    return resp.array(rows)


def _shards(status: NodeStatus, proto: int) -> bytes:
    peers = {peer.id: peer for peer in status.peers}
    rows = []
    for shard in sorted(status.shards, key=lambda shard: shard.slot_low):
        leader = _leader(shard)
        order = [leader] + [node for node in shard.replicas if node != leader]
        nodes = [
            _shard_node(status, peers[node], node == leader, shard.applied_index, proto)
            for node in order
            if node in peers
        ]
        slots = resp.array([resp.integer(shard.slot_low), resp.integer(shard.slot_high)])
        pairs = [(resp.bulk(b"slots"), slots), (resp.bulk(b"nodes"), resp.array(nodes))]
        rows.append(resp.mapping(pairs, proto))
    return resp.array(rows)


def _shard_node(
    status: NodeStatus, peer: PeerStatus, leads: bool, offset: int, proto: int
) -> bytes:
    host = resp.bulk(peer.host.encode())
    facts = [
        (b"id", resp.bulk(node_name(status, peer.id))),
        (b"port", resp.integer(peer.resp_port)),
        (b"ip", host),
        (b"endpoint", host),
        (b"hostname", resp.bulk(b"")),
        (b"role", resp.bulk(b"master" if leads else b"replica")),
        (b"replication-offset", resp.integer(offset)),
        (b"health", resp.bulk(b"online" if peer.connected else b"fail")),
    ]
    return resp.mapping([(resp.bulk(key), value) for key, value in facts], proto)


def _nodes(status: NodeStatus) -> str:
    led = _led(status)
    lines = []
    for peer in status.peers:
        own = peer.id == status.node_id
        flags = "myself,master" if own else "master" if peer.connected else "master,fail?"
        ranges = [
            f"{low}-{high}" if low != high else f"{low}" for low, high in led.get(peer.id, [])
        ]
        link = "connected" if peer.connected else "disconnected"
        name = node_name(status, peer.id).decode()
        line = (
            f"{name} {peer.host}:{peer.resp_port}@{peer.peer_port} {flags} - 0 0 {peer.id} {link}"
        )
        lines.append(" ".join([line, *ranges]))
    return "\n".join(lines) + "\n"


def _info(status: NodeStatus) -> str:
    reachable = sum(shard.slot_high - shard.slot_low + 1 for shard in status.shards if shard.leader)
    term = max((shard.term for shard in status.shards), default=0)
    facts = {
        "cluster_state": "ok" if reachable == SLOTS else "fail",
        "cluster_slots_assigned": SLOTS,
        "cluster_slots_ok": reachable,
        "cluster_slots_pfail": 0,
        "cluster_slots_fail": SLOTS - reachable,
        "cluster_known_nodes": len(status.peers),
        "cluster_size": len(_led(status)),
        "cluster_current_epoch": term,
        "cluster_my_epoch": term,
        "cluster_stats_messages_sent": status.counters.get("frames_sent", 0),
        "cluster_stats_messages_received": status.counters.get("frames_received", 0),
        "total_cluster_links_buffer_limit_exceeded": 0,
    }
    return "".join(f"{key}:{value}\r\n" for key, value in facts.items())


def _links(status: NodeStatus, proto: int) -> bytes:
    rows = []
    for peer in status.peers:
        if peer.id == status.node_id or not peer.connected:
            continue
        facts = [
            (b"direction", resp.bulk(b"to")),
            (b"node", resp.bulk(node_name(status, peer.id))),
            (b"create-time", resp.ZERO),
            (b"events", resp.bulk(b"rw")),
            (b"send-buffer-allocated", resp.ZERO),
            (b"send-buffer-used", resp.ZERO),
        ]
        rows.append(resp.mapping([(resp.bulk(key), value) for key, value in facts], proto))
    return resp.array(rows)


def _slot(text: bytes) -> int | None:
    number = integer_or_none(text)
    return number if number is not None and 0 <= number < SLOTS else None


def _slot_keys(connection: "RespConnection", args: list[bytes], ticket: int) -> bytes | None:
    slot = _slot(args[2])
    if slot is None:
        return b"-ERR Invalid slot\r\n"
    if ticket < 0:
        return b"-ERR a slot's keys cannot be listed inside a transaction\r\n"
    limit = -1
    if len(args) == 4:
        number = integer_or_none(args[3])
        if number is None or number < 0:
            return b"-ERR Invalid number of keys\r\n"
        limit = min(number, _GETKEYS_MAX)
    connection.start_later(SlotKeys(connection, ticket, slot, limit).start)
    return None


@own(
    "CLUSTER",
    -2,
    group="cluster",
    since="3.0.0",
    subcommands=_SUBCOMMANDS,
    summary="The shards and nodes, as Redis Cluster would tell them.",
)
def cluster(connection: "RespConnection", args: list[bytes], ticket: int) -> bytes | None:
    """CLUSTER subcommand."""
    name = args[1].upper()
    count = len(args)
    proto = connection.session.proto
    status = connection.gateway.status(connection.host.node)
    if count == 2:
        if name == b"SLOTS":
            return _slots(status, proto)
        if name == b"SHARDS":
            return _shards(status, proto)
        if name == b"NODES":
            return resp.verbatim(_nodes(status), proto)
        if name == b"INFO":
            return resp.verbatim(_info(status), proto)
        if name in (b"MYID", b"MYSHARDID"):
            return resp.bulk(node_name(status, status.node_id))
        if name == b"LINKS":
            return _links(status, proto)
        if name == b"HELP":
            return resp.simple_array(_HELP)
    if count == 3:
        if name == b"KEYSLOT":
            return resp.integer(slot_of(args[2]))
        if name == b"COUNTKEYSINSLOT":
            return _slot_keys(connection, args, ticket)
        if name in (b"REPLICAS", b"SLAVES", b"COUNT-FAILURE-REPORTS"):
            names = [node_name(status, peer.id) for peer in status.peers]
            if args[2] not in names:
                return resp.error(f"ERR Unknown node {args[2][:64].decode('utf-8', 'replace')}")
            return resp.ZERO if name == b"COUNT-FAILURE-REPORTS" else resp.array([])
    if count == 4 and name == b"GETKEYSINSLOT":
        return _slot_keys(connection, args, ticket)
    return resp.error(unknown_subcommand(args))
