"""The config files that llama-server reads by itself, beside its flags and variables.

In: the environment that it would be started with. Out: what each file sets, line by line.
Looks only, and never fails: a file that cannot be read sets nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from reconciler.core.facts import EngineConfig
from reconciler.core.observed_engine import AmbientSetting
from reconciler.errors import Position

ETC = Path("/etc")
_SECTION = re.compile(r"\[(.*)\]")
_SETTING = re.compile(r"(?!version\b)([A-Za-z][\w-]*)\s*=")
_SHARED_SECTIONS = frozenset({"", "*", "default"})
"""Of llama.cpp's config.ini, what every program takes (common/preset.cpp)."""


def engine_configs(environment: Mapping[str, str], etc: Path = ETC) -> tuple[EngineConfig, ...]:
    """The machine's file, which is read by all, and the user's, which ours do not read."""
    base = environment.get("XDG_CONFIG_HOME") or f"{environment.get('HOME', '')}/.config"
    files = (config_in(etc, reaches_ours=True), config_in(Path(base), reaches_ours=False))
    return tuple(one for one in files if one)


def config_in(folder: Path, *, reaches_ours: bool) -> EngineConfig | None:
    """What llama.cpp's own file in a folder of settings says; None: there is none."""
    path = folder / "llama.cpp" / "config.ini"
    if not path.exists():
        return None
    first: dict[str, AmbientSetting] = {}
    for setting in _settings(path):
        first.setdefault(setting.key, setting)
    return EngineConfig(str(path), tuple(first.values()), reaches_ours)


def _settings(path: Path) -> Iterator[AmbientSetting]:
    section = ""
    for number, line in enumerate(_text(path).splitlines(), 1):
        indent = len(line) - len(line.lstrip())
        if match := _SECTION.match(line.strip()):
            section = match[1].strip()
        elif section in _SHARED_SECTIONS and (match := _SETTING.match(line.strip())):
            yield AmbientSetting(match[1], Position(str(path), number, indent + 1))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
