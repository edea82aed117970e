"""INFO: the sections and fields that redis_exporter, RedisInsight and client libraries read.

Fields that have no meaning here are left out or have the value that means "none". Commands are
counted, not timed: their usec fields are 0.
"""

import os
import platform
import resource
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from quoit import __version__
from quoit.gateways.resp.commands.basic import REDIS_VERSION
from quoit.gateways.resp.own import own, plain
from quoit.node.status import NodeStatus
from quoit.wire import resp

if TYPE_CHECKING:
    from quoit.gateways.resp.connection import RespConnection
    from quoit.gateways.resp.gateway import RespGateway

__all__: list[str] = []

Facts = dict[str, object]
_PAGE = os.sysconf("SC_PAGE_SIZE")


def _human(size: int) -> str:
    amount = float(size)
    for unit in ("B", "K", "M"):
        if amount < 1024:
            return f"{amount:.2f}{unit}" if unit != "B" else f"{size}B"
        amount /= 1024
    return f"{amount:.2f}G"


def _resident_bytes() -> int:
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * _PAGE
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _server(gateway: "RespGateway", status: NodeStatus) -> Facts:
    uptime_s = status.uptime_ms // 1000
    system = platform.uname()
    return {
        "redis_version": REDIS_VERSION,
        "redis_git_sha1": "00000000",
        "redis_git_dirty": 0,
        "redis_build_id": "0",
        "redis_mode": "standalone",
        "os": f"{system.system} {system.release} {system.machine}",
        "arch_bits": 64,
        "multiplexing_api": "epoll",
        "process_id": gateway.process_id,
        "run_id": gateway.run_id(status),
        "tcp_port": gateway.settings.port,
        "server_time_usec": time.time_ns() // 1000,
        "uptime_in_seconds": uptime_s,
        "uptime_in_days": uptime_s // 86400,
        "hz": 100,
        "executable": "quoit",
        "config_file": "",
        "server_name": "quoit",
        "quoit_version": __version__,
    }


def _clients(gateway: "RespGateway", status: NodeStatus) -> Facts:
    return {
        "connected_clients": len(gateway.clients),
        "cluster_connections": 0,
        "maxclients": gateway.settings.clients_max,
        "blocked_clients": 0,
        "tracking_clients": 0,
        "pubsub_clients": 0,
        "watching_clients": sum(1 for client in gateway.clients.values() if client.session.watched),
        "clients_in_timeout_table": 0,
    }


def _memory(gateway: "RespGateway", status: NodeStatus) -> Facts:
    used = _resident_bytes()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {
        "used_memory": used,
        "used_memory_human": _human(used),
        "used_memory_rss": used,
        "used_memory_rss_human": _human(used),
        "used_memory_peak": max(peak, used),
        "used_memory_peak_human": _human(max(peak, used)),
        "used_memory_lua": 0,
        "maxmemory": 0,
        "maxmemory_human": "0B",
        "maxmemory_policy": "noeviction",
        "mem_fragmentation_ratio": "1.00",
        "mem_allocator": "libc",
    }


def _persistence(gateway: "RespGateway", status: NodeStatus) -> Facts:
    return {
        "loading": 0,
        "async_loading": 0,
        "rdb_changes_since_last_save": 0,
        "rdb_bgsave_in_progress": 0,
        "rdb_last_save_time": int(gateway.started_s),
        "rdb_last_bgsave_status": "ok",
        "rdb_last_bgsave_time_sec": -1,
        "rdb_current_bgsave_time_sec": -1,
        "aof_enabled": 1,
        "aof_rewrite_in_progress": 0,
        "aof_rewrite_scheduled": 0,
        "aof_last_rewrite_time_sec": -1,
        "aof_current_rewrite_time_sec": -1,
        "aof_last_bgrewrite_status": "ok",
        "aof_last_write_status": "ok",
    }


def _stats(gateway: "RespGateway", status: NodeStatus) -> Facts:
    return {
        "total_connections_received": gateway.connections_received,
        "total_commands_processed": sum(gateway.calls.values()),
        "total_net_input_bytes": gateway.input_bytes,
        "total_net_output_bytes": gateway.output_bytes,
        "rejected_connections": gateway.connections_rejected,
        "sync_full": status.counters.get("snapshots_sent", 0),
        "sync_partial_ok": 0,
        "sync_partial_err": 0,
        "evicted_keys": 0,
        "pubsub_channels": 0,
        "pubsub_patterns": 0,
        "total_error_replies": sum(gateway.errors.values()),
        "client_output_buffer_limit_disconnections": gateway.output_limit_disconnections,
    }


def _replication(gateway: "RespGateway", status: NodeStatus) -> Facts:
    offset = sum(shard.applied_index for shard in status.shards)
    return {
        "role": "master",
        "connected_slaves": 0,
        "master_failover_state": "no-failover",
        "master_replid": gateway.run_id(status),
        "master_repl_offset": offset,
        "second_repl_offset": -1,
        "repl_backlog_active": 0,
    }


def _cpu(gateway: "RespGateway", status: NodeStatus) -> Facts:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "used_cpu_sys": f"{used.ru_stime:.6f}",
        "used_cpu_user": f"{used.ru_utime:.6f}",
        "used_cpu_sys_children": "0.000000",
        "used_cpu_user_children": "0.000000",
    }


def _cluster(gateway: "RespGateway", status: NodeStatus) -> Facts:
    return {"cluster_enabled": 0}


def _keyspace(gateway: "RespGateway", status: NodeStatus) -> Facts:
    """Keys of the shards that have a replica on this node, at its applied index."""
    keys: dict[int, int] = {}
    for shard in status.shards:
        for db, count in shard.keys.items():
            keys[db] = keys.get(db, 0) + count
    return {
        f"db{db}": f"keys={keys[db]},expires=0,avg_ttl=0,subexpiry=0"
        for db in sorted(keys)
        if keys[db]
    }


def _commandstats(gateway: "RespGateway", status: NodeStatus) -> Facts:
    row = "calls={},usec=0,usec_per_call=0.00,rejected_calls=0,failed_calls=0"
    return {
        f"cmdstat_{name.lower()}": row.format(count)
        for name, count in sorted(gateway.calls.items())
    }


def _errorstats(gateway: "RespGateway", status: NodeStatus) -> Facts:
    return {f"errorstat_{code}": f"count={count}" for code, count in sorted(gateway.errors.items())}


def _none(gateway: "RespGateway", status: NodeStatus) -> Facts:
    return {}


def _quoit(gateway: "RespGateway", status: NodeStatus) -> Facts:
    shards = status.shards
    facts: Facts = {
        "quoit_cluster_id": status.cluster_id,
        "quoit_node_id": status.node_id,
        "quoit_node_name": status.node_name,
        "quoit_consensus": status.consensus,
        "quoit_nodes": len(status.peers),
        "quoit_nodes_connected": sum(1 for peer in status.peers if peer.connected),
        "quoit_shards": len(shards),
        "quoit_shards_led_here": sum(1 for shard in shards if shard.leader == status.node_id),
        "quoit_shards_without_leader": sum(1 for shard in shards if not shard.leader),
        "quoit_pending_commands": sum(shard.pending for shard in shards),
    }
    for name, value in sorted(status.counters.items()):
        facts[f"quoit_{name}_total"] = value
    return facts


_Section = Callable[["RespGateway", NodeStatus], Facts]
_SECTIONS: dict[str, tuple[str, _Section]] = {
    "server": ("Server", _server),
    "clients": ("Clients", _clients),
    "memory": ("Memory", _memory),
    "persistence": ("Persistence", _persistence),
    "stats": ("Stats", _stats),
    "replication": ("Replication", _replication),
    "cpu": ("CPU", _cpu),
    "modules": ("Modules", _none),
    "commandstats": ("Commandstats", _commandstats),
    "errorstats": ("Errorstats", _errorstats),
    "latencystats": ("Latencystats", _none),
    "cluster": ("Cluster", _cluster),
    "keyspace": ("Keyspace", _keyspace),
    "quoit": ("Quoit", _quoit),
}
_NOT_BY_DEFAULT = ("commandstats", "latencystats")


@own(
    "INFO",
    -1,
    group="server",
    since="1.0.0",
    summary="This node in numbers, by section.",
)
def info(connection: "RespConnection", args: list[bytes], ticket: int) -> bytes:
    """INFO [section ...]."""
    asked = [plain(arg).lower() for arg in args[1:]] or ["default"]
    wanted: dict[str, None] = {}
    for name in asked:
        if name in ("all", "everything"):
            wanted.update(dict.fromkeys(_SECTIONS))
        elif name == "default":
            wanted.update(dict.fromkeys(key for key in _SECTIONS if key not in _NOT_BY_DEFAULT))
        elif name in _SECTIONS:
            wanted[name] = None
    gateway = connection.gateway
    status = gateway.status(connection.host.node)
    parts = []
    for name, (title, section) in _SECTIONS.items():
        if name in wanted:
            facts = section(gateway, status)
            lines = "".join(f"{key}:{value}\r\n" for key, value in facts.items())
            parts.append(f"# {title}\r\n{lines}")
    return resp.verbatim("\r\n".join(parts), connection.session.proto)
