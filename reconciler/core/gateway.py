"""The gateway's configuration as text: which names, ports and sockets nginx serves.

In: the desired state, the site, what the secrets allow, the templates. Out: `RenderedGateway`.
Routes depend on desired state only, never on phase: a restart or replacement renders nothing new.
Every value is checked for the place it goes to; nothing here reads a file or asks nginx.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from traceback import walk_tb
from typing import NamedTuple

from jinja2 import (
    Environment,
    FunctionLoader,
    StrictUndefined,
    TemplateError,
    TemplateSyntaxError,
)
from jinja2.sandbox import SandboxedEnvironment

from reconciler.core.addresses import ORIGIN
from reconciler.core.desired import MODEL_NAME, RESERVED_NAMES, DesiredState, Model, Tls
from reconciler.core.keys import KEY_NAME, known_scope
from reconciler.core.observed import GatewaySecrets
from reconciler.core.outline import OUTLINE_FILE, KeyOutline, Outline, outline_text
from reconciler.core.plan import RenderedGateway
from reconciler.core.site import SLOTS, Site
from reconciler.core.words import Generation, InstanceName, ModelName, ModelState
from reconciler.errors import GatewayError

MAIN_TEMPLATE = "nginx.conf.j2"
"""The one template that must be there."""
PLACEHOLDER = "@GENERATION@"
"""Stands for the generation while it is not known yet: it is a hash over the text around it."""
LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")
ROUTED_PATHS = (
    "apply-template",
    "chat/completions",
    "completion",
    "completions",
    "detokenize",
    "embedding",
    "embeddings",
    "infill",
    "messages",
    "rerank",
    "reranking",
    "responses",
    "tokenize",
)
"""llama-server's own paths outside /v1 that carry a `model` in their body."""
ROUTED_BODY_MEGABYTES = 64
"""Largest body whose `model` is looked for; /api/MODEL/ and the models' ports take any size."""

NO_SECRETS = GatewaySecrets()

_HOST = re.compile(r"(?:\*\.)?[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,251}[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\]")
_LISTEN = re.compile(r"(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\]):[1-9][0-9]{0,4}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_UNSAFE_IN_PATH = re.compile(r"[\x00-\x1f\x7f\"'\\$;{}:]")


class RoutedInstance(NamedTuple):
    """One instance that nginx may send requests to."""

    name: InstanceName
    route: str
    """The stable socket name: a symlink to the copy that serves."""
    copies: tuple[str, ...] = ()
    """Sockets of the copies themselves: one that still loads answers there, before it is routed."""


@dataclass(frozen=True, slots=True)
class GatewayModel:
    """What the gateway knows of one model. No instances: it is listed, but not served."""

    name: ModelName
    aliases: tuple[str, ...]
    port: int | None
    quant: str | None
    state: ModelState
    instances: tuple[RoutedInstance, ...]


@dataclass(frozen=True, slots=True)
class ServedKey:
    """A key that opens the gateway."""

    name: str
    digest: str
    models: tuple[str, ...] | None
    """The names of the models that it may use; None: all of them."""


@dataclass(frozen=True, slots=True)
class Encryption:
    """TLS on all of the gateway's addresses."""

    cert: str
    key: str
    """Both are read by nginx itself, where the user keeps them."""
    digest: str
    """Of their content: another certificate is another configuration, and so a reload."""
    valid_until: str


@dataclass(frozen=True, slots=True)
class GatewayView:
    """Everything that the templates may speak of."""

    listen: str
    server_names: tuple[str, ...]
    """All Host names that are accepted."""
    cors_origins: tuple[str, ...]
    """Pages of other hosts that may ask, and read the answers."""
    models: tuple[GatewayModel, ...]
    folder: str
    """nginx's own folder: it runs in it, and everything it writes lies below it."""
    sockets: str
    """The folder of all sockets."""
    control_socket: str
    live_file: str
    """What is known of the instances beyond their phase, as JSON; it need not be there."""
    keys: tuple[ServedKey, ...] | None
    """None: everybody who can reach it may use it."""
    tls: Encryption | None

    @property
    def host(self) -> str:
        """The host part of `listen`; the models' ports listen there too."""
        return self.listen.rpartition(":")[0]

    @property
    def routed(self) -> tuple[GatewayModel, ...]:
        """The models that requests can be sent to."""
        return tuple(model for model in self.models if model.instances)

    @property
    def listeners(self) -> tuple[GatewayModel, ...]:
        """The models with a port of their own."""
        return tuple(model for model in self.routed if model.port is not None)

    @property
    def listens(self) -> tuple[str, ...]:
        """All addresses, sorted."""
        own = (f"{self.host}:{model.port}" for model in self.listeners)
        return tuple(sorted((self.listen, *own)))


def live_file(site: Site) -> str:
    """What is known of the instances beyond their phase, for /api/models."""
    return f"{site.gateway}/live.json"


def instance_names(name: str, model: Model) -> tuple[InstanceName, ...]:
    """The instances that `model` wants: NAME, NAME[1]... None unless its state is running."""
    if model.state is not ModelState.RUNNING:
        return ()
    further = (InstanceName(f"{name}[{number}]") for number in range(1, model.replicas))
    return (InstanceName(name), *further)[: model.replicas]


def gateway_view(
    desired: DesiredState,
    site: Site,
    without_ports: frozenset[int],
    secrets: GatewaySecrets = NO_SECRETS,
) -> GatewayView:
    """What the gateway shall serve; the ports in `without_ports` are a stranger's, left out.

    Raises:
        GatewayError: the secrets that the desired state names cannot be used.
    """
    gateway = desired.gateway
    if gateway is None:
        raise ValueError("`gateway: false` has no view")
    if secrets.problem:
        raise GatewayError(secrets.problem, retryable=False)
    names = (*LOOPBACK_NAMES, gateway.host, *gateway.server_names)
    models = []
    for name, model in sorted(desired.models.items()):
        instances = (
            RoutedInstance(key, site.route(key), tuple(site.socket(key, slot) for slot in SLOTS))
            for key in instance_names(name, model)
        )
        models.append(
            GatewayModel(
                name=ModelName(name),
                aliases=tuple(sorted(model.aliases)),
                port=None if model.port in without_ports else model.port,
                quant=model.quant,
                state=model.state,
                instances=tuple(instances),
            )
        )
    return GatewayView(
        listen=gateway.listen,
        server_names=tuple(sorted({name.lower().rstrip(".") for name in names})),
        cors_origins=tuple(sorted(set(gateway.cors_origins))),
        models=tuple(models),
        folder=site.gateway,
        sockets=site.sockets,
        control_socket=site.control_socket,
        live_file=live_file(site),
        keys=_keys(desired, secrets) if gateway.keys_file else None,
        tls=_encryption(gateway.tls, site, secrets) if gateway.tls else None,
    )


def _keys(desired: DesiredState, secrets: GatewaySecrets) -> tuple[ServedKey, ...]:
    """In the order of their names: that of the lines is no matter."""
    if not secrets.keys:
        raise GatewayError("gateway.keys_file was not read", retryable=False)
    keys = sorted(secrets.keys, key=lambda key: key.name)
    return tuple(ServedKey(key.name, key.digest, known_scope(key, desired.models)) for key in keys)


def _encryption(tls: Tls, site: Site, secrets: GatewaySecrets) -> Encryption:
    if not secrets.certificate:
        raise GatewayError("gateway.tls was not read", retryable=False)
    cert, key = f"{site.root}/{tls.cert}", f"{site.root}/{tls.key}"
    return Encryption(cert, key, secrets.certificate, secrets.valid_until)


def render_gateway(view: GatewayView, templates: Mapping[str, str]) -> RenderedGateway:
    """Render all templates; equal views and templates give equal text and generation.

    Raises:
        GatewayError: a value that nginx would misread, or a broken template (name and line said).
    """
    if MAIN_TEMPLATE not in templates:
        raise GatewayError(f"the template {MAIN_TEMPLATE} is missing", retryable=False)
    for problem in _problems(view):
        raise GatewayError(f"the gateway cannot be rendered: {problem}", retryable=False)
    environment = SandboxedEnvironment(
        loader=FunctionLoader(lambda name: _source(name, templates)),
        undefined=StrictUndefined,
        # Not HTML: each value is checked below, or goes through tojson.
        autoescape=False,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    context = {
        "view": view,
        "router": _router(view),
        "routed_paths": ROUTED_PATHS,
        "body_megabytes": ROUTED_BODY_MEGABYTES,
    }
    texts = {
        name.removesuffix(".j2"): _render(environment, name, templates, context)
        if name.endswith(".j2")
        else text
        for name, text in sorted(templates.items())
    }
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
    return KeyOutline(key.digest[:12], scope)


def _source(name: str, templates: Mapping[str, str]) -> tuple[str, str, None] | None:
    # With its own name as its file's, so that a traceback tells the template and the line.
    return (templates[name], name, None) if name in templates else None


def _render(
    environment: Environment, name: str, templates: Mapping[str, str], context: Mapping[str, object]
) -> str:
    try:
        return environment.get_template(name).render(context)
    except TemplateSyntaxError as error:
        raise _broken(f"{error.name}:{error.lineno}", error) from error
    except (TemplateError, ArithmeticError, LookupError, TypeError, ValueError) as error:
        frames = ((frame.f_code.co_filename, line) for frame, line in walk_tb(error.__traceback__))
        # The innermost frame that is a template's.
        places = [f"{file}:{line}" for file, line in frames if file in templates]
        raise _broken(places[-1] if places else name, error) from error


def _broken(place: str, error: Exception) -> GatewayError:
    return GatewayError(
        f"templates/{place}: {error}",
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
            yield f"the path {path!r} holds a character that nginx's configuration cannot carry"


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
