"""How a server process is started, and what is kept of one that served while another is tried.

In: the planner's words, or what an earlier run noted. Out: `Launch`, `LastGood`. Only data.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from reconciler.core.words import InstanceName, SpecHash


@dataclass(frozen=True, slots=True)
class Launch:
    """Everything needed to start one server process."""

    instance: InstanceName
    env: tuple[tuple[str, str], ...]
    """What the user gave of its environment."""
    spec_hash: SpecHash
    command: tuple[str, ...]
    argv: tuple[str, ...]
    slot: str
    address: str
    public_port: int | None
    files: str
    """Identity of the weights, noted on the process; empty while they are still to come."""
    weights: tuple[str, ...] = ()
    """Their paths."""


@dataclass(frozen=True, slots=True)
class LastGood:
    """What served before a version that has not been ready yet."""

    launch: Launch
    tried: SpecHash
    """The spec of the version that shall follow it."""
    failed: str = ""
    """Why that version failed, once it has."""
    began: bool = False
    """It was begun: what died since is that version. Until then it is what served before."""


def read_last_good(values: Mapping[str, Any]) -> LastGood:
    """What was noted of it as JSON, where tuples are lists.

    Raises:
        ValueError, KeyError, TypeError: it is something else.
    """
    launch = dict(values["launch"])
    launch["env"] = tuple((str(name), str(value)) for name, value in launch["env"])
    for name in ("command", "argv", "weights"):
        launch[name] = tuple(map(str, launch[name]))
    began = values.get("began") is True
    return LastGood(Launch(**launch), SpecHash(values["tried"]), str(values["failed"]), began)
