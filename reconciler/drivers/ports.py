"""Who listens on this machine's TCP ports.

In: the ports that the desired state names, and our own pids. Out: the holder of each taken one.
Looks only. A process of another user is seen as a holder, but not named.
"""

from __future__ import annotations

from collections.abc import Mapping

import psutil

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
            holder = PortHolder(port, pid, command, _owner(pid, ours))
            known = found.get(port)
            # nginx's master and workers share a socket; a named holder says more than none.
            if known is None or (known.owner is None and holder.pid is not None):
                found[port] = holder
        return found


def _in_the_way(taken: str, wanted: str) -> bool:
    wanted = wanted.strip("[]")  # as `listen` writes an IPv6 address
    return taken == wanted or taken in _WILDCARDS or wanted in _WILDCARDS or wanted == "localhost"


def _owner(pid: int | None, ours: Mapping[int, str]) -> str | None:
    """Whose it is; a worker of nginx is known by its master."""
    stat = proc.read_stat(pid) if pid else None
    if pid is None or stat is None:
        return None
    return ours.get(pid) or ours.get(stat.parent)
