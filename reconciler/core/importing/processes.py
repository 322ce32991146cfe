"""llama-server processes that run on this machine: their argv and environment as models.

In: what was seen of them. Out: an `Imported`. What llm-reconcile itself runs is left out, and so is
a router, whose models are in its preset. They run on until somebody stops them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from reconciler.core.engine import LABEL_ROOT, MASK, masked
from reconciler.core.importing.carried import Carried, Imported, Remark
from reconciler.core.importing.command import server_of
from reconciler.core.importing.engines import settle_engine
from reconciler.core.importing.environment import take_variables
from reconciler.core.importing.flags import Given, flags_of, named, take_flags
from reconciler.core.text import word_set

KIND = "the llama-server processes that run here"

DEFAULT_PORT = 8080
"""Where a llama-server listens that is told no port."""
_PATHS = word_set(
    "model mmproj model-draft spec-draft-model lora control-vector chat-template-file "
    "grammar-file json-schema-file slot-save-path lookup-cache-static lookup-cache-dynamic"
)
_ROUTER = frozenset({"models-preset", "models-dir"})
_FROM_ROUTER = "LLAMA_SERVER_ROUTER_PORT"
_VARIABLE = "LLAMA_ARG_"
_OWN: Mapping[str, str] = {
    "MODEL": "model", "HF_REPO": "hf-repo", "HF_FILE": "hf-file", "PORT": "port", "HOST": "host",
    "ALIAS": "alias",
}  # fmt: skip
_END = re.compile(r"((-\d{5}-of-\d{5})?\.gguf|-gguf(:.*)?)$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class SeenServer:
    """One process that is called like a llama-server."""

    pid: int
    words: tuple[str, ...]
    folder: str
    """Its working folder; empty where that cannot be seen."""
    environment: Mapping[str, str]


def read_processes(servers: Sequence[SeenServer]) -> Imported:
    """A model of each server."""
    imported = Imported(KIND, "processes")
    for server in sorted(servers, key=lambda one: one.pid):
        where = f"pid {server.pid}"
        given = list(_given(server, where))
        if reason := _left_out(server, given):
            imported.left.append(Remark(where, f"it is left out: {reason}"))
        else:
            _read_server(imported, server, given)
    if imported.models:
        said = "these servers run on until you stop them; until then their ports are taken"
        imported.remark("processes", said, "stop each before its model is to start: `kill PID`")
    settle_engine(imported)
    return imported


def _given(server: SeenServer, where: str) -> list[Given]:
    """Its flags, those from its environment first: argv wins."""
    variables = server.environment
    of_environment = [
        Given(flag, variables[_VARIABLE + name], f"{where} ({_VARIABLE}{name})")
        for name, flag in _OWN.items()
        if _VARIABLE + name in variables
    ]
    given = [*of_environment, *flags_of(server_of(server.words).flags, where)]
    return [_whole(named(one), server.folder) for one in given]


def _whole(one: Given, folder: str) -> Given:
    """Paths as they are seen from everywhere."""
    if one.name not in _PATHS or not folder or not isinstance(one.value, str):
        return one
    return replace(one, value=str(PurePosixPath(folder, one.value)))


def _left_out(server: SeenServer, given: Sequence[Given]) -> str:
    if LABEL_ROOT in server.environment:
        return f"llm-reconcile runs it, for {server.environment[LABEL_ROOT]}"
    if _FROM_ROUTER in server.environment:
        return "a router started it; import the router's preset"
    names = {one.name for one in given}
    if names & _ROUTER or not names & {"model", "hf-repo", "model-url"}:
        return "it is a router; import its preset, the file of --models-preset"
    return ""


def _read_server(imported: Imported, server: SeenServer, given: Sequence[Given]) -> None:
    where = f"pid {server.pid}"
    model = imported.add(_name(given), where)
    model.put(("port",), DEFAULT_PORT, where)
    take_flags(given, model)
    seen = [(name, value, where) for name, value in sorted(server.environment.items())]
    take_variables(model, [one for one in seen if _is_setting(one[0], one[1])])
    model.program = server_of(server.words).program
    if not server.environment:
        _remark_hidden(model, where)


def _is_setting(name: str, value: str) -> bool:
    """What changes a server: flags by variable, settings of compute libraries."""
    if name.startswith(_VARIABLE):
        return name.removeprefix(_VARIABLE) not in _OWN
    return masked(name, value) != MASK


def _remark_hidden(model: Carried, where: str) -> None:
    said = "its environment cannot be seen: it belongs to another user"
    model.remark(where, said, "look yourself for CUDA_VISIBLE_DEVICES and LLAMA_ARG_...")


def _name(given: Sequence[Given]) -> str:
    """Its first alias, else its repository's or its file's name."""
    texts = {one.name: one.value for one in given if isinstance(one.value, str)}
    if alias := texts.get("alias", "").split(",")[0].strip():
        return alias
    found = texts.get("hf-repo") or texts.get("model") or "model"
    return _END.sub("", found.rpartition("/")[2])
