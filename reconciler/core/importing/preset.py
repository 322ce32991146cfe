"""A preset of llama-server's router: an .ini file, a section for each model.

In: its text (preset.md and tools/server/README.md of llama.cpp). Out: an `Imported`. Keys are
flags without dashes, in any of their spellings, or their variables; `[*]` is for all models. The
router loads on request; here all models run.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from reconciler.core.fields import FlagValue
from reconciler.core.importing.carried import Carried, Imported, hub_reference
from reconciler.core.importing.flags import Given, take_flags
from reconciler.core.parse import SourceText
from reconciler.core.text import word_set
from reconciler.errors import Diagnostic, InvalidDesiredError, Position, Severity

KIND = "a preset of llama-server's router"

_SECTION = re.compile(r"\s*\[\s*([^\]]+?)\s*\]\s*(?:[;#].*)?")
_PAIR = re.compile(r"\s*([A-Za-z_][\w.-]*)[ \t]*=[ \t]*(.*?)[ \t]*(?:[ \t]*[;#].*)?")
_BLANK = re.compile(r"\s*(?:[;#].*)?")
_ALL, _DEFAULT = "*", "default"
_VARIABLE = "LLAMA_ARG_"
_VARIABLES: Mapping[str, str] = {
    "BATCH": "batch-size", "UBATCH": "ubatch-size", "N_PARALLEL": "parallel",
    "KV_CACHE_TYPE_K": "cache-type-k", "EMBEDDINGS": "embedding",
}  # fmt: skip
"""Variables that are not called like their flag (env: in llama-server's help)."""

_TRUE, _FALSE = (
    frozenset({"true", "1", "on", "enabled"}),
    frozenset({"false", "0", "off", "disabled"}),
)
_SWITCHES = word_set(
    "backend-sampling cache-idle-slots cache-prompt cb cmoe check-tensors cont-batching "
    "context-shift cpu-moe direct-io embedding embeddings escape ignore-eos jinja kv-offload "
    "kv-unified kvu log-jsonl log-prefix log-timestamps lora-init-without-apply metrics mlock "
    "mmap mmproj-auto mmproj-offload nkvo nocb nr offline op-offload perf prefill-assistant "
    "props reasoning-preserve repack rerank reranking skip-chat-parsing slots spec-default "
    "spm-infill swa-full ui verbose warmup webui"
)
"""Flags without a value: there `1` and `on` mean true."""


@dataclass(slots=True)
class _Section:
    name: str
    where: str
    pairs: list[tuple[str, str, str]] = field(default_factory=list)


def read_preset(source: SourceText) -> Imported:
    """All models of a preset.

    Raises:
        InvalidDesiredError: a line of it is none of an .ini file.
    """
    imported = Imported(KIND, source.name)
    sections = list(_sections(source))
    for one in sections:
        if one.name == _ALL:
            imported.defaults.where = one.where
            _take(one, imported.defaults)
    for one in sections:
        if one.name not in {_ALL, _DEFAULT} or (one.name == _DEFAULT and one.pairs):
            _read_model(imported, one)
    if len(imported.models) > 1:
        said = "the router loads what is asked for; here all models run at once"
        hint = "where memory is short the plan says so; for files only: `state: present`"
        imported.remark(f"{source.name}:1:1", said, hint)
    return imported


def _sections(source: SourceText) -> Iterator[_Section]:
    section = _Section(_DEFAULT, f"{source.name}:1:1")
    lines = source.content.decode("utf-8-sig", errors="replace").splitlines()
    for number, line in enumerate(lines, 1):
        where = Position(source.name, number, len(line) - len(line.lstrip()) + 1)
        if match := _SECTION.fullmatch(line):
            yield section
            section = _Section(match[1], str(where))
        elif match := _PAIR.fullmatch(line):
            # `version` is kept for the format itself.
            if match[1] != "version":
                section.pairs.append((match[1], match[2], str(where)))
        elif not _BLANK.fullmatch(line):
            said = "expected `[name]` or `key = value`"
            raise InvalidDesiredError((Diagnostic(Severity.ERROR, said, where),))
    yield section


def _read_model(imported: Imported, section: _Section) -> None:
    model = imported.add(section.name, section.where)
    _take(section, model)
    repo, quant = hub_reference(section.name)
    if not model.part("source") and re.fullmatch(r"[\w.-]+/[\w.-]+", repo):
        given = Given("hf-repo", f"{repo}:{quant}" if quant else repo, section.where)
        take_flags([given], model)
    if not model.part("source"):
        hint = "name it with `source: {path: ...}`"
        said = "its file is found in the router's --models-dir or cache by this name"
        imported.leave(model, section.where, said, hint)


def _take(section: _Section, model: Carried) -> None:
    given = []
    for key, text, where in section.pairs:
        name = _flag(key)
        if name == "load-on-startup":
            continue
        if name == "stop-timeout":
            model.put(("grace",), f"{text}s", where)
        elif name == "tags":
            model.remark(where, "`tags` are not carried over")
        else:
            given.append(Given(name, _value(name, text), where))
    take_flags(given, model)


def _flag(key: str) -> str:
    if not key.startswith(_VARIABLE):
        return key.replace("_", "-")
    name = key.removeprefix(_VARIABLE)
    return _VARIABLES.get(name) or name.lower().replace("_", "-")


def _value(name: str, text: str) -> FlagValue:
    word = text.lower()
    switch = name.removeprefix("no-") in _SWITCHES
    if word in {"true", "false"} or (switch and word in _TRUE | _FALSE):
        return word in _TRUE
    return text
