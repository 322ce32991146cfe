"""What several fields of the desired state must agree on: names, ports, the gateway.

In: the models that are valid one by one, with their nodes. Out: findings, nothing else.
Everything here is about the file alone; what only the machine can say (is the port free,
does the engine know the flag) belongs to the planner.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from reconciler.core.desired import MODEL_NAME, RESERVED_NAMES, Gateway, Model
from reconciler.core.engine import COMPANION_FIELDS, COMPANION_NAMES, flag_name
from reconciler.core.findings import Findings
from reconciler.core.marks import walk
from reconciler.core.words import GATEWAY_ADDRESS, ModelState, Rollout
from reconciler.core.written import FLAG_ZONES
from reconciler.core.yaml12 import Entry, ScalarNode, shown
from reconciler.errors import Position

_BAD_IN_ALIAS = frozenset("\"'\\")


@dataclass(frozen=True, slots=True)
class ReadModel:
    """A model that is valid by itself, and where it stands (`defaults` merged in)."""

    name: str
    model: Model
    entry: Entry

    def at(self, *path: str | int) -> Position:
        """Where a field of the model was written; the model's own place if it was not."""
        return walk(self.entry, path)[1]


def check_names(models: Mapping[str, Entry], findings: Findings) -> None:
    """Names can be used as file names and in addresses, also by those that ignore case."""
    seen: dict[str, ScalarNode] = {}
    for name, entry in models.items():
        where = entry.key.position
        first = seen.setdefault(name.lower(), entry.key)
        if not MODEL_NAME.fullmatch(name):
            hint = "1 to 63 letters, digits, `.`, `_` or `-`, the first a letter or digit"
            findings.error(where, f"`{shown(name)}` is not a model's name", hint)
        elif name.lower() in RESERVED_NAMES:
            is_own = name.lower() == GATEWAY_ADDRESS
            use = "plans call nginx so" if is_own else f"the gateway uses /api/{name.lower()}"
            findings.error(where, f"the name `{name}` is reserved: {use}", "choose another one")
        elif first is not entry.key:
            summary = f"the names `{name}` and `{first.text}` differ only in capitals"
            findings.error(where, summary, f"`{first.text}` stands at {first.position}")


def check_models(
    models: Iterable[ReadModel], names: Mapping[str, Entry], gateway: Gateway | None, f: Findings
) -> None:
    """All checks that need a model to be valid by itself."""
    models = tuple(models)
    _check_aliases(models, names, f)
    _check_ports(models, gateway, f)
    _check_replica_names(models, names, f)
    for read in models:
        _check_quants(read, f)
        _check_companions(read, f)
        if gateway is None and read.model.state is ModelState.RUNNING and read.model.replicas:
            _check_bare(read, f)


def _check_aliases(
    models: tuple[ReadModel, ...], names: Mapping[str, Entry], findings: Findings
) -> None:
    seen = {name: (name, entry.key.position) for name, entry in names.items()}
    for read in models:
        for index, alias in enumerate(read.model.aliases):
            where = read.at("aliases", index)
            if not alias or not _is_alias(alias):
                hint = "printable text without spaces, quotes and backslashes"
                findings.error(where, f'"{shown(alias)}" is not an alias', hint)
                continue
            owner, first = seen.setdefault(alias, (read.name, where))
            if first is not where:
                summary = f"`{shown(alias)}` already names the model `{shown(owner)}`"
                findings.error(where, summary, f"{first}; a name or alias is used once")


def _is_alias(text: str) -> bool:
    return text.isprintable() and not any(c.isspace() or c in _BAD_IN_ALIAS for c in text)


def _check_ports(
    models: tuple[ReadModel, ...], gateway: Gateway | None, findings: Findings
) -> None:
    seen = {gateway.port: "the gateway's `listen`"} if gateway else {}
    reported: set[Position] = set()
    for read in models:
        port, where = read.model.port, read.at("port")
        if port is None:
            continue
        owner = seen.setdefault(port, f"the model `{shown(read.name)}`")
        # A port in `defaults` clashes for every further model, but stands there once.
        if owner != f"the model `{shown(read.name)}`" and where not in reported:
            reported.add(where)
            findings.error(where, f"port {port} is used twice: first by {owner}")


def _check_replica_names(
    models: tuple[ReadModel, ...], names: Mapping[str, Entry], findings: Findings
) -> None:
    lower = {name.lower(): entry for name, entry in names.items()}
    for read in models:
        for index in range(1, read.model.replicas):
            if taken := lower.get(f"{read.name}.{index}".lower()):
                summary = (
                    f"the name `{taken.key.text}` clashes with replica {index} of `{read.name}`"
                )
                hint = f"both would write logs/{read.name}.{index}.log"
                findings.error(taken.key.position, summary, hint)


def _check_quants(read: ReadModel, findings: Findings) -> None:
    quant, catalogue = read.model.quant, read.model.quants
    if quant is not None and catalogue and quant not in catalogue:
        findings.warn(read.at("quant"), f"the quant `{shown(quant)}` is not among the `quants`")


def _check_companions(read: ReadModel, findings: Findings) -> None:
    """A file that `source` names is not named by a flag too."""
    source = read.model.source
    for flag, wanted in (("mmproj", source.mmproj), ("model-draft", source.draft)):
        for section in FLAG_ZONES if wanted else ():
            for key in getattr(read.model, section):
                if flag_name(key) in COMPANION_NAMES[flag]:
                    summary = f"`{key}` is the file that `{COMPANION_FIELDS[flag]}` names already"
                    findings.error(read.at(section, key), summary, "keep one of them")


def _check_bare(read: ReadModel, findings: Findings) -> None:
    """Without a gateway, a server listens on its model's port itself."""
    name = shown(read.name)
    if read.model.port is None:
        summary = f"`{name}`: with `gateway: false` a running model needs a `port`"
        findings.error(read.at("port"), summary)
    if read.model.replicas > 1:
        findings.error(read.at("replicas"), "with `gateway: false` there can be only one replica")
    if read.model.rollout is Rollout.SURGE:
        summary = "`rollout: surge` needs the gateway: both servers would need the same port"
        findings.error(read.at("rollout"), summary, "use `recreate`")
