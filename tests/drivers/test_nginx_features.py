"""What an nginx takes of the gateway's directives: the real one, and others played by scripts."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest

from reconciler.core.facts import NginxNature
from reconciler.core.site import Site
from reconciler.drivers import effects, nginx_features
from reconciler.drivers.nginx import NginxGateway
from reconciler.drivers.nginx_features import PROBES, Probe, nginx_nature
from reconciler.drivers.templates import load_templates


@pytest.fixture(autouse=True)
def temporary(
    short_folder: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """Where temporary folders are made: nothing may stay in it."""
    # Those of all later tests would lie there, too, if this one is the first to ask for one.
    tmp_path_factory.getbasetemp()
    monkeypatch.setattr(tempfile, "tempdir", str(short_folder))
    return short_folder


def real_nginx() -> str:
    command, _ = NginxGateway(Site("/r", "/s", "x")).locate("auto")
    return command[0]


def script(folder: Path, text: str) -> tuple[str, ...]:
    path = folder / "bin" / "nginx"
    path.parent.mkdir()
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return (str(path),)


def test_the_nginx_that_comes_along_takes_all_of_them(temporary: Path) -> None:
    found = nginx_nature((real_nginx(),), "", tls=True)
    assert found.lacks == ()
    assert found.version.split(".")[0] == "1"
    assert found.command == real_nginx()
    assert list(temporary.iterdir()) == []


def test_all_that_it_makes_is_ours(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A root without capabilities, as in a container, could not remove what is another's."""
    owners: set[int] = set()

    def look(_: str) -> None:
        owners.update(path.stat().st_uid for path in temporary.glob("*/temp"))

    monkeypatch.setattr(effects, "hook", look)
    nginx_nature((real_nginx(),), "")
    assert owners == {os.geteuid()}


def test_a_directive_that_no_nginx_has_is_lacking(monkeypatch: pytest.MonkeyPatch) -> None:
    more = (Probe("in_http", "in_http on;"), Probe("in_main", main="in_main on;", only_tls=True))
    monkeypatch.setattr(nginx_features, "PROBES", (*PROBES, *more))
    assert nginx_nature((real_nginx(),), "").lacks == ("in_http",)
    assert nginx_nature((real_nginx(),), "", tls=True).lacks == ("in_http", "in_main")


def test_one_that_lost_its_mark_is_asked_as_a_copy(tmp_path: Path) -> None:
    program = tmp_path / "nginx"
    shutil.copy(real_nginx(), program)
    program.chmod(0o644)
    # Not even root may execute a file without any mark.
    assert not os.access(program, os.X_OK)
    found = nginx_nature((str(program),), "")
    assert (found.command, found.lacks) == (str(program), ())
    assert not os.access(program, os.X_OK)


def test_an_older_one(tmp_path: Path) -> None:
    command = script(
        tmp_path,
        'case "$*" in -v) echo "nginx version: nginx/1.22.1 (Odd)" >&2;; '
        '*) grep -q "js_import" "$3/probe.conf";; esac',
    )
    assert nginx_nature(command, "") == NginxNature(
        command[0],
        version="1.22.1",
        lacks=("js_shared_dict_zone", "js_periodic", "keepalive_min_timeout", "keepalive 0"),
    )


def test_one_that_cannot_be_asked(tmp_path: Path) -> None:
    assert nginx_nature((), "there is none") == NginxNature(reason="there is none")
    (tmp_path / "nginx").write_text("#!/nonexistent/interpreter\n")
    (tmp_path / "nginx").chmod(0o755)
    said = nginx_nature((str(tmp_path / "nginx"),), "").reason
    assert said == f"{tmp_path}/nginx cannot be used: No such file or directory"


def test_every_probe_is_used_by_the_gateway() -> None:
    text = "".join(load_templates(Path("/nonexistent")).values())
    assert [one.name for one in PROBES if one.name not in text] == []
