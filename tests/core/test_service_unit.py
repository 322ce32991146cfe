"""The text of a unit: what paths with odd characters become, and what is not written into it."""

from __future__ import annotations

import pytest

from reconciler.core.service_unit import MARKER, Unit, unit_text
from reconciler.drivers.templates import shipped_folder
from reconciler.errors import UsageError

TEMPLATE = (shipped_folder() / "service" / "unit.j2").read_text(encoding="utf-8")
ODD = '/srv/a b/50% "of" $HOME\\x'


def unit(root: str = "/srv/llm", user: str = "", **environment: str) -> Unit:
    command = ("/opt/l r/llm-reconcile", "watch", f"{root}/desired/x.yaml")
    return Unit(root, command, environment, "/home/me/.config/llm-reconcile/environment", user)


def lines(one: Unit) -> list[str]:
    return unit_text(one, TEMPLATE).splitlines()


def test_odd_paths_are_quoted_as_systemd_reads_them() -> None:
    said = lines(unit(ODD))
    odd = '/srv/a b/50%% \\"of\\" $$HOME\\\\x'
    start = f'ExecStart="/opt/l r/llm-reconcile" "watch" "{odd}/desired/x.yaml"'
    assert start in said
    assert "WorkingDirectory=" + ODD.replace("%", "%%") in said


def test_secrets_stay_out_of_it() -> None:
    variables = {"HF_TOKEN": "hf_secret", "HF_HOME": "/data/100%", "PATH": "/bin", "LANG": ""}
    text = unit_text(unit(**variables), TEMPLATE)
    assert "secret" not in text
    assert 'Environment="PATH=/bin"\nEnvironment="HF_HOME=/data/100%%"\n' in text
    assert "LANG" not in text
    assert "EnvironmentFile=-/home/me/.config/llm-reconcile/environment\n" in text


def test_what_no_unit_can_hold_is_refused() -> None:
    with pytest.raises(UsageError, match="cannot hold"):
        unit_text(unit("/srv/a\nExecStart=/bin/sh"), TEMPLATE)


def test_one_name_a_root() -> None:
    names = [unit(root).name for root in ("/srv/my llm", "/opt/my llm", "/", "/srv/my llm")]
    assert names[0].startswith("llm-reconcile-my-llm-")
    assert names[2].startswith("llm-reconcile-root-")
    assert (len(set(names)), names[0] == names[3]) == (3, True)


def test_a_system_unit_has_a_user_and_servers_outlive_both() -> None:
    own, system = lines(unit()), lines(unit(user="me"))
    assert own[0] == system[0] == MARKER
    assert {"User=me", "WantedBy=multi-user.target"} <= set(system)
    assert "WantedBy=default.target" in own
    for said in (own, system):
        assert {"Type=notify", "KillMode=process", "OOMPolicy=continue", "Restart=always"} <= {
            *said
        }
