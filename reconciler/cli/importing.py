"""The verb that makes a desired file of what another program was told: import.

In: a file, a folder of Ollama's, or the llama-server processes of this machine. Out: YAML on stdout
or in a new file; what could not be carried over on stderr, and as comments in the YAML. Nothing
else is changed, and what was read stays as it is.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from reconciler.cli.output import YELLOW, Output
from reconciler.cli.verbs import NoColorOption, QuietOption, make_output, verb
from reconciler.core.importing.carried import Imported
from reconciler.core.importing.llama_swap import read_llama_swap
from reconciler.core.importing.ollama import listed_names, read_ollama
from reconciler.core.importing.preset import read_preset
from reconciler.core.importing.processes import read_processes
from reconciler.core.importing.recognise import SourceKind, recognise
from reconciler.core.importing.registry import read_registry
from reconciler.core.importing.settle import settled
from reconciler.core.parse import SourceText
from reconciler.drivers import effects
from reconciler.drivers.foreign import (
    inner_store,
    ollama_folders,
    read_source,
    read_store,
    seen_servers,
)
from reconciler.errors import ExitCode, UsageError


def register(app: typer.Typer) -> None:
    """Add this verb to the app."""
    app.command("import")(import_source)


@verb
def import_source(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="A file (- is stdin), a folder of Ollama's models, `ollama`, or `processes`.",
        ),
    ],
    kind: Annotated[
        SourceKind | None,
        typer.Option("--from", help="What SOURCE is (default: seen from its content)."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Write this file, not stdout.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Let --out replace a file.")] = False,
    no_color: NoColorOption = False,
    quiet: QuietOption = False,
) -> ExitCode:
    """Make a desired file of another program's configuration.

    Of a models.json, a llama-swap configuration, a preset of llama-server's router (.ini), Ollama's
    models, or the llama-server processes that run here.
    """
    output = make_output(no_color=no_color, quiet=quiet)
    if out is not None and out.exists() and not force:
        raise UsageError(f"{out} is there already", hint="name another file, or say --force")
    imported = _read(source, kind)
    text = settled(imported)
    _tell(imported, output)
    if not imported.models:
        raise UsageError(f"{source} has no model that can be carried over")
    if out is None:
        output.data(text)
        return ExitCode.OK
    effects.write_atomic(out, text, mode=0o644)
    number = len(imported.models)
    output.talk(f"Wrote {out}: {number} model{'' if number == 1 else 's'}.")
    output.talk(f"Next: llm-reconcile plan {out}")
    return ExitCode.OK


def _read(name: str, kind: SourceKind | None) -> Imported:
    """What the source says, by its kind.

    Raises:
        UsageError: it is not there, or it cannot be told what it is.
    """
    is_there = name == "-" or Path(name).exists()
    if kind is SourceKind.PROCESSES or (name == SourceKind.PROCESSES and not is_there):
        return read_processes(seen_servers())
    if name == SourceKind.OLLAMA and not is_there:
        return read_ollama(read_store(_usual_store()))
    if Path(name).is_dir():
        return read_ollama(read_store(inner_store(Path(name))))
    text = read_source(name)
    match kind or recognise(text):
        case SourceKind.MODELS_JSON:
            return read_registry(text)
        case SourceKind.LLAMA_SWAP:
            return read_llama_swap(text, os.environ)
        case SourceKind.PRESET:
            return read_preset(text)
        case _:
            return _read_list(text)


def _read_list(text: SourceText) -> Imported:
    """What `ollama list` printed, with the files that are here."""
    store = read_store(_usual_store())
    return read_ollama(store, listed_names(text.content.decode(errors="replace")))


def _usual_store() -> Path:
    found = next(ollama_folders(os.environ), None)
    if found is None:
        said = "Ollama's models were not found here"
        raise UsageError(said, hint="set OLLAMA_MODELS to the folder where they are, or name it")
    return found


def _tell(imported: Imported, output: Output) -> None:
    for one in sorted(imported.all_remarks(), key=lambda one: one.order):
        output.talk(f"warning: {one}", YELLOW)
