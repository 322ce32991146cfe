"""The gateway's secrets: its keys file, its certificate and private key.

In: the gateway of the desired state. Out: `GatewaySecrets`: digests, names and dates, or what is
wrong with a file. It only reads; what it reads goes no further than here and `core.keys`. What
must not be repeated (`known_secrets`) is for `core.hiding` alone.
"""

from __future__ import annotations

import hashlib
import os
import ssl
import stat
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from reconciler.core.certificate import validity
from reconciler.core.desired import DesiredState, Gateway, Tls
from reconciler.core.engine import MASK, masked, sounds_secret
from reconciler.core.keys import GatewayKey, key_texts, parse_keys
from reconciler.core.observed import GatewaySecrets
from reconciler.drivers.base import Clock
from reconciler.errors import GatewayError

LARGEST_BYTES = 4 * 2**20
_LARGEST_TOKEN = 4096
_PEM_BEGIN, _PEM_END = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"


class SecretFiles:
    """The real `Secrets` of `drivers.base`."""

    def __init__(self, root: str, clock: Clock) -> None:
        self._root = root
        self._clock = clock

    def read(self, gateway: Gateway) -> GatewaySecrets:
        """What the files hold that the gateway names."""
        try:
            keys = self._keys(gateway.keys_file) if gateway.keys_file else None
            digest, until = self._certificate(gateway.tls) if gateway.tls else ("", "")
        except GatewayError as error:
            return GatewaySecrets(problem=error.message)
        return GatewaySecrets(keys, digest, until)

    def _keys(self, name: str) -> tuple[GatewayKey, ...]:
        return parse_keys(name, self._content(name, private=True))

    def _certificate(self, tls: Tls) -> tuple[str, str]:
        """Digest and last day; nginx would start with an expired one, and no client would talk."""
        certificate = self._content(tls.cert, private=False)
        key = self._content(tls.key, private=True)
        first, last = _validity(tls.cert, certificate)
        self._require_pair(tls)
        now = datetime.fromtimestamp(self._clock.now(), UTC)
        if not first <= now:
            raise _unusable(f"{tls.cert} is valid only from {first:%Y-%m-%d %H:%M} UTC on")
        if not now <= last:
            raise _unusable(f"{tls.cert} expired at {last:%Y-%m-%d %H:%M} UTC: renew it")
        digest = hashlib.sha256(hashlib.sha256(certificate).digest() + key).hexdigest()
        return digest[:12], f"{last:%Y-%m-%d}"

    def _require_pair(self, tls: Tls) -> None:
        """Let OpenSSL say whether nginx could use them; it must not ask for a password."""
        asked: list[bool] = []

        def password() -> str:
            asked.append(True)
            return ""

        cert, key = (str(Path(self._root, name)) for name in (tls.cert, tls.key))
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key, password)
        except (ssl.SSLError, OSError, ValueError) as error:
            reason = getattr(error, "reason", "") or ""
            if asked:
                said = f"{tls.key} is protected by a password, which nginx could not give"
            elif reason == "KEY_VALUES_MISMATCH":
                said = f"{tls.key} is not the private key of {tls.cert}"
            else:
                said = f"{tls.cert} and {tls.key} are no certificate with its key in PEM form"
                said += f" ({reason.lower().replace('_', ' ')})" if reason else ""
            raise _unusable(said) from error

    def _content(self, name: str, *, private: bool) -> bytes:
        """A file's content, if it lies in the root and, where it is private, is ours alone."""
        path = Path(os.path.realpath(Path(self._root, name)))
        if not path.is_relative_to(os.path.realpath(self._root)):
            raise _unusable(f"{name} is a link that leads out of the root: copy the file here")
        try:
            # A pipe would keep us waiting for a writer; another link was put there just now.
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
        except OSError as error:
            raise _unusable(f"{name} cannot be read: {error.strerror}") from error
        try:
            # Of what was opened, not of the path: that may be another file by now.
            _require_plain(name, os.fstat(descriptor), private=private)
            with open(descriptor, "rb", closefd=False) as file:
                return file.read(LARGEST_BYTES)
        finally:
            os.close(descriptor)


def known_secrets(
    root: str, desired: DesiredState, environment: Mapping[str, str], token_file: str
) -> frozenset[str]:
    """What no message may repeat, as it is now; what cannot be read nobody else of us knows either.

    The gateway's keys, the lines of its private key, the hub's token, our own variables that sound
    as if they held a secret, and those of the models that no plan shows. What is a path is none.
    """
    found = set[str]()
    if gateway := desired.gateway:
        key = _bytes(root, gateway.tls.key) if gateway.tls else b""
        found.add(key.decode(errors="replace"))
        found.update(key_texts(_bytes(root, gateway.keys_file) if gateway.keys_file else b""))
    found.add(_bytes(root, token_file)[:_LARGEST_TOKEN].decode(errors="replace"))
    found.update(value for name, value in environment.items() if sounds_secret(name))
    for model in desired.models.values():
        found |= hidden_values(model.env.items())
    return frozenset(one for one in found if one and not _is_place(one))


def hidden_values(env: Iterable[tuple[str, str]]) -> set[str]:
    """The values of variables of a model that no plan shows. What is a path is none."""
    values = (value for name, value in env if masked(name, value) == MASK)
    return {value for value in values if value and not _is_place(value)}


def _bytes(root: str, name: str) -> bytes:
    """A file's content, however wrong its rights are."""
    try:
        with Path(root, name).open("rb") as file:
            is_plain = stat.S_ISREG(os.fstat(file.fileno()).st_mode)
            return file.read(LARGEST_BYTES) if is_plain else b""
    except OSError:
        return b""


def _is_place(value: str) -> bool:
    """`PWD`, `SSH_AUTH_SOCK` and the like."""
    return value.startswith("/") and "\n" not in value and os.path.lexists(value)


def _require_plain(name: str, seen: os.stat_result, *, private: bool) -> None:
    if not stat.S_ISREG(seen.st_mode):
        raise _unusable(f"{name} is not a file")
    if seen.st_size > LARGEST_BYTES:
        raise _unusable(f"{name} is far too large")
    if not private:
        return
    if seen.st_uid != os.geteuid():
        raise _unusable(f"{name} belongs to another user (uid {seen.st_uid}): it has to be yours")
    if stat.S_IMODE(seen.st_mode) & 0o077:
        mode = f"{stat.S_IMODE(seen.st_mode):04o}"
        raise _unusable(f"others can read or change {name} (mode {mode}): chmod 600 {name}")


def _validity(name: str, content: bytes) -> tuple[datetime, datetime]:
    """The dates of the first certificate: the gateway's own; those of its issuers follow."""
    text = content.decode("ascii", errors="replace")
    start, end = text.find(_PEM_BEGIN), text.find(_PEM_END)
    try:
        return validity(ssl.PEM_cert_to_DER_cert(text[start : end + len(_PEM_END)]))
    except ValueError as error:
        raise _unusable(f"{name} holds no certificate in PEM form") from error


def _unusable(said: str) -> GatewayError:
    return GatewayError(said, retryable=False)
