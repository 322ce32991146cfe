"""The config files that engines read by themselves."""

from __future__ import annotations

from pathlib import Path

from reconciler.core.facts import EngineConfig
from reconciler.core.observed_engine import AmbientSetting
from reconciler.drivers.engine_configs import engine_configs
from reconciler.errors import Position

TEXT = """\
version = 1
; temp = 5
ctx-size = 7
[*]
 temp=1
ctx-size = 8
[some-model]
secret-of-theirs = 1
[default]
LLAMA_ARG_N_GPU_LAYERS = 99
"""


def test_config_files_of_engines(tmp_path: Path) -> None:
    system, own = tmp_path / "etc" / "llama.cpp", tmp_path / "config" / "llama.cpp"
    environment = {"XDG_CONFIG_HOME": str(tmp_path / "config")}
    assert engine_configs(environment, tmp_path / "etc") == ()
    for folder in (system, own):
        folder.mkdir(parents=True)
    ini = str(system / "config.ini")
    Path(ini).write_text(TEXT, encoding="utf-8")
    (own / "config.ini").mkdir()
    settings = (
        AmbientSetting("ctx-size", Position(ini, 3, 1)),
        AmbientSetting("temp", Position(ini, 5, 2)),
        AmbientSetting("LLAMA_ARG_N_GPU_LAYERS", Position(ini, 10, 1)),
    )
    assert engine_configs(environment, tmp_path / "etc") == (
        EngineConfig(ini, settings, reaches_ours=True),
        EngineConfig(str(own / "config.ini"), (), reaches_ours=False),
    )


def test_the_users_config_file_without_xdg(tmp_path: Path) -> None:
    folder = tmp_path / ".config" / "llama.cpp"
    folder.mkdir(parents=True)
    (folder / "config.ini").write_text("temp = 1\n", encoding="utf-8")
    (found,) = engine_configs({"HOME": str(tmp_path)}, tmp_path)
    assert (found.path, [one.key for one in found.settings], found.reaches_ours) == (
        str(folder / "config.ini"),
        ["temp"],
        False,
    )
