"""What is carried over from another program's configuration, and what is said about the rest.

In: from the readers, field by field. Out: models whose fields are named as in the desired file.
They may still be wrong (a port twice, a name that is none): `settle` finds that. Secrets never get
in here; a reader says that there was one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from reconciler.core.desired import MODEL_NAME, RESERVED_NAMES
from reconciler.core.quants import quant_sizes
from reconciler.core.text import printable
from reconciler.core.yaml_text import Value

Path = tuple[str, ...]
FIELDS = (
    "source", "quant", "quants", "aliases", "port", "state", "params", "args", "env", "grace",
)  # fmt: skip
"""Fields of a model in the order in which they are written."""
HIDDEN = "<hidden>"
"""What a reader puts where it has seen a secret; nothing that holds it is written."""
NOT_SHOWN = "a secret; it is not shown and not written"
_LONGEST_NAME = 63
_NOT_IN_NAME = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True, slots=True)
class Remark:
    """One thing that was not carried over, or not quite."""

    where: str
    """Its place in the source: `models.json:12:7`, `pid 4711`."""
    said: str
    """What, and why."""
    hint: str = ""
    """What to do about it."""

    @property
    def order(self) -> tuple[int, ...]:
        """Line and column, so that remarks come as the source goes."""
        return tuple(int(one) for one in self.where.split(":")[1:] if one.isdecimal())

    def __str__(self) -> str:
        hint = f"\n  {self.hint}" if self.hint else ""
        return f"{self.where}: {self.said}{hint}"


@dataclass(slots=True)
class Carried:
    """One model, or what all models share."""

    name: str
    where: str
    about: str = ""
    """What the source says of it for people."""
    program: str = ""
    """What it was started with."""
    fields: dict[str, Value] = field(default_factory=dict)
    remarks: list[Remark] = field(default_factory=list)
    called: str = ""
    """Its name in the source, which need not be one here."""
    places: dict[Path, str] = field(default_factory=dict)
    """Where a field, or a flag in `params` or `args`, stands in the source."""

    def put(self, path: Path, value: Value, where: str) -> None:
        """Set a field, or a key in one."""
        self.places[path] = where
        inner = path[1:]
        self.fields[path[0]] = {**self.part(path[0]), inner[0]: value} if inner else value

    def part(self, name: str) -> Mapping[str, Value]:
        """A field that is a mapping; empty if it is not there."""
        found = self.fields.get(name)
        return found if isinstance(found, Mapping) else {}

    def drop(self, path: Path) -> None:
        """Take out a field, a key of one, or an item of a list; what is then empty goes too."""
        part = self.fields[path[0]]
        if isinstance(part, list) and path[1:]:
            del part[int(path[1])]
        elif isinstance(part, dict) and path[1:]:
            part.pop(path[1], None)
        if not path[1:] or not part:
            del self.fields[path[0]]

    def add_alias(self, alias: str, where: str) -> None:
        """A further name that clients may send."""
        known = self.fields.get("aliases")
        names = list(known) if isinstance(known, list) else []
        if alias and alias != self.name and alias not in names:
            self.put(("aliases",), [*names, alias], where)

    def remark(self, where: str, said: str, hint: str = "") -> None:
        """Say that something was not carried over, or not quite."""
        self.remarks.append(Remark(where, said, hint))


@dataclass(slots=True)
class Imported:
    """All that one source says."""

    kind: str
    """What the source is, for people."""
    source: str
    """Its name."""
    models: list[Carried] = field(default_factory=list)
    engine: dict[str, Value] = field(default_factory=dict)
    defaults: Carried = field(default_factory=lambda: Carried("defaults", ""))
    remarks: list[Remark] = field(default_factory=list)
    """Of no single model."""
    left: list[Remark] = field(default_factory=list)
    """Models that were left out as a whole."""

    def add(self, called: str, where: str) -> Carried:
        """A model of the source, under a name that is one here; clients may go on as before."""
        name = self._free(_proper(called))
        model = Carried(name, where, called=called)
        if name != called:
            model.add_alias(called, where)
        self.models.append(model)
        return model

    def leave(self, model: Carried, where: str, said: str, hint: str = "") -> None:
        """Leave a model out."""
        self.models.remove(model)
        self.left.append(Remark(where, f"{printable(model.called)} is left out: {said}", hint))

    def remark(self, where: str, said: str, hint: str = "") -> None:
        """Say something about the source as a whole."""
        self.remarks.append(Remark(where, said, hint))

    def all_remarks(self) -> list[Remark]:
        """Everything that was said."""
        inner = [one for model in (self.defaults, *self.models) for one in model.remarks]
        return [*self.remarks, *inner, *self.left]

    def _free(self, name: str) -> str:
        taken = {one.name.lower() for one in self.models} | RESERVED_NAMES
        number = 1
        found = name
        while found.lower() in taken:
            number += 1
            found = f"{name[: _LONGEST_NAME - 4]}-{number}"
        return found


def _proper(called: str) -> str:
    """A name of that sound: `ggml-org/GLM-4.7-Flash-GGUF:Q4_K_M` -> `GLM-4.7-Flash-Q4_K_M`."""
    if MODEL_NAME.fullmatch(called):
        return called
    own = called.rpartition("/")[2].removesuffix(":latest")
    name = re.sub(r"[-_.]gguf(?=$|:)", "", own, flags=re.IGNORECASE)
    return _NOT_IN_NAME.sub("-", name).strip("._-")[:_LONGEST_NAME] or "model"


def hub_reference(text: str) -> tuple[str, str]:
    """`org/name:QUANT` or `hf.co/org/name:QUANT` as repository and quant, which may be empty."""
    text = re.sub(r"^(https?://)?(hf\.co|huggingface\.co)/", "", text)
    repo, _, quant = text.partition(":")
    return repo, "" if quant == "latest" else quant


def quant_of_file(name: str) -> str:
    """The quant that a GGUF file's name tells of; empty when it tells none."""
    found = next(iter(quant_sizes({name: 0})), name)
    return "" if found == name or found.endswith(".gguf") else found
