"""A command line that starts a llama-server, taken apart.

In: the text of a command, as a shell would read it but without a shell. Out: the program, its
flags, and variables that were set before it (`env A=B`). Another program is a ValueError that says
which.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

_ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=.*", re.DOTALL)
_SERVER = re.compile(r"llama[-_.]server[\w.-]*")
_CONTAINERS = frozenset({"docker", "podman", "nerdctl"})
_WRAPPERS = frozenset({"env", "nice", "numactl", "taskset", "ionice", "stdbuf", "exec", "time"})


@dataclass(frozen=True, slots=True)
class ServerCommand:
    """How a llama-server is started."""

    program: str
    flags: tuple[str, ...]
    variables: tuple[tuple[str, str], ...] = ()


def server_command(text: str) -> ServerCommand:
    """Take a command line apart.

    Raises:
        ValueError: it cannot be read, or it starts something else.
    """
    try:
        words = shlex.split(text.replace("\\\n", " "))
    except ValueError as error:
        raise ValueError(f"its command cannot be read: {error}") from None
    return server_of(words)


def without_comments(text: str) -> str:
    """A command of several lines without those that say `#`."""
    return "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))


def server_of(words: Sequence[str]) -> ServerCommand:
    """The same of words.

    Raises:
        ValueError: they start something else.
    """
    first = words[0] if words else ""
    if _name(first) in _CONTAINERS:
        raise ValueError(f"it runs in a container ({first}); name the file as it lies here")
    at = next((n for n, word in enumerate(words) if is_server(word)), None)
    before = words[:at] if at is not None else ()
    wrapped = not before or _name(first) in _WRAPPERS or _ASSIGNMENT.fullmatch(first)
    if at is None or not wrapped:
        raise ValueError(f"it starts {_name(first) or 'nothing'}, which is no llama-server")
    pairs = [word.split("=", 1) for word in before if _ASSIGNMENT.fullmatch(word)]
    return ServerCommand(words[at], tuple(words[at + 1 :]), tuple((a, b) for a, b in pairs))


def is_server(program: str) -> bool:
    """Whether a program is called like a llama-server."""
    return _SERVER.fullmatch(_name(program)) is not None


def _name(program: str) -> str:
    return program.rpartition("/")[2]
