"""Whether an nginx can be the gateway: its version, and which of our directives it takes.

In: how nginx is started. Out: a `NginxNature`. The answer is nginx's own: each directive is given
to `nginx -t` in a configuration without a listener, in a folder that is gone afterwards.
It must start no nginx that serves.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from reconciler.core.facts import NginxNature
from reconciler.drivers import effects
from reconciler.drivers.programs import ask

ANSWER_S = 10.0
"""`nginx -t` takes 5 ms."""
PROBES: Mapping[str, str] = {
    "js_import": "js_import probe from probe.js;",
    "js_shared_dict_zone": "js_shared_dict_zone zone=probe:1m timeout=1s evict;",
    "keepalive_min_timeout": "keepalive_min_timeout 10s;",
    "keepalive 0": 'upstream probe { server "unix:/probe.sock"; keepalive 0; }',
}
"""What templates/nginx.conf.j2 uses and not every nginx has."""

_TEMPORARY = "".join(
    f"{name}_temp_path temp; " for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
)
_CONFIG = (
    "pid probe.pid; error_log stderr; events {{}} http {{ access_log off; " + _TEMPORARY + "{} }}\n"
)
_VERSION = re.compile(r"nginx version: \S*/(\S+)")


def nginx_nature(command: tuple[str, ...], reason: str) -> NginxNature:
    """What this nginx is and takes; `reason` says what was tried where `command` is empty."""
    if not command:
        return NginxNature(reason=reason)
    path = command[0]
    try:
        with effects.scratch_folder() as folder:
            program = _runnable(path, folder)
            said = ask([program, "-v"], timeout=ANSWER_S).talk
            version = next(_VERSION.finditer(said), [""] * 2)[1]
            lacks = tuple(name for name in PROBES if not _takes(program, PROBES[name], folder))
    except OSError as error:
        return NginxNature(reason=f"{path} cannot be used: {error.strerror or error}")
    return NginxNature(path, version=version, lacks=lacks)


def _runnable(path: str, folder: Path) -> str:
    """The program, or a copy: out of a wheel it may lack its mark, which only an apply gives it."""
    if os.access(path, os.X_OK):
        return path
    return str(effects.copy_program(path, folder / "nginx"))


def _takes(program: str, directive: str, folder: Path) -> bool:
    effects.write_atomic(folder / "probe.js", "export default {};\n")
    effects.write_atomic(folder / "probe.conf", _CONFIG.format(directive))
    words = [program, "-t", "-p", str(folder), "-c", "probe.conf", "-e", "stderr"]
    return ask(words, timeout=ANSWER_S).code == 0
