"""A node that was not there when the cluster began: what it must know it asks any node for, once; later
starts find it in its data directory (runtime/nodes_file.py)."""

from pathlib import Path
from typing import Any

import msgspec

from quoit.base.errors import BadRequest
from quoit.cli.admin_client import AdminError, ask, fetch_status
from quoit.cli.config import ServeConfig, parse_peer, peer_entry
from quoit.runtime.disk import RealDisk
from quoit.runtime.nodes_file import ClusterView, read_view
from quoit.runtime.options import PeerAddress

__all__ = ["joined"]


def joined(config: ServeConfig) -> tuple[ServeConfig, ClusterView | None]:
    """(settings in force, the cluster that was joined or None if the settings describe it). BadRequest
    when the cluster cannot be asked or does not want this node."""
    known = (Path(config.data_dir) / "nodes.json").exists()
    view = read_view(RealDisk(config.data_dir)) if known else None
    if view is None:
        if not config.join:
            return config, None
        view = _asked(config)
    elif config.node_id in view.founders:
        return config, None
    if config.cluster_id not in (ServeConfig().cluster_id, view.cluster_id):
        raise BadRequest(f"the cluster is {view.cluster_id!r}, not {config.cluster_id!r}")
    return _filled(config, view), view


def _asked(config: ServeConfig) -> ClusterView:
    try:
        view = msgspec.convert(ask(config.join, "/v1/cluster"), ClusterView)
        status = fetch_status(config.join)
    except PermissionError as error:
        raise BadRequest(str(error)) from None
    except (OSError, ValueError, AdminError) as error:
        raise BadRequest(
            f"no node of a cluster answers at {config.join}: {error}; give --join the admin address "
            "of one that runs, as in 127.0.0.1:7400"
        ) from None
    _check_number(config.node_id, status)
    return view


def _check_number(number: int, status: dict[str, Any]) -> None:
    """Two nodes with one number would undo each other's promises."""
    taken = sorted(peer["id"] for peer in status["peers"])
    free = f"choose another --node-id, as in {max(taken) + 1}"
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
    own = [text for text in config.peers if parse_peer(text).id == config.node_id]
    ports = (config.peer_port, config.resp_port, config.admin_port)
    here = PeerAddress(config.node_id, config.name, config.host, *ports, config.zone)
    others = [node for node in view.nodes if node.id != config.node_id]
    peers = [*(own or [peer_entry(here)]), *map(peer_entry, others)]
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
