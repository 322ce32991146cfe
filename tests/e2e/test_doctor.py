"""doctor, as a user meets it: what is missing, what to do, on 80 columns; nothing is changed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from e2e import machine
from e2e.conftest import Stranger
from e2e.lab import Lab
from e2e.terminal import Terminal


def checks(lab: Lab, *words: str, code: int = 0, **options: Any) -> dict[str, dict[str, str]]:
    done = lab.run("doctor", "--json", *words, code=code, **options)
    return {one["name"]: one for one in done.json["checks"]}


def front(lab: Lab, nginx: str) -> dict[str, str]:
    return {"listen": f"127.0.0.1:{lab.listen}", "nginx": nginx}


def test_a_machine_that_has_all(lab: Lab) -> None:
    lab.write({"a": {}})
    before = machine.snapshot(lab.root, lab.folder / "home")
    done = lab.run("doctor")
    assert done.err == ""
    lines = done.out.splitlines()
    marks = {line[:4].strip() for line in lines[:-2] if not line.startswith(" ")}
    assert marks <= {"ok", "warn"}
    assert lines[-1].startswith("Nothing that is needed is missing")
    assert machine.snapshot(lab.root, lab.folder / "home") == before
    assert not (lab.folder / "s").exists()


def test_it_fits_80_columns_with_marks_in_colour(lab: Lab) -> None:
    lab.write({"a": {}})
    plain = lab.run("doctor").out
    with Terminal(lab, "doctor") as terminal:
        assert terminal.end() == 0
    assert "\x1b[32mok\x1b[0m " in terminal.text
    # But for what is free at the moment.
    assert re.sub(r"\d", "", "\n".join(terminal.lines)) == re.sub(r"\d", "", plain.rstrip("\n"))
    paths = [line for line in plain.splitlines() if "/" in line]
    assert max(len(line) for line in plain.splitlines() if line not in paths) <= 80


def test_a_missing_engine_and_a_missing_nginx(lab: Lab, tmp_path: Path) -> None:
    lab.write({"a": {}}, engine={"kind": "llama-server"}, gateway=front(lab, "nginx"))
    nothing = {"PATH": str(tmp_path)}
    found = checks(lab, code=3, env=nothing)
    assert found["engine"]["status"] == "bad"
    assert found["engine"]["summary"] == "'llama-server' is not on PATH"
    assert "`engine.kind: embedded`" in found["engine"]["hint"]
    assert found["nginx"]["status"] == "bad"
    assert found["nginx"]["summary"] == "there is no program 'nginx'"
    # Said once, not once more for every model.
    assert not [name for name in found if name.startswith(("instance.", "gateway"))]
    text = lab.run("doctor", code=3, env=nothing).out
    assert text.splitlines()[1].startswith("bad  engine")
    assert text.endswith("2 missing or wrong.\n") or ", 1 to look at." in text


def test_an_nginx_that_is_too_old(lab: Lab, tmp_path: Path) -> None:
    old = tmp_path / "nginx"
    old.write_text('#!/bin/sh\necho "nginx version: nginx/1.18.0" >&2\ntest "$1" = -v\n')
    old.chmod(0o755)
    lab.write({}, gateway=front(lab, str(old)))
    found = checks(lab, code=3)["nginx"]
    assert "(1.18.0) does not take" in found["summary"]
    assert "keepalive_min_timeout: nginx 1.27.4" in found["hint"]


def test_what_the_file_needs(lab: Lab, stranger: Stranger) -> None:
    lab.write({"a": {"port": stranger.port}, "b": {"source": {"path": "gone.gguf"}}})
    found = checks(lab, str(lab.file), code=3)
    assert (
        f"port {stranger.port} is held by pid {stranger.process.pid}"
        in (found["instance.a"]["hint"])
    )
    assert "gone.gguf cannot be read" in found["instance.b"]["hint"]


def test_a_broken_file_and_none(lab: Lab, tmp_path: Path) -> None:
    lab.file.write_text("version: 1\nmodels: {a: {sauce: 1}}\n")
    found = checks(lab, code=3)
    assert found["desired file"]["status"] == "bad"
    assert "desired/x.yaml:2:14: unknown key `sauce`" in found["desired file"]["hint"]
    assert found["engine"]["status"] == "ok"
    found = checks(lab, cwd=tmp_path)
    assert found["desired file"]["summary"].startswith("no root here")
    assert "root" not in found


def test_beside_a_run_and_without_a_value_of_the_environment(lab: Lab) -> None:
    """It waits for no lock; of variables it names only names."""
    lab.write({"a": {}})
    lab.apply()
    secrets = {"HF_TOKEN": "hf_secret", "LLAMA_ARG_TEMP": "0.123", "HTTPS_PROXY": "http://u:pw@h"}
    holder = lab.popen("apply", str(lab.file), "-y")
    done = lab.run("doctor", env=secrets)
    assert lab.end(holder).code == 0
    for secret in secrets.values():
        assert secret not in done.all
    assert "LLAMA_ARG_TEMP does not reach servers" in done.out
    assert "asked with HF_TOKEN, HTTPS_PROXY" in done.out


def test_few_open_files(lab: Lab) -> None:
    lab.write({"a": {}})
    under = ("sh", "-c", 'ulimit -n 512; exec "$@"', "sh")
    found = checks(lab, under=under)["limits"]
    assert found["status"] == "warn"
    assert "open files: 512" in found["hint"]
