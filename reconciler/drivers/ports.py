"""Who listens on this machine's TCP ports.

In: the ports that the desired state names, and our own pids. Out: the holder of each taken one.
Looks only. A process of another user is seen as a holder, but not named.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterable, Iterator, Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import NamedTuple

import psutil

from reconciler.core.engine import LABEL_ROOT
from reconciler.core.hiding import command_text
from reconciler.core.observed import PortHolder
from reconciler.core.words import GATEWAY_ADDRESS
from reconciler.drivers import proc

_WILDCARDS = frozenset({"0.0.0.0", "::"})  # noqa: S104 - compared with, not bound to


class TcpPorts:
    """The real `Ports` of `drivers.base`."""

    def holders(
        self, wanted: Mapping[int, str], ours: Mapping[int, str]
    ) -> Mapping[int, PortHolder]:
        """The holders of the ports in `wanted` that stand in the way of listening there."""
        taken = [one for one in listeners() if one.port in wanted] if wanted else []
        taken = [one for one in taken if _in_the_way(one.ip, wanted[one.port])]
        if not taken:
            return {}
        pids = pids_of({one.inode for one in taken}, ours)
        found: dict[int, PortHolder] = {}
        for one in taken:
            pid = pids.get(one.inode)
            command = command_text(proc.command_line(pid))[:120] if pid else ""
            owner = _owner(pid, ours)
            root = _root_of_nginx(pid) if pid and owner is None else ""
            known = found.get(one.port)
            # Of several addresses: a named holder says more than none.
            if known is None or (known.owner is None and pid is not None):
                found[one.port] = PortHolder(one.port, pid, command, owner, root)
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


class Listener(NamedTuple):
    """A socket that listens; its inode is how a process's descriptor names it."""

    ip: str
    port: int
    inode: str


def listeners() -> Iterator[Listener]:
    """All TCP sockets of this machine that listen."""
    for name in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            yield from read_listeners(Path(f"/proc/net/{name}").read_text(encoding="ascii"))


def read_listeners(text: str) -> Iterator[Listener]:
    """What of a table of the kernel listens (proc(5), /proc/net/tcp: state 0A is TCP_LISTEN)."""
    for words in map(str.split, text.splitlines()[1:]):
        if words[3] == "0A":
            address, _, port = words[1].partition(":")
            yield Listener(_ip(address), int(port, 16), words[9])


def _ip(text: str) -> str:
    """An address as the kernel writes it: words of four bytes, each in the machine's own order."""
    words = (int(text[start : start + 8], 16) for start in range(0, len(text), 8))
    return str(ip_address(b"".join(word.to_bytes(4, sys.byteorder) for word in words)))


def pids_of(inodes: set[str], ours: Mapping[int, str]) -> dict[str, int]:
    """Who has these sockets open: of ours if they have, whose descriptors are looked at first."""
    found = _holding(inodes, sorted(ours, key=lambda pid: (ours[pid] != GATEWAY_ADDRESS, pid)))
    left = inodes - found.keys()
    return found | _holding(left, sorted(proc.all_pids()), last=True) if left else found


def _holding(inodes: set[str], pids: Iterable[int], *, last: bool = False) -> dict[str, int]:
    """The first of `pids` for each socket, or the last one: nginx's workers follow their master."""
    names = {f"socket:[{inode}]": inode for inode in inodes}
    found: dict[str, int] = {}
    for pid in pids:
        if not last and len(found) == len(inodes):
            break
        for inode in (names[path] for path in proc.open_files(pid) if path in names):
            found[inode] = pid if last else found.get(inode, pid)
    return found


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
