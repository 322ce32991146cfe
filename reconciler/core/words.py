"""The words shared by every layer: kinds as enums, identifiers as distinct types.

Nothing flows through here; it only names things. It must stay free of behaviour.
"""

from enum import StrEnum
from typing import NewType

ModelName = NewType("ModelName", str)
"""A key under `models:` in the desired file."""

InstanceName = NewType("InstanceName", str)
"""`NAME` for the first replica of a model, `NAME[1]`, `NAME[2]`... for the further ones."""

SpecHash = NewType("SpecHash", str)
"""12 hex digits over everything an engine is given; equal hash means equal launch."""

Generation = NewType("Generation", str)
"""12 hex digits over the whole rendered gateway configuration."""


class EngineKind(StrEnum):
    """Which program serves a model."""

    AUTO = "auto"
    LLAMA_SERVER = "llama-server"
    EMBEDDED = "embedded"


class ModelState(StrEnum):
    """What the desired file wants of a model."""

    RUNNING = "running"
    PRESENT = "present"
    ABSENT = "absent"


class Rollout(StrEnum):
    """How an instance is replaced: stop first, or start the new one first."""

    RECREATE = "recreate"
    SURGE = "surge"


class OnChange(StrEnum):
    """What becomes of servers that run when the engine's program is another one."""

    IGNORE = "ignore"
    REPLACE = "replace"


class Phase(StrEnum):
    """Where an instance stands. `blocked` and `suspended` come from the plan."""

    ABSENT = "absent"
    STARTING = "starting"
    READY = "ready"
    UNHEALTHY = "unhealthy"
    STOPPING = "stopping"
    EXITED = "exited"
    BLOCKED = "blocked"
    SUSPENDED = "suspended"


class Effect(StrEnum):
    """What a change of a field of the desired file costs."""

    RESTART = "restart"
    GATEWAY = "gateway"
    NONE = "none"


GATEWAY_ADDRESS = "gateway"
"""The plan address of the gateway (a model's is `instance.NAME` or `model_file.NAME`)."""

LOCK_ADDRESS = "lock"
"""The plan address of the lock file."""

RENDER_ADDRESS = "render."
"""How the plan address of a render begins; its `dest` follows."""
