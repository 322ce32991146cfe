"""The shipped templates of `renders` before the programs that they are for: Caddy and Prometheus.

In: what each desired state of tests/core/test_shipped_renders.py makes of a template. Out: what the
program's own check says. Those that cost minutes to fetch are in tests/e2e/test_programs.py.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from certificates import make_certificate
from test_shipped_renders import STATES, filled

from reconciler.core.site import Site

CHECKS = {
    "Caddyfile.j2": ("caddy", "validate", "--adapter", "caddyfile", "--config"),
    "prometheus.yml.j2": ("promtool", "check", "config"),
}


def check(name: str, path: Path) -> subprocess.CompletedProcess[str]:
    """Caddy keeps its own authority in HOME."""
    words = [*CHECKS[name], str(path)]
    environment = {"PATH": os.environ["PATH"], "HOME": str(path.parent)}
    return subprocess.run(words, capture_output=True, text=True, check=False, env=environment)


@pytest.mark.needs("openssl")
@pytest.mark.parametrize(
    "name",
    [
        pytest.param("Caddyfile.j2", marks=pytest.mark.needs("caddy")),
        pytest.param("prometheus.yml.j2", marks=pytest.mark.needs("prometheus")),
    ],
)
def test_their_programs_take_them(name: str, tmp_path: Path) -> None:
    make_certificate(tmp_path / "tls")
    (tmp_path / "prometheus.key").write_text("a-key-4711\n")
    site = Site(str(tmp_path), str(tmp_path / "state"), "desired/x.yaml")
    path = tmp_path / name.removesuffix(".j2")
    for state in STATES.values():
        path.write_text(filled(name, state, site))
        done = check(name, path)
        assert done.returncode == 0, f"{done.stderr}\n{path.read_text()}"
    path.write_text(path.read_text() + "\n{nonsense")
    assert check(name, path).returncode != 0
