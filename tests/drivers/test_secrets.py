"""The files of keys and certificates: what is taken from them, and when they are refused."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from certificates import make_certificate
from fake_runtime import FakeClock

from reconciler.core.desired import DesiredState, Gateway
from reconciler.core.keys import GatewayKey
from reconciler.core.observed import GatewaySecrets
from reconciler.drivers import secrets
from reconciler.drivers.clock import SystemClock
from reconciler.drivers.secrets import SecretFiles, known_secrets

pytestmark = pytest.mark.needs("openssl")
KEYS = "alice:alice-key-1\nbob:bob-key-22:tiny\n"
DAY_S = 24 * 3600.0
FILES = {"keys_file": "secrets/keys"}
TLS = {"tls": {"cert": "tls/cert.pem", "key": "tls/key.pem"}}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made = tmp_path / "root"
    (made / "secrets").mkdir(parents=True)
    write(made / "secrets" / "keys", KEYS)
    make_certificate(made / "tls")
    return made


def write(path: Path, text: str, mode: int = 0o600) -> None:
    path.write_text(text)
    path.chmod(mode)


def read(root: Path, fields: dict[str, Any], later: float = 0.0) -> GatewaySecrets:
    clock = FakeClock()
    clock.advance(SystemClock().now() + later - clock.now())
    return SecretFiles(str(root), clock).read(Gateway.model_validate(fields))


def problem(root: Path, fields: dict[str, Any], later: float = 0.0) -> str:
    found = read(root, fields, later)
    assert found == GatewaySecrets(problem=found.problem)
    assert "-key-" not in found.problem
    return found.problem


def test_what_is_not_named_is_not_looked_at(tmp_path: Path) -> None:
    assert read(tmp_path / "nowhere", {}) == GatewaySecrets()


def test_keys_are_known_by_their_digests_alone(root: Path) -> None:
    found = read(root, FILES)
    assert found == GatewaySecrets(
        (
            GatewayKey("alice", hashlib.sha256(b"alice-key-1").hexdigest(), None, 1, 18),
            GatewayKey("bob", hashlib.sha256(b"bob-key-22").hexdigest(), ("tiny",), 2, 16),
        )
    )
    assert "-key-" not in repr(found)


def test_a_certificate_is_known_by_a_digest_and_its_last_day(root: Path) -> None:
    first = read(root, TLS)
    assert (first.problem, first.keys, len(first.certificate)) == ("", None, 12)
    assert read(root, TLS) == first
    make_certificate(root / "tls", days=60)
    renewed = read(root, FILES | TLS)
    assert renewed.certificate != first.certificate
    assert renewed.valid_until > first.valid_until
    assert renewed.keys is not None


@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_private_files_may_be_read_by_nobody_else(root: Path, mode: int) -> None:
    (root / "secrets" / "keys").chmod(mode)
    (root / "tls" / "key.pem").chmod(mode)
    (root / "tls" / "cert.pem").chmod(0o644)
    assert read(root, FILES | TLS).problem == ""


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o610, 0o644])
@pytest.mark.parametrize(("fields", "name"), [(FILES, "secrets/keys"), (TLS, "tls/key.pem")])
def test_a_private_file_that_others_can_open_is_refused(
    root: Path, fields: dict[str, Any], name: str, mode: int
) -> None:
    (root / name).chmod(mode)
    said = f"others can read or change {name} (mode {mode:04o}): chmod 600 {name}"
    assert problem(root, fields) == said


def test_a_private_file_of_another_user_is_refused(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    said = f"belongs to another user (uid {owner}): it has to be yours"
    assert problem(root, FILES) == f"secrets/keys {said}"
    assert problem(root, TLS) == f"tls/key.pem {said}"


def gone(path: Path, _outside: Path) -> None:
    path.unlink()


def a_folder(path: Path, _outside: Path) -> None:
    path.unlink()
    path.mkdir()


def a_pipe(path: Path, _outside: Path) -> None:
    path.unlink()
    os.mkfifo(path, 0o600)


def a_link_outwards(path: Path, outside: Path) -> None:
    path.replace(outside)
    path.symlink_to(outside)


def a_folder_outwards(path: Path, outside: Path) -> None:
    path.parent.replace(outside)
    path.parent.symlink_to(outside)


def a_link_in_a_circle(path: Path, _outside: Path) -> None:
    path.unlink()
    path.symlink_to(path.name)


def too_large(path: Path, _outside: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(secrets.LARGEST_BYTES + 1)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (gone, "cannot be read: No such file or directory"),
        (a_folder, "is not a file"),
        (a_pipe, "is not a file"),
        (a_link_outwards, "is a link that leads out of the root: copy the file here"),
        (a_folder_outwards, "is a link that leads out of the root: copy the file here"),
        (a_link_in_a_circle, "cannot be read: Too many levels of symbolic links"),
        (too_large, "is far too large"),
    ],
)
@pytest.mark.parametrize(
    ("fields", "name"), [(FILES, "secrets/keys"), (TLS, "tls/key.pem"), (TLS, "tls/cert.pem")]
)
def test_what_is_no_plain_file_of_the_root_is_refused(
    root: Path,
    fields: dict[str, Any],
    name: str,
    change: Callable[[Path, Path], None],
    said: str,
) -> None:
    change(root / name, root.parent / "outside")
    expected = f"{name} {said}"
    if change is a_folder_outwards and fields is TLS:
        expected = f"tls/cert.pem {said}"
    assert problem(root, fields) == expected


def test_a_link_within_the_root_is_as_good_as_the_file(root: Path) -> None:
    for name in ("secrets/keys", "tls/cert.pem", "tls/key.pem"):
        path = root / name
        path.replace(path.with_suffix(".real"))
        path.symlink_to(path.with_suffix(".real").name)
    assert read(root, FILES | TLS).problem == ""


def test_mistakes_in_the_keys_file_are_told_with_their_lines(root: Path) -> None:
    write(root / "secrets" / "keys", "alice:alice-key-1\nbob bob-key-22\nalice:alice-key-3")
    assert problem(root, FILES).split("; ") == [
        "secrets/keys:2: write NAME:KEY or NAME:KEY:MODEL,MODEL",
        "secrets/keys:3: the name is that of line 1 too",
    ]
    write(root / "secrets" / "keys", "")
    assert "secrets/keys holds no key" in problem(root, FILES)


def test_the_key_of_another_certificate_is_refused(root: Path, tmp_path: Path) -> None:
    other = make_certificate(tmp_path / "other")
    other.key.replace(root / "tls" / "key.pem")
    assert problem(root, TLS) == "tls/key.pem is not the private key of tls/cert.pem"


def test_a_key_with_a_password_is_refused_and_nobody_is_asked(root: Path) -> None:
    key = root / "tls" / "key.pem"
    words = ["openssl", "pkey", "-in", str(key), "-aes128", "-passout", "pass:secret"]
    key.write_bytes(subprocess.run(words, check=True, capture_output=True).stdout)
    assert "tls/key.pem is protected by a password" in problem(root, TLS)


def test_what_is_no_certificate_is_refused(root: Path) -> None:
    cert, key = (root / "tls" / name for name in ("cert.pem", "key.pem"))
    good = cert.read_text()
    for bad in ("", "rubbish", good[:200], good.replace("CERTIFICATE", "THING"), good[27:]):
        cert.write_text(bad)
        assert problem(root, TLS) == "tls/cert.pem holds no certificate in PEM form"
    cert.write_text(good)
    write(key, "rubbish")
    assert "no certificate with its key in PEM form" in problem(root, TLS)


def test_a_certificate_out_of_its_time_is_refused(root: Path) -> None:
    assert read(root, TLS, later=29 * DAY_S).problem == ""
    said = problem(root, TLS, later=31 * DAY_S)
    assert said.startswith("tls/cert.pem expired at ")
    assert said.endswith(" UTC: renew it")
    assert "tls/cert.pem is valid only from " in problem(root, TLS, later=-DAY_S)


def test_of_a_chain_the_first_certificate_counts(root: Path, tmp_path: Path) -> None:
    cert = root / "tls" / "cert.pem"
    alone = read(root, TLS)
    issuer = make_certificate(tmp_path / "issuer", days=1)
    cert.write_text(f"a word before\n{cert.read_text()}{issuer.cert.read_text()}")
    found = read(root, TLS)
    assert (found.problem, found.valid_until) == ("", alone.valid_until)
    assert found.certificate != alone.certificate


def test_all_secrets_of_a_root_are_known_to_be_hidden(root: Path, tmp_path: Path) -> None:
    env = {"HF_TOKEN": "hf_ofmodel", "PLAIN": "looks-plain", "GGML_X": "shown"}
    fields = {"source": {"path": "x.gguf"}, "port": 8001, "env": env}
    state = {"version": 1, "gateway": {**FILES, **TLS}, "models": {"a": fields}}
    # Its rights are wrong: a command can read it all the same.
    write(root / "secrets" / "keys", KEYS, 0o644)
    write(tmp_path / "token", "hf_login\n")
    given = {"DB_PASSWORD": "swordfish", "PWD": str(root), "LANG": "C", "EMPTY_KEY": ""}
    desired, token = DesiredState.model_validate(state), str(tmp_path / "token")
    found = known_secrets(str(root), desired, given, token)
    key = (root / "tls" / "key.pem").read_text()
    of_gateway = {"alice-key-1", "bob-key-22", key}
    assert found == of_gateway | {"hf_ofmodel", "looks-plain", "hf_login\n", "swordfish"}
    nothing = DesiredState.model_validate({"version": 1, "gateway": None})
    assert known_secrets(str(root), nothing, {}, str(tmp_path)) == frozenset()
    bare = DesiredState.model_validate({"version": 1})
    assert known_secrets(str(root), bare, {}, "/nowhere") == frozenset()
