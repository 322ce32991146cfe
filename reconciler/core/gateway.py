"""The gateway's configuration as text: which names, ports and sockets nginx serves.

In: a `GatewayView` and the templates. Out: `RenderedGateway`.
Routes depend on desired state only, never on phase: a restart or replacement renders nothing new.
Every value is checked for the place it goes to; nothing here reads a file or asks nginx.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import lru_cache

from reconciler.core.addresses import ORIGIN
from reconciler.core.desired import MODEL_NAME, RESERVED_NAMES
from reconciler.core.gateway_view import GatewayModel, GatewayView, ServedKey
from reconciler.core.keys import KEY_NAME
from reconciler.core.outline import OUTLINE_FILE, KeyOutline, Outline, outline_text
from reconciler.core.plan import RenderedGateway
from reconciler.core.templating import TemplateFailedError, fill_in
from reconciler.core.words import Generation
from reconciler.errors import GatewayError

MAIN_TEMPLATE = "nginx.conf.j2"
"""The one template that must be there."""
PART = "_"
"""Begins the name of a template that is part of another one, and no file of its own."""
PLACEHOLDER = "@GENERATION@"
"""Stands for the generation while it is not known yet: it is a hash over the text around it."""
ROUTED_PATHS = (
    "apply-template",
    "audio/transcriptions",
    "chat/completions",
    "chat/completions/input_tokens",
    "completion",
    "completions",
    "detokenize",
    "embedding",
    "embeddings",
    "infill",
    "lora-adapters",
    "messages",
    "props",
    "rerank",
    "reranking",
    "responses",
    "responses/input_tokens",
    "slots(?:/[0-9]+)?",
    "tokenize",
)
"""llama-server's own paths outside /v1, as regular expressions; the model is named in the body or
by `?model=`."""
ROUTED_BODY_MEGABYTES = 64
"""Largest body whose `model` is looked for; /api/MODEL/ and the models' ports take any size."""

_HOST = re.compile(r"(?:\*\.)?[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,251}[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\]")
_LISTEN = re.compile(r"(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\]):[1-9][0-9]{0,4}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_UNSAFE_IN_PATH = re.compile(r"[\x00-\x1f\x7f\"'\\$;{}:]")


def render_gateway(view: GatewayView, templates: Mapping[str, str]) -> RenderedGateway:
    """Render all templates; equal views and templates give equal text and generation.

    Raises:
        GatewayError: a value that nginx would misread, or a broken template (name and line said).
    """
    return _rendered(view, tuple(sorted(templates.items())))


# A watch looks for months at what seldom changes, and each round asks twice.
@lru_cache(maxsize=4)
def _rendered(view: GatewayView, sources: tuple[tuple[str, str], ...]) -> RenderedGateway:
    templates = dict(sources)
    if MAIN_TEMPLATE not in templates:
        raise GatewayError(f"the template {MAIN_TEMPLATE} is missing", retryable=False)
    for problem in _problems(view):
        raise GatewayError(f"the gateway cannot be rendered: {problem}", retryable=False)
    context = {
        "view": view,
        "router": _router(view),
        "routed_paths": ROUTED_PATHS,
        "body_megabytes": ROUTED_BODY_MEGABYTES,
    }
    try:
        texts = {
            name.removesuffix(".j2"): fill_in(sources, name, context)
            if name.endswith(".j2")
            else text
            for name, text in sources
            if not name.startswith(PART)
        }
    except TemplateFailedError as error:
        raise _broken(error) from error
    digest = hashlib.sha256()
    for name, text in sorted(texts.items()):
        digest.update(f"{name}\0{text}\0".encode())
    if view.tls:
        # In no text: nginx reads the files itself, when it is reloaded.
        digest.update(view.tls.digest.encode())
    generation = Generation(digest.hexdigest()[:12])
    _require_protection(view, texts[MAIN_TEMPLATE.removesuffix(".j2")])
    outline = _outline(view, templates)
    files = {name: text.replace(PLACEHOLDER, generation) for name, text in texts.items()}
    return RenderedGateway(generation, files | {OUTLINE_FILE: outline_text(outline)}, outline)


def _require_protection(view: GatewayView, text: str) -> None:
    """A root's own template may be older than these; what it leaves out is not there."""
    wanted = {
        "gateway.keys_file": [key.digest for key in view.keys or ()],
        "the limits of gateway.keys_file": [
            *(f"zone=pace_{pace}:" for pace in view.paces),
            *(f"zone=width_{width}:" for width in view.widths),
        ],
        "gateway.hold": ["@again_"] if view.hold_s and view.routed else [],
        "gateway.tls": [view.tls.key] if view.tls else [],
        "gateway.cors_origins": view.cors_origins,
    }
    missing = (what for what, values in wanted.items() if any(one not in text for one in values))
    if what := next(missing, ""):
        raise GatewayError(
            f"the root's own templates/{MAIN_TEMPLATE} does nothing with {what}: "
            "take over what the shipped one does, or remove it to use that one",
            retryable=False,
        )


def _outline(view: GatewayView, templates: Mapping[str, str]) -> Outline:
    rest = repr((replace(view, keys=None, tls=None), sorted(templates.items())))
    keys = None if view.keys is None else {key.name: _key_outline(key) for key in view.keys}
    return Outline(
        listens=view.listens,
        keys=keys,
        certificate=view.tls.digest if view.tls else "",
        valid_until=view.tls.valid_until if view.tls else "",
        rest=hashlib.sha256(rest.encode()).hexdigest()[:12],
        models={model.name: _model_outline(model) for model in view.models},
        hold_s=view.hold_s,
    )


def _model_outline(model: GatewayModel) -> str:
    parts = [f"state {model.state}"] if not model.instances else []
    parts += [f"quant {model.quant}"] if model.quant else []
    parts += [f"port {model.port}"] if model.port is not None else []
    parts += [f"aliases {' '.join(model.aliases)}"] if model.aliases else []
    parts += [f"{len(model.instances)} replicas"] if len(model.instances) > 1 else []
    return ", ".join(parts) or "routed"


def _key_outline(key: ServedKey) -> KeyOutline:
    scope = "all models" if key.models is None else ", ".join(key.models) or "no model"
    return KeyOutline(key.digest[:12], f"{scope}, {key.limits}" if key.limits else scope)


def _broken(error: TemplateFailedError) -> GatewayError:
    return GatewayError(
        f"templates/{error}",
        hint="Mend the template, or remove it from the root to use the shipped one.",
        retryable=False,
    )


def _router(view: GatewayView) -> dict[str, object]:
    """What the njs router needs, for JSON."""
    models = [
        {
            "name": model.name,
            "aliases": model.aliases,
            "quant": model.quant,
            "port": model.port,
            "state": model.state.value,
            "logs": model.logs,
            "instances": [
                {
                    "name": instance.name,
                    "sockets": [
                        path.rpartition("/")[2] for path in (instance.route, *instance.copies)
                    ],
                }
                for instance in model.instances
            ],
        }
        for model in view.models
    ]
    return {"models": models, "sockets": view.sockets, "live_file": view.live_file}


def _problems(view: GatewayView) -> Iterator[str]:
    """All values that nginx would misread. The desired file's own checks come first, usually."""
    if not _LISTEN.fullmatch(view.listen):
        yield f"{view.listen!r} is not an address"
    for name in view.server_names:
        if not _HOST.fullmatch(name):
            yield f"{name!r} is not a Host name"
    yield from (f"{one!r} is no origin" for one in view.cors_origins if not ORIGIN.fullmatch(one))
    yield from _model_problems(view)
    for key in view.keys or ():
        if not KEY_NAME.fullmatch(key.name) or not _SHA256.fullmatch(key.digest):
            yield f"{key.name!r} is not a key's name, or its digest is none"
    for path in _paths(view):
        if _UNSAFE_IN_PATH.search(path) or not path.startswith("/"):
            said = f"the path {path!r} holds a character that nginx's configuration cannot carry"
            yield f"{said}: move it, or, where it is one of ours, set XDG_STATE_HOME"


def _model_problems(view: GatewayView) -> Iterator[str]:
    for model in view.models:
        if not MODEL_NAME.fullmatch(model.name) or model.name in RESERVED_NAMES:
            yield f"{model.name!r} is not a model's name"
        if any(PLACEHOLDER in alias for alias in model.aliases):
            yield f"model {model.name}: an alias must not contain {PLACEHOLDER}"


def _paths(view: GatewayView) -> Iterator[str]:
    yield from (view.folder, view.sockets, view.control_socket)
    if view.tls:
        yield from (view.tls.cert, view.tls.key)
    for model in view.models:
        for instance in model.instances:
            yield from (instance.route, *instance.copies)
