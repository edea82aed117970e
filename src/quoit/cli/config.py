"""Settings of `quoit serve`: flags win over QUOIT_* variables, those over a TOML file, that over the
defaults. An unknown key is an error, because a misspelt safety setting must not pass in silence."""

import difflib
import os
import tomllib
from pathlib import Path
from typing import Any

import msgspec

from quoit.base.errors import BadRequest
from quoit.runtime.options import NodeOptions, PeerAddress

__all__ = ["ServeConfig", "load", "node_options", "parse_peer"]

LOOPBACK = ("127.", "localhost", "::1")


class ServeConfig(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Everything `quoit serve` can be told. Times in milliseconds."""

    name: str = ""
    node_id: int = 1
    data_dir: str = "quoit-data"
    cluster_id: str = "local"
    secret: str = ""
    host: str = "127.0.0.1"
    resp_port: int = 7379
    admin_port: int = 7400
    peer_port: int = 7401
    peers: list[str] = []
    """`ID=HOST:PEERPORT[/RESPPORT[/ADMINPORT]]` of every node, this one included."""
    shards: int = 0
    replication_factor: int = 3
    password: str = ""
    election_timeout_ms: int = 300
    heartbeat_ms: int = 60
    lease: bool = True
    drift_ppm: int = 10_000
    consensus: str = "raft"
    log_level: str = "info"
    log_format: str = "auto"
    ready_file: str = ""


def load(
    flags: dict[str, Any], environment: dict[str, str] | None = None, file: str | None = None
) -> ServeConfig:
    """The settings in force. BadRequest with what to change when they do not fit."""
    known = {field.name: field for field in msgspec.structs.fields(ServeConfig)}
    values: dict[str, Any] = {}
    if file:
        try:
            values = tomllib.loads(Path(file).read_text())
        except (OSError, tomllib.TOMLDecodeError) as error:
            raise BadRequest(f"{file} cannot be read: {error}") from None
        for key in values:
            if key not in known:
                raise BadRequest(f"{file}: there is no setting {key!r}.{_near(key, list(known))}")
    for key, text in sorted((environment if environment is not None else os.environ).items()):
        if not key.startswith("QUOIT_") or key in ("QUOIT_COLOR", "QUOIT_CONFIG"):
            continue
        name = key[6:].lower()
        if name.endswith("_file") and name[:-5] in ("secret", "password"):
            values[name[:-5]] = Path(text).read_text().strip()
        elif name not in known:
            raise BadRequest(f"there is no setting {key}.{_near(name, list(known))}")
        else:
            values[name] = text.split(",") if name == "peers" else text
    values.update({key: value for key, value in flags.items() if value is not None})
    try:
        config = msgspec.convert(values, ServeConfig, strict=False)
    except msgspec.ValidationError as error:
        raise BadRequest(f"a setting does not fit: {error}") from None
    _check(config)
    return config


def _near(name: str, names: list[str]) -> str:
    close = difflib.get_close_matches(name, names, n=1)
    return f" Did you mean {close[0]!r}?" if close else ""


def _check(config: ServeConfig) -> None:
    if not config.host.startswith(LOOPBACK) and not config.password:
        raise BadRequest(
            f"{config.host} can be reached by others, and no password is set; one of these helps:\n"
            "  quoit serve --host 127.0.0.1\n"
            "  QUOIT_PASSWORD_FILE=/run/secrets/quoit quoit serve --host ...\n"
            "  quoit serve --host ... --password ..."
        )
    if not config.host.startswith(LOOPBACK) and len(config.peers) > 1 and len(config.secret) < 16:
        raise BadRequest(
            "nodes that can be reached by others need a cluster secret of at least 16 characters: "
            "set QUOIT_SECRET_FILE to a file with the same secret on every node"
        )
    if config.consensus != "raft":
        raise BadRequest("consensus can be 'raft' only, for now")
    if config.heartbeat_ms * 3 > config.election_timeout_ms:
        raise BadRequest("election_timeout_ms must be at least three times heartbeat_ms")
    if config.shards < 0 or config.shards > 1024:
        raise BadRequest("shards must be between 1 and 1024 (0: chosen for you)")


def parse_peer(text: str) -> PeerAddress:
    """`ID=HOST:PEERPORT[/RESPPORT[/ADMINPORT]]`."""
    try:
        number, _, address = text.partition("=")
        place, *others = address.split("/")
        host, _, port = place.rpartition(":")
        resp, admin = ([int(one) for one in others] + [0, 0])[:2]
        return PeerAddress(int(number), f"n{int(number)}", host, int(port), resp, admin)
    except ValueError:
        raise BadRequest(
            f"{text!r} is no peer; write ID=HOST:PEERPORT/RESPPORT/ADMINPORT, "
            "as in 1=10.0.0.1:7401/7379/7400"
        ) from None


def node_options(config: ServeConfig) -> NodeOptions:
    """What the runtime is started with."""
    own = PeerAddress(
        config.node_id, config.name or f"n{config.node_id}", config.host, config.peer_port,
        config.resp_port, config.admin_port,
    )  # fmt: skip
    peers = [parse_peer(text) for text in config.peers]
    if peers and config.node_id not in [peer.id for peer in peers]:
        raise BadRequest(f"node {config.node_id} is not among its own peers")
    peers = [own if peer.id == config.node_id else peer for peer in peers] or [own]
    return NodeOptions(
        node_id=config.node_id,
        name=own.name,
        cluster_id=config.cluster_id,
        secret=(config.secret or config.cluster_id).encode(),
        data_dir=config.data_dir,
        host=config.host,
        peer_port=config.peer_port,
        resp_port=config.resp_port,
        admin_port=config.admin_port,
        peers=sorted(peers, key=lambda peer: peer.id),
        shards=config.shards,
        replication_factor=min(config.replication_factor, len(peers)),
        election_timeout_us=config.election_timeout_ms * 1000,
        heartbeat_us=config.heartbeat_ms * 1000,
        lease_enabled=config.lease,
        drift_ppm=config.drift_ppm,
    )
