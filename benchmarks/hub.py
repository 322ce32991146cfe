"""A hub on this machine whose weights are served by nginx, so that no Python is what is measured.

In: contents that are made on the fly. Out: an endpoint; the weights lie in memory, by their hashes.
Names, sizes and hashes come from the tests' hub, as of the real one: it sends on to the store.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from hub_faults import Made, sha_of
from hub_server import HubServer, hub_server

from benchmarks import machine
from benchmarks.lab import BenchmarkError, by_hand
from reconciler.core.site import Site
from reconciler.drivers.nginx import NginxGateway

REPO = "org/Model-GGUF"
MEMORY = Path("/dev", "shm")
"""A file system in memory: no disk is measured, neither the hub's nor the store's."""
_CONF = """\
daemon off;
worker_processes 1;
user root;
pid {folder}/pid;
error_log {folder}/error.log;
events {{}}
http {{
  access_log off;
  sendfile on;
  tcp_nopush on;
  keepalive_requests 1000000;
  client_body_temp_path {folder}/t1;
  proxy_temp_path {folder}/t2;
  fastcgi_temp_path {folder}/t3;
  uwsgi_temp_path {folder}/t4;
  scgi_temp_path {folder}/t5;
  server {{ listen 127.0.0.1:{port}; root {folder}; }}
}}
"""


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """A folder in memory, gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="lb", dir=MEMORY))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def quick_hub(folder: Path, files: Mapping[str, Made]) -> Iterator[HubServer]:
    """A hub with one repository of these files."""
    nginx, why = NginxGateway(Site("/", "/", "")).locate("auto")
    if not nginx:
        raise BenchmarkError(why)
    (folder / "cdn").mkdir()
    for one in files.values():
        _write(one, folder / "cdn" / sha_of(one))
    [port] = machine.free_ports(1)
    conf = folder / "nginx.conf"
    conf.write_text(_CONF.format(folder=folder, port=port), encoding="utf-8")
    argv = [*nginx, "-p", str(folder), "-c", str(conf), "-e", str(folder / "error.log")]
    with by_hand(argv, {}, folder / "log"), hub_server() as hub:
        _await(folder / "pid")
        hub.store = f"http://localhost:{port}"
        hub.add(REPO, files)
        yield hub


def _write(content: Made, path: Path) -> None:
    with path.open("wb") as file:
        at = 0
        while at < len(content):
            block = content.part(at, len(content))
            file.write(block)
            at += len(block)


def _await(pid_file: Path) -> None:
    """Wait until nginx listens: it writes its pid after that."""
    deadline = time.monotonic() + 10
    while not (pid_file.exists() and pid_file.read_text(encoding="ascii").strip()):
        if time.monotonic() > deadline:
            raise BenchmarkError("nginx did not start")
        time.sleep(0.01)
