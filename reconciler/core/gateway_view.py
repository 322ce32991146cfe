"""What the gateway's templates may speak of: the models, addresses, keys of one desired state.

In: the desired state, the site, what the secrets allow. Out: `GatewayView`.
It depends on desired state only, never on phase: a restart or replacement gives an equal view.
How it becomes text is for `core.gateway` to say.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from reconciler.core.desired import DesiredState, Model, Tls
from reconciler.core.keys import known_scope
from reconciler.core.observed import GatewaySecrets
from reconciler.core.site import SLOTS, Site
from reconciler.core.words import InstanceName, ModelName, ModelState
from reconciler.errors import GatewayError

AUTO_SLOTS = 4
"""What llama-server takes where `--parallel` says nothing (server.cpp, b11434)."""
LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")
NO_SECRETS = GatewaySecrets()


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
    logs: tuple[str, ...] = ()
    """Where its servers write to, by replica; of one that does not run there may be an old one."""
    slots: int = 0
    """Of several servers: how many requests each of them works at; else it does not matter."""


@dataclass(frozen=True, slots=True)
class ServedKey:
    """A key that opens the gateway."""

    name: str
    digest: str
    models: tuple[str, ...] | None
    """The names of the models that it may use; None: all of them."""
    per_minute: int | None = None
    at_once: int | None = None
    """Its limits; None: there is none."""

    @property
    def limits(self) -> str:
        """Both for people; empty where there is none."""
        plural = "" if self.per_minute == 1 else "s"
        parts = [] if self.per_minute is None else [f"{self.per_minute} request{plural} a minute"]
        parts += [f"{self.at_once} at once"] if self.at_once is not None else []
        return " and ".join(parts)

    @property
    def pause_s(self) -> int:
        """The longest wait until nginx lets the next one of `per_minute` through."""
        # It counts in whole thousandths of a request a second (ngx_http_limit_req_module.c).
        return 0 if self.per_minute is None else -(-1000 // (self.per_minute * 1000 // 60))


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
    hold_s: float
    """How long a request waits for a server that does not answer."""
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
    def paces(self) -> tuple[int, ...]:
        """All limits of requests a minute that a key has."""
        return _distinct(key.per_minute for key in self.keys or ())

    @property
    def widths(self) -> tuple[int, ...]:
        """All limits of requests at once that a key has."""
        return _distinct(key.at_once for key in self.keys or ())

    @property
    def listens(self) -> tuple[str, ...]:
        """All addresses, sorted."""
        own = (f"{self.host}:{model.port}" for model in self.listeners)
        return tuple(sorted((self.listen, *own)))


def _distinct(limits: Iterable[int | None]) -> tuple[int, ...]:
    return tuple(sorted({limit for limit in limits if limit is not None}))


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
                logs=tuple(
                    map(site.log_file, instance_names(name, model) or (InstanceName(name),))
                ),
                slots=_slots(model) if model.replicas > 1 else 0,
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
        hold_s=gateway.hold,
        keys=_keys(desired, secrets) if gateway.keys_file else None,
        tls=_encryption(gateway.tls, site, secrets) if gateway.tls else None,
    )


def _slots(model: Model) -> int:
    given = (model.params.get("parallel"), model.args.get("parallel"), model.args.get("np"))
    number = next((one for one in given if isinstance(one, str)), "")
    return int(number) if re.fullmatch(r"[1-9][0-9]{0,4}", number) else AUTO_SLOTS


def _keys(desired: DesiredState, secrets: GatewaySecrets) -> tuple[ServedKey, ...]:
    """In the order of their names: that of the lines is no matter."""
    if not secrets.keys:
        raise GatewayError("gateway.keys_file was not read", retryable=False)
    keys = sorted(secrets.keys, key=lambda key: key.name)
    scopes = (known_scope(key, desired.models) for key in keys)
    return tuple(
        ServedKey(key.name, key.digest, scope, key.per_minute, key.at_once)
        for key, scope in zip(keys, scopes, strict=True)
    )


def _encryption(tls: Tls, site: Site, secrets: GatewaySecrets) -> Encryption:
    if not secrets.certificate:
        raise GatewayError("gateway.tls was not read", retryable=False)
    cert, key = f"{site.root}/{tls.cert}", f"{site.root}/{tls.key}"
    return Encryption(cert, key, secrets.certificate, secrets.valid_until)
