"""What the templates of `renders` may speak of: the models to be served, and where they answer.

In: the desired state, the site. Out: a context for `core.templating`. It depends on desired state
only, never on what runs: a crash, a restart or a model that still loads renders nothing new. No
secret is in it: of keys a template learns only that they are needed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from reconciler.core.addresses import local_host
from reconciler.core.desired import DesiredState, Gateway, Model
from reconciler.core.engine import flag_name
from reconciler.core.site import Site
from reconciler.core.words import ModelState

_CONTEXT = frozenset({"ctx-size", "c"})
_SLOTS = frozenset({"parallel", "np"})


@dataclass(frozen=True, slots=True)
class RenderedGateway:
    """The gateway, as a client needs to know it."""

    url: str
    """Where a client on this machine reaches it: `http://127.0.0.1:8888`."""
    base_url: str
    """The same for the OpenAI API: `http://127.0.0.1:8888/v1`."""
    address: str
    """Host and port of `url`."""
    server_names: tuple[str, ...]
    needs_key: bool
    tls: bool
    cert: str | None
    """The path of its certificate."""


@dataclass(frozen=True, slots=True)
class RenderedModel:
    """One model, as a client needs to know it."""

    name: str
    aliases: tuple[str, ...]
    port: int | None
    """Its own public port."""
    quant: str | None
    state: str
    replicas: int
    context: int | None
    """Tokens that one request may have, where the desired file says so."""
    base_url: str
    """Where OpenAI requests go that name it."""


def render_context(desired: DesiredState, site: Site) -> Mapping[str, object]:
    """Everything that a template may speak of."""
    gateway = _gateway(desired.gateway, site) if desired.gateway else None
    models = [_model(name, one, gateway) for name, one in sorted(desired.models.items())]
    served = (one for one in models if one.state == ModelState.RUNNING and one.replicas)
    return {
        "models": tuple(served),
        "all_models": tuple(models),
        "gateway": gateway,
        "root": site.root,
        "desired": site.desired,
    }


def _gateway(gateway: Gateway, site: Site) -> RenderedGateway:
    address = f"{local_host(gateway.host)}:{gateway.port}"
    url = f"{'https' if gateway.tls else 'http'}://{address}"
    return RenderedGateway(
        url=url,
        base_url=f"{url}/v1",
        address=address,
        server_names=gateway.server_names,
        needs_key=gateway.keys_file is not None,
        tls=gateway.tls is not None,
        cert=site.path(gateway.tls.cert) if gateway.tls else None,
    )


def _model(name: str, model: Model, gateway: RenderedGateway | None) -> RenderedModel:
    return RenderedModel(
        name=name,
        aliases=model.aliases,
        port=model.port,
        quant=model.quant,
        state=model.state.value,
        replicas=model.replicas,
        context=_context(model),
        base_url=gateway.base_url if gateway else f"http://127.0.0.1:{model.port}/v1",
    )


def _context(model: Model) -> int | None:
    """The engine divides its context among the requests that it is told to work at in parallel."""
    size, slots = _number(model, _CONTEXT), _number(model, _SLOTS)
    return size // (slots or 1) if size else None


def _number(model: Model, names: frozenset[str]) -> int | None:
    flags = {**model.params, **model.args}
    said = (value for key, value in flags.items() if flag_name(key) in names)
    text = next((one for one in said if isinstance(one, str)), "")
    return int(text) if text.isdecimal() else None
