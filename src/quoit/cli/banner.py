"""What `quoit serve` says when it is up: one aligned block, and last the commands to paste next."""

import shutil

from quoit import __version__
from quoit.cli.config import ServeConfig
from quoit.gateways.admin.access import is_loopback
from quoit.quorum.members import quorums
from quoit.runtime.options import NodeOptions

__all__ = ["banner", "human_bytes", "url_host"]

LINES_MAX = 14


def banner(options: NodeOptions, settings: ServeConfig) -> str:
    """At most LINES_MAX lines."""
    count = len(options.peers)
    copies = min(options.replication_factor, count)
    quorum = quorums(options.quorum, copies).write
    own = next(peer for peer in options.peers if peer.id == options.node_id)
    host, admin_host = url_host(own.host), url_host(settings.admin_host)
    free = shutil.disk_usage(settings.data_dir).free
    admin = f"{admin_host}:{settings.admin_port}"
    rows = [
        ("redis", f"redis://{host}:{own.resp_port}/0"),
        ("admin", f"http://{admin}/v1/status   metrics /metrics   health /livez /readyz"),
        ("data", f"{settings.data_dir}  ({human_bytes(free)} free)"),
    ]
    if not settings.password:
        rows.append(("note", "this machine only, no password, no TLS: fine on a laptop"))
    elif not is_loopback(settings.host):
        rows.append(("note", "no TLS: keep these ports inside a network that you trust"))
    words = "-a PASSWORD " if settings.password else ""
    where = "" if own.host == "127.0.0.1" else f"-h {own.host} "
    status = "quoit status" if settings.admin_port == 7400 else f"quoit status --admin {admin}"
    rows.append(
        ("next", f"redis-cli {where}-p {own.resp_port} {words}set hello world   ·   {status}")
    )
    head = (
        f"quoit {__version__}  node {options.name} · cluster {options.cluster_id} · "
        f"{count} node{'' if count == 1 else 's'}, {copies} "
        f"cop{'y' if copies == 1 else 'ies'}, quorum {quorum}, {options.consensus}"
    )
    width = max(len(name) for name, _ in rows)
    return "\n".join([head, *(f"  {name:<{width}}  {text}" for name, text in rows)])


def url_host(host: str) -> str:
    """`host` as it stands in a URL: IPv6 in brackets."""
    return f"[{host}]" if ":" in host else host


def human_bytes(count: int) -> str:
    """12 MB; decimal units."""
    size = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}"
        size /= 1000
    return f"{size:.0f} TB"
