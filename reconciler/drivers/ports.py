"""Who listens on this machine's TCP ports.

In: the ports that the desired state names, and our own pids. Out: the holder of each taken one.
Looks only. A process of another user is seen as a holder, but not named.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path

import psutil

from reconciler.core.engine import LABEL_ROOT
from reconciler.core.observed import PortHolder
from reconciler.drivers import proc

_WILDCARDS = frozenset({"0.0.0.0", "::"})  # noqa: S104 - compared with, not bound to


class TcpPorts:
    """The real `Ports` of `drivers.base`."""

    def holders(
        self, wanted: Mapping[int, str], ours: Mapping[int, str]
    ) -> Mapping[int, PortHolder]:
        """The holders of the ports in `wanted` that stand in the way of listening there."""
        if not wanted:
            return {}
        found: dict[int, PortHolder] = {}
        for connection in psutil.net_connections(kind="tcp"):
            if connection.status != psutil.CONN_LISTEN or not connection.laddr:
                continue
            ip, port, pid = connection.laddr.ip, connection.laddr.port, connection.pid
            if port not in wanted or not _in_the_way(ip, wanted[port]):
                continue
            command = " ".join(proc.command_line(pid))[:120] if pid else ""
            owner = _owner(pid, ours)
            root = _root_of_nginx(pid) if pid and owner is None else ""
            holder = PortHolder(port, pid, command, owner, root)
            known = found.get(port)
            # nginx's master and workers share a socket; a named holder says more than none.
            if known is None or (known.owner is None and holder.pid is not None):
                found[port] = holder
        return found

    def has_address(self, host: str) -> bool:
        """Whether this machine has that address to listen on; of a name it is not asked."""
        try:
            address = ip_address(host.strip("[]"))
        except ValueError:
            return True
        if address.is_unspecified or address.is_loopback or _binds_foreign_addresses():
            return True
        own = (one.address for found in psutil.net_if_addrs().values() for one in found)
        return str(address) in {one.partition("%")[0] for one in own}


def _binds_foreign_addresses() -> bool:
    """Whether this machine lets a process listen on addresses that it does not have (ip(7))."""
    try:
        return Path("/proc/sys/net/ipv4/ip_nonlocal_bind").read_text(encoding="ascii")[:1] == "1"
    except OSError:
        return False


def _root_of_nginx(pid: int) -> str:
    """Whose gateway an nginx is: that of the root whose servers use the same state folder."""
    stat = proc.read_stat(pid)
    words = " ".join(proc.command_line(stat.parent)).split() if stat else []
    if words[:2] != ["nginx:", "master"] or "-p" not in words[:-1]:
        return ""
    state = str(Path(words[words.index("-p") + 1]).parent)
    for other in proc.own_pids():
        root = proc.environment(other).get(LABEL_ROOT)
        if root and any(word.startswith(f"{state}/") for word in proc.command_line(other)):
            return root
    return ""


def _in_the_way(taken: str, wanted: str) -> bool:
    wanted = wanted.strip("[]")  # as `listen` writes an IPv6 address
    return taken == wanted or taken in _WILDCARDS or wanted in _WILDCARDS or wanted == "localhost"


def _owner(pid: int | None, ours: Mapping[int, str]) -> str | None:
    """Whose it is; a worker of nginx is known by its master."""
    stat = proc.read_stat(pid) if pid else None
    if pid is None or stat is None:
        return None
    return ours.get(pid) or ours.get(stat.parent)
