"""A llama-swap configuration: YAML with macros, a command line for each model, and its manners.

In: its text (llama-swap's configuration.md), variables that `${env.NAME}` may stand for. Out: an
`Imported`. llama-swap loads what is asked for and unloads the rest; here all models run, so
that what is about swapping is said and not carried over.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from reconciler.core.importing.carried import Carried, Imported
from reconciler.core.importing.command import server_command, without_comments
from reconciler.core.importing.engines import settle_engine
from reconciler.core.importing.environment import take_variables
from reconciler.core.importing.flags import flags_of, take_flags
from reconciler.core.importing.macros import Macros, UnknownMacroError
from reconciler.core.importing.nodes import (
    inner,
    number_of,
    place,
    read_tree,
    text_of,
    texts_of,
)
from reconciler.core.parse import SourceText
from reconciler.core.text import word_set
from reconciler.core.yaml12 import Entry, MapNode
from reconciler.core.yaml_text import Raw

KIND = "a llama-swap configuration"

_SWAPS = "llama-swap loads what is asked for; here all models run at once"
_SWAPS_HINT = "where memory is short the plan says so; for files only: `state: present`"
_GROUPS = "groups are not carried over: here all models run at once"
_WHOLE: Mapping[str, tuple[str, str]] = {
    "groups": (_GROUPS, _SWAPS_HINT),
    "matrix": (_GROUPS, _SWAPS_HINT),
    "routing": (_GROUPS, _SWAPS_HINT),
    "apiKeys": (
        "`apiKeys` are secrets; they are not shown and not written",
        "let `gateway.keys_file` name a file of `name:key` lines, mode 0600",
    ),
    "peers": ("`peers` are not carried over: models of other machines are not served here", ""),
    "profiles": ("`profiles` are not carried over", ""),
    "selectors": ("`selectors` are not carried over: a request names its model", ""),
    "globalTTL": ("`globalTTL` is not carried over: nothing is unloaded here",
                  "`params: {sleep_idle_seconds: N}` frees the memory of an idle server"),
    "unloadTimeout": ("`unloadTimeout` is not carried over", "`grace` of a model is meant so"),
    "healthCheckTimeout": (
        "`healthCheckTimeout` is not carried over: a start is waited for by the model's size",
        "`probe: {startup: ...}` sets it",
    ),
}  # fmt: skip
_SILENT = word_set(
    "models macros startPort logLevel logTimeFormat logToStdout logRequests "
    "metricsMaxInMemory captureBuffer ui performance store includeAliasesInList "
    "sendLoadingState hooks"
)
"""About llama-swap's own logs, page and ports; and what is said of each model."""

_OF_MODEL: Mapping[str, tuple[str, str]] = {
    "filters": ("`filters` are not carried over: a request's parameters are not changed here",
                "`params` set what a request leaves out"),
    "useModelName": ("`useModelName` is not carried over: the server goes by this name", ""),
    "cmdStop": ("`cmdStop` is not carried over: a server gets TERM, after `drain`", ""),
    "unloadTimeout": ("`unloadTimeout` is not carried over", "`grace` is meant so"),
    "concurrencyLimit": ("`concurrencyLimit` is not carried over", "a key has `parallel=N`"),
    "unlisted": ("`unlisted` is not carried over: /v1/models has all models", ""),
    "metadata": ("`metadata` is not carried over", ""),
    "timeouts": ("`timeouts` are not carried over: a long prompt never times out", ""),
    "compat": ("`compat` is not carried over", ""),
}  # fmt: skip
_OF_MODEL_SILENT = word_set(
    "cmd proxy checkEndpoint name description macros sendLoadingState capabilities"
)


def read_llama_swap(source: SourceText, variables: Mapping[str, str]) -> Imported:
    """All models whose command is a llama-server's.

    Raises:
        InvalidDesiredError: it is no YAML.
        UsageError: it is no mapping.
    """
    imported = Imported(KIND, source.name)
    root = read_tree(source, imported)
    models = inner(root, "models")
    for name, entry in root.items.items():
        said = _WHOLE.get(name)
        if said:
            imported.remark(place(entry.key), *said)
        elif name not in _SILENT:
            imported.remark(place(entry.key), f"`{name}` is not known here, and not carried over")
    if len(models) > 1 and not {"groups", "matrix", "routing"} & root.items.keys():
        imported.remark(place(root.items["models"].key), _SWAPS, _SWAPS_HINT)
    macros = Macros(variables).with_entries(inner(root, "macros"))
    for name, entry in models.items():
        model = imported.add(name, place(entry.key))
        if not isinstance(entry.value, MapNode):
            imported.leave(model, model.where, "it has no `cmd`")
        else:
            own = macros.with_entries(inner(entry.value, "macros"))
            _read_model(imported, model, entry.value, own.with_model(name))
    settle_engine(imported)
    return imported


def _read_model(imported: Imported, model: Carried, node: MapNode, macros: Macros) -> None:
    about = [text_of(node, "name"), text_of(node, "description")]
    model.about = ": ".join(one for one in about if one)
    entry = node.items.get("cmd")
    if entry is None:
        imported.leave(model, model.where, "it has no `cmd`")
        return
    where = place(entry.value)
    try:
        words = server_command(macros.expand(without_comments(text_of(node, "cmd"))))
    except UnknownMacroError as error:
        imported.leave(model, where, f"`{error}` in its `cmd` stands for nothing here")
        return
    except ValueError as error:
        imported.leave(model, where, str(error))
        return
    take_variables(model, ((*pair, where) for pair in words.variables))
    take_flags(list(flags_of(words.flags, where)), model)
    model.program = words.program
    for name, one in node.items.items():
        if take := _TAKES.get(name):
            take(model, one, macros)
        elif said := _OF_MODEL.get(name):
            model.remark(place(one.key), *said)
        elif name not in _OF_MODEL_SILENT:
            model.remark(place(one.key), f"`{name}` is not known here, and not carried over")


def _take_aliases(model: Carried, entry: Entry, macros: Macros) -> None:
    for alias, where in texts_of(entry):
        model.add_alias(macros.expand(alias), where)


def _take_environment(model: Carried, entry: Entry, macros: Macros) -> None:
    for text, where in texts_of(entry):
        name, _, value = text.partition("=")
        try:
            take_variables(model, [(name, macros.expand(value), where)])
        except UnknownMacroError as error:
            model.remark(where, f"`{name}` is not carried over: `{error}` stands for nothing here")


def _take_ttl(model: Carried, entry: Entry, macros: Macros) -> None:
    del macros
    seconds = number_of(entry.value)
    if seconds and seconds > 0:
        where = place(entry.value)
        model.put(("params", "sleep_idle_seconds"), Raw(f"{seconds:g}"), where)
        said = f"`ttl: {seconds:g}` is `sleep_idle_seconds` here: an idle server frees its memory"
        model.remark(where, f"{said}, and is not ended")


_TAKES: Mapping[str, Callable[[Carried, Entry, Macros], None]] = {
    "aliases": _take_aliases,
    "env": _take_environment,
    "ttl": _take_ttl,
}
