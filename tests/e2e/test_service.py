"""`service`: a unit that systemd understands, with a systemctl that works, fails, is not there."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from e2e.lab import Lab

SYSTEMCTL = """#!/bin/sh
echo "$@" >> "$HOME/asked"
test -e "$HOME/broken" && { cat "$HOME/broken" >&2; exit 1; }
case "$2" in is-enabled) echo enabled;; is-active) echo active;; esac
"""


@pytest.fixture
def machine(fakes: Lab) -> Lab:
    """A root with a file, and a systemctl that notes what it is asked."""
    fakes.write({"a": {}})
    programs = fakes.folder / "bin"
    programs.mkdir()
    systemctl = programs / "systemctl"
    systemctl.write_text(SYSTEMCTL)
    systemctl.chmod(0o755)
    fakes.variables = {"PATH": f"{programs}:{fakes.environment['PATH']}", "HF_TOKEN": "hf_secret"}
    return fakes


def units(lab: Lab) -> list[Path]:
    return list((lab.folder / "home" / ".config" / "systemd" / "user").glob("*"))


def asked(lab: Lab) -> list[str]:
    return (lab.folder / "home" / "asked").read_text().splitlines()


@pytest.mark.needs("systemd-analyze")
@pytest.mark.parametrize("words", [(), ("--system",)])
def test_systemd_has_nothing_to_say_against_the_unit(machine: Lab, words: tuple[str, ...]) -> None:
    text = machine.run("service", "install", "--print", *words, str(machine.file)).out
    assert units(machine) == []
    assert "hf_secret" not in text
    path = machine.folder / "x.service"
    path.write_text(text)
    scope = [] if words else ["--user"]
    home = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(machine.folder),
        "XDG_RUNTIME_DIR": str(machine.folder),
    }
    done = subprocess.run(
        ["systemd-analyze", *scope, "--man=no", "verify", str(path)],
        capture_output=True,
        text=True,
        check=False,
        env=home,
    )
    said = [line for line in done.stderr.splitlines() if "x.service" in line]
    assert (said, done.returncode) == ([], 0), done.stderr


def test_it_is_installed_and_goes_again(machine: Lab) -> None:
    file = str(machine.file)
    assert "not installed" in machine.run("service", "status", file).out
    done = machine.run("service", "install", file)
    [unit] = units(machine)
    assert f"{unit.name} is enabled and runs." in done.out.replace("\n", " ")
    assert asked(machine)[-3:] == [
        "--user daemon-reload",
        f"--user enable {unit.name}",
        f"--user restart {unit.name}",
    ]
    assert f'watch" "{file}"' in unit.read_text()
    status = machine.run("service", "status", file, "--json").json
    assert status == {
        "unit": unit.name,
        "path": str(unit),
        "installed": True,
        "enabled": "enabled",
        "active": "active",
    }
    machine.run("service", "uninstall", file)
    assert units(machine) == []
    assert asked(machine)[-2:] == [f"--user disable --now {unit.name}", "--user daemon-reload"]
    assert "There is no" in machine.run("service", "uninstall", file).out


def test_a_unit_of_others_is_left_alone(machine: Lab) -> None:
    machine.run("service", "install", str(machine.file))
    [unit] = units(machine)
    unit.write_text("[Service]\nExecStart=/bin/true\n")
    for verb in ("install", "uninstall"):
        said = machine.run("service", verb, str(machine.file), code=1).err
        assert "was not written by llm-reconcile" in said
    assert unit.read_text() == "[Service]\nExecStart=/bin/true\n"


def test_systemctl_fails(machine: Lab) -> None:
    trouble = machine.folder / "home" / "broken"
    trouble.write_text("it is broken\n")
    said = machine.run("service", "install", str(machine.file), code=1).err
    assert "`systemctl --user daemon-reload` failed: it is broken" in said
    said = machine.run("service", "status", str(machine.file), code=3).out
    assert "unknown, unknown" in said.replace("\n", " ")
    trouble.write_text("Failed to connect to bus: No medium found\n")
    said = machine.run("service", "install", str(machine.file), code=1).err
    assert "runs no manager of this user here" in said


def test_without_systemctl_it_says_what_to_type(fakes: Lab) -> None:
    fakes.write({"a": {}})
    empty = fakes.folder / "none"
    empty.mkdir()
    fakes.variables = {"PATH": str(empty)}
    done = fakes.run("service", "install", str(fakes.file))
    [unit] = units(fakes)
    assert f"systemctl --user restart {unit.name}" in done.out
    fakes.run("service", "uninstall", str(fakes.file))
    assert units(fakes) == []
