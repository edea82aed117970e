"""A node that was not there when the cluster began: what it must know it asks any node for, once; later
starts find it in its data directory (runtime/nodes_file.py)."""

import time
from pathlib import Path
from typing import Any

import msgspec

from quoit import __version__
from quoit.base.errors import BadRequest
from quoit.cli.admin_client import AdminError, ask, fetch_status
from quoit.cli.config import ServeConfig, parse_peer, peer_entry
from quoit.runtime.disk import RealDisk
from quoit.runtime.nodes_file import ClusterView, read_view, write_view
from quoit.runtime.options import PeerAddress

__all__ = ["joined"]

_PATIENCE_S = 15.0
_RETRY_S = 0.3


def joined(config: ServeConfig) -> tuple[ServeConfig, ClusterView | None]:
    """(settings in force, the cluster that was joined or None if the settings describe it). BadRequest
    when the cluster cannot be asked or does not want this node."""
    known = (Path(config.data_dir) / "nodes.json").exists()
    view = read_view(RealDisk(config.data_dir)) if known else None
    if view is None:
        if not config.join:
            return msgspec.structs.replace(config, node_id=config.node_id or 1), None
        view, name = _asked(config)
        config = msgspec.structs.replace(config, node_id=view.own, name=name)
    elif not config.node_id:
        config = msgspec.structs.replace(config, node_id=view.own or 1)
    if known and config.node_id in view.founders:
        return _near(_as_begun(config, view), view), None
    if config.cluster_id not in (ServeConfig().cluster_id, view.cluster_id):
        raise BadRequest(f"the cluster is {view.cluster_id!r}, not {config.cluster_id!r}")
    return _filled(_near(config, view) if known else config, view), view


def _as_begun(config: ServeConfig, view: ClusterView) -> ServeConfig:
    """A founder comes back: what it is not told again is as when the cluster began."""
    default = ServeConfig()
    begun = {
        "cluster_id": view.cluster_id, "shards": view.shards, "consensus": view.consensus,
        "replication_factor": view.replication_factor, "quorum": view.quorum,
    }  # fmt: skip
    left_out = {
        name: value
        for name, value in begun.items()
        if getattr(config, name) == getattr(default, name)
    }
    return msgspec.structs.replace(config, **left_out)


def _near(config: ServeConfig, view: ClusterView) -> ServeConfig:
    """A node of the cluster comes back, and may have moved, as the others may have: where the node at
    `join` is now, it says. If it does not answer, the addresses of last time must do."""
    own = [text for text in config.peers if parse_peer(text).id == config.node_id]
    peers = list(config.peers)
    if not own and (config.join or peers):
        peers.append(_own_entry(config))
    if not config.join:
        return msgspec.structs.replace(config, peers=peers)
    try:
        status = fetch_status(config.join)
    except (OSError, ValueError):
        return msgspec.structs.replace(config, peers=peers)
    named = {parse_peer(text).id for text in peers}
    for peer in status["peers"]:
        if peer["id"] not in named and (peer["connected"] or peer["id"] == status["node_id"]):
            ports = (peer["peer_port"], peer["resp_port"], peer["admin_port"])
            peers.append(peer_entry(PeerAddress(peer["id"], "", peer["host"], *ports)))
    return msgspec.structs.replace(config, peers=peers)


def _own_entry(config: ServeConfig) -> str:
    ports = (config.peer_port, config.resp_port, config.admin_port)
    return peer_entry(PeerAddress(config.node_id, config.name, config.host, *ports, config.zone))


def _asked(config: ServeConfig) -> tuple[ClusterView, str]:
    """(the cluster with this node's number, its name); written down, so that the number is not lost."""
    try:
        view = msgspec.convert(ask(config.join, "/v1/cluster"), ClusterView)
        if config.node_id:
            _check_number(config.node_id, fetch_status(config.join))
        if config.cluster_id not in (ServeConfig().cluster_id, view.cluster_id):
            raise BadRequest(f"the cluster is {view.cluster_id!r}, not {config.cluster_id!r}")
        told = _allotted(config)
    except PermissionError as error:
        raise BadRequest(str(error)) from None
    except AdminError as error:
        raise BadRequest(f"the cluster does not let this node join: {error}") from None
    except (OSError, ValueError) as error:
        raise BadRequest(
            f"no node of a cluster answers at {config.join}: {error}; give --join the admin address "
            "of one that runs, as in 127.0.0.1:7400"
        ) from None
    mine = msgspec.structs.replace(view, own=told["id"])
    write_view(RealDisk(config.data_dir), mine)
    return mine, told["name"]


def _allotted(config: ServeConfig) -> dict[str, Any]:
    """The number and name that the cluster gives. Waits while its record has no leader."""
    body = {
        "id": config.node_id, "name": config.name, "host": config.host, "version": __version__,
        "peer_port": config.peer_port, "resp_port": config.resp_port,
        "admin_port": config.admin_port, "token": config.join_token, "zone": config.zone,
        "weight": config.weight,
    }  # fmt: skip
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        try:
            told: dict[str, Any] = ask(config.join, "/v1/nodes", body, 10.0)
            return told
        except AdminError as error:
            if error.status != 503 or time.monotonic() > deadline:
                raise
            time.sleep(_RETRY_S)


def _check_number(number: int, status: dict[str, Any]) -> None:
    """Two nodes with one number would undo each other's promises."""
    free = "leave --node-id out, and the cluster gives this node a free one"
    for peer in status["peers"]:
        if peer["id"] == number and peer["connected"]:
            raise BadRequest(
                f"node {number} runs already ({peer['name']} at {peer['host']}); {free}"
            )
    for shard in status["shards"]:
        if number in shard["replicas"]:
            raise BadRequest(
                f"node {number} keeps shard {shard['id']}, but this data directory is empty; give it "
                f"its own directory, or {free}"
            )


def _filled(config: ServeConfig, view: ClusterView) -> ServeConfig:
    peers = list(config.peers)
    named = {parse_peer(text).id for text in peers}
    if config.node_id not in named:
        peers.insert(0, _own_entry(config))
    others = [one for one in view.nodes if one.id != config.node_id and one.id not in named]
    peers += map(peer_entry, others)
    return msgspec.structs.replace(
        config,
        cluster_id=view.cluster_id,
        peers=peers,
        shards=view.shards,
        replication_factor=view.replication_factor,
        consensus=view.consensus,
        quorum=view.quorum,
        election_timeout_ms=view.election_timeout_us // 1000,
        heartbeat_ms=view.heartbeat_us // 1000,
        lease=view.lease_enabled,
        drift_ppm=view.drift_ppm,
    )
