"""Whether an nginx can be the gateway: its version, and which of our directives it takes.

In: how nginx is started. Out: a `NginxNature`. The answer is nginx's own: each directive is given
to `nginx -t` in a configuration without a listener, in a folder that is gone afterwards.
It must start no nginx that serves.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from reconciler.core.facts import NginxNature
from reconciler.drivers import effects
from reconciler.drivers.programs import ask

ANSWER_S = 10.0
"""`nginx -t` takes 5 ms."""


@dataclass(frozen=True, slots=True)
class Probe:
    """A directive that templates/nginx.conf.j2 uses and not every nginx has."""

    name: str
    http: str = ""
    """How it stands in the `http` block, or: """
    main: str = ""
    """outside of it."""
    only_tls: bool = False


PROBES = (
    Probe("js_import", "js_import probe from probe.js;"),
    Probe("js_shared_dict_zone", "js_shared_dict_zone zone=probe:1m timeout=1s evict;"),
    # Its place is a location; a server around it would have to listen somewhere.
    Probe("js_periodic", "js_periodic probe.read interval=1s;"),
    Probe("keepalive_min_timeout", "keepalive_min_timeout 10s;"),
    Probe("keepalive 0", 'upstream probe { server "unix:/probe.sock"; keepalive 0; }'),
    Probe("http2 on", "http2 on; ssl_protocols TLSv1.3;", only_tls=True),
    Probe("ssl_object_cache_inheritable", main="ssl_object_cache_inheritable off;", only_tls=True),
)

_TEMPORARY = "".join(
    f"{name}_temp_path temp; " for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
)
_CONFIG = (
    "{main} pid probe.pid; error_log stderr; events {{}} http {{ access_log off; "
    + _TEMPORARY
    + "{http} }}\n"
)
_MISPLACED = "directive is not allowed here"
"""What nginx says of a directive that it has, elsewhere."""
_VERSION = re.compile(r"nginx version: \S*/(\S+)")


def nginx_nature(command: tuple[str, ...], reason: str, *, tls: bool = False) -> NginxNature:
    """What this nginx is and takes; `reason` says what was tried where `command` is empty.

    `tls`: the gateway is to speak it.
    """
    if not command:
        return NginxNature(reason=reason)
    path = command[0]
    try:
        with effects.scratch_folder() as folder:
            program = _runnable(path, folder)
            said = ask([program, "-v"], timeout=ANSWER_S).talk
            version = next(_VERSION.finditer(said), [""] * 2)[1]
            probes = [one for one in PROBES if tls or not one.only_tls]
            lacks = tuple(one.name for one in probes if not _takes(program, one, folder))
    except OSError as error:
        return NginxNature(reason=f"{path} cannot be used: {error.strerror or error}")
    return NginxNature(path, version=version, lacks=lacks)


def _runnable(path: str, folder: Path) -> str:
    """The program, or a copy: out of a wheel it may lack its mark, which only an apply gives it."""
    if os.access(path, os.X_OK):
        return path
    return str(effects.copy_program(path, folder / "nginx"))


def _takes(program: str, probe: Probe, folder: Path) -> bool:
    effects.write_atomic(folder / "probe.js", "export default {};\n")
    effects.write_atomic(folder / "probe.conf", _CONFIG.format(main=probe.main, http=probe.http))
    words = [program, "-t", "-p", str(folder), "-c", "probe.conf", "-e", "stderr"]
    # Else root's nginx gives its folders to nobody, and a root without capabilities cannot remove
    # them.
    words += ("-g", "user root;") if os.geteuid() == 0 else ()
    answer = ask(words, timeout=ANSWER_S)
    return answer.code == 0 or _MISPLACED in answer.talk
