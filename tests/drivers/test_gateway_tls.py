"""TLS at the gateway: what is spoken on its addresses, and how a renewed certificate gets there."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from certificates import Certificate, make_certificate
from e2e.machine import free_port
from gateway_rig import Rig, eventually, forget_requests, only, rig
from waiting import PATIENCE_S

from reconciler.errors import GatewayError

pytestmark = pytest.mark.needs("openssl")
TLS: dict[str, Any] = {"tls": {"cert": "tls/cert.pem", "key": "tls/key.pem"}}
MODELS: dict[str, Any] = {"alpha": {"aliases": ("one",)}, "beta": {}}


def renew(world: Rig, days: int = 30) -> Certificate:
    made = make_certificate(Path(world.site.root) / "tls", days)
    world.trust = made.trust
    return made


@pytest.fixture(scope="module")
def whole_world() -> Iterator[Rig]:
    with rig() as made:
        renew(made)
        made.ports["alpha"] = free_port()
        models = {**MODELS, "alpha": {**MODELS["alpha"], "port": made.ports["alpha"]}}
        made.apply(made.render(models, **TLS))
        for name in MODELS:
            made.backend(name)
        yield made


@pytest.fixture
def world(whole_world: Rig) -> Rig:
    forget_requests(whole_world)
    return whole_world


def where(world: Rig, port: str) -> int:
    return world.ports.get(port, world.listen)


@pytest.mark.parametrize("port", ["gateway", "alpha"])
def test_the_addresses_speak_tls(world: Rig, port: str) -> None:
    assert world.ask("GET", "/health", port=where(world, port)).status == 200
    stranger = http.client.HTTPSConnection("127.0.0.1", where(world, port), timeout=PATIENCE_S)
    with contextlib.closing(stranger), pytest.raises(ssl.SSLCertVerificationError):
        stranger.request("GET", "/health")


def test_models_are_reached_by_every_way(world: Rig) -> None:
    assert world.ask("POST", "/v1/x", {"model": "one"}).json["backend"] == "alpha.a"
    assert world.ask("GET", "/api/alpha/x").json["backend"] == "alpha.a"
    assert world.ask("GET", "/x", port=world.ports["alpha"]).json["backend"] == "alpha.a"
    assert len(only(world, "alpha.a").seen) == 3
    listed = world.ask("GET", "/api/models").json["models"]
    assert {one["url"] for one in listed} == {
        f"https://127.0.0.1:{world.listen}/api/{name}/v1" for name in MODELS
    }


@pytest.mark.parametrize("way", ["/v1/x/stream", "/api/alpha/v1/x/stream"])
def test_a_stream_arrives_as_it_is_made(world: Rig, way: str) -> None:
    connection, reply = world.stream("POST", way, {"model": "alpha"})
    assert reply.readline() == b"data: first of alpha.a\n"
    world.backends["alpha.a"].go_on.set()
    assert reply.read() == b"\ndata: [DONE]\n\n"
    connection.close()


@pytest.mark.parametrize("port", ["gateway", "alpha"])
@pytest.mark.parametrize("size", [0, 99_999_999])
def test_plain_http_is_told_so(world: Rig, port: str, size: int) -> None:
    head = f"POST /v1/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: {size}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", where(world, port)), PATIENCE_S) as connection:
        connection.sendall(head.encode())
        reply = http.client.HTTPResponse(connection)
        reply.begin()
        assert reply.status == 400
        assert f"use https://localhost:{where(world, port)}".encode() in reply.read()


def shake_hands(world: Rig, context: ssl.SSLContext) -> ssl.SSLSocket:
    raw = socket.create_connection(("127.0.0.1", world.listen), PATIENCE_S)
    try:
        return context.wrap_socket(raw, server_hostname="localhost")
    except BaseException:
        raw.close()
        raise


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_both_versions_that_are_in_use_are_spoken(world: Rig, version: ssl.TLSVersion) -> None:
    context = ssl.create_default_context(cadata=ssl.DER_cert_to_PEM_cert(served(world)))
    context.minimum_version = context.maximum_version = version
    with shake_hands(world, context) as spoken:
        assert spoken.version() == version.name.replace("_", ".")


def test_http_2_is_spoken_with_who_asks_for_it(world: Rig) -> None:
    context = ssl.create_default_context(cadata=ssl.DER_cert_to_PEM_cert(served(world)))
    context.set_alpn_protocols(["h2", "http/1.1"])
    with shake_hands(world, context) as spoken:
        assert spoken.selected_alpn_protocol() == "h2"


@pytest.mark.needs("curl")
@pytest.mark.parametrize("path", ["/v1/x", "/api/beta/x"])
def test_a_large_request_by_http_2_is_routed_and_arrives_whole(
    world: Rig, tmp_path: Path, path: str
) -> None:
    body = json.dumps({"pad": "x" * 3_000_000, "model": "beta"}).encode()
    sent = tmp_path / "body"
    sent.write_bytes(body)
    argv = ["curl", "--silent", "--http2", "--cacert", f"{world.site.root}/tls/cert.pem"]
    argv += ["--header", "Content-Type: application/json", "--data-binary", f"@{sent}"]
    argv += ["--write-out", "\n%{http_version} %{http_code}"]
    url = f"https://localhost:{world.listen}{path}"
    done = subprocess.run([*argv, url], capture_output=True, text=True, check=True)
    answer, _, how = done.stdout.rpartition("\n")
    assert how == "2 200"
    assert json.loads(answer)["bytes"] == len(body)
    assert [seen.body for seen in only(world, "beta.a").seen] == [body]


def served(world: Rig) -> bytes:
    """The certificate that a new connection gets."""
    anything = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    anything.check_hostname, anything.verify_mode = False, ssl.CERT_NONE
    raw = socket.create_connection(("127.0.0.1", world.listen), PATIENCE_S)
    with anything.wrap_socket(raw, server_hostname="localhost") as connection:
        return connection.getpeercert(binary_form=True) or b""


def on_disk(made: Certificate) -> bytes:
    return ssl.PEM_cert_to_DER_cert(made.cert.read_text())


@pytest.fixture
def fresh() -> Iterator[Rig]:
    with rig() as made:
        yield made


def test_a_renewed_certificate_is_a_reload(fresh: Rig) -> None:
    first = renew(fresh)
    before = fresh.apply(fresh.render(MODELS, **TLS))
    fresh.backend("alpha")
    assert served(fresh) == on_disk(first)
    connection, stream = fresh.stream("GET", "/api/alpha/stream")
    assert stream.readline() == b"data: first of alpha.a\n"
    # Written over in place, within the same second as before.
    times = [path.stat().st_mtime_ns for path in (first.cert, first.key)]
    second = renew(fresh, days=60)
    for path, time in zip((second.cert, second.key), times, strict=True):
        os.utime(path, ns=(time, time))
    after = fresh.apply(fresh.render(MODELS, **TLS))
    assert after.master == before.master
    assert after.generation != before.generation
    assert before.outline
    assert after.outline
    assert after.outline.rest == before.outline.rest
    for _ in range(10):
        assert served(fresh) == on_disk(second)
    fresh.backends["alpha.a"].go_on.set()
    assert stream.read() == b"\ndata: [DONE]\n\n"
    connection.close()
    assert fresh.apply(fresh.render(MODELS, **TLS)).generation == after.generation


def test_tls_comes_and_goes_by_a_reload(fresh: Rig) -> None:
    port = free_port()
    models = {"alpha": {"port": port}}
    plain = fresh.apply(fresh.render(models))
    assert fresh.ask("GET", "/health").status == 200
    renew(fresh)
    secured = fresh.apply(fresh.render(models, **TLS))
    assert fresh.ask("GET", "/health").status == 200
    assert fresh.ask("GET", "/health", port=port).status == 503
    fresh.trust = None
    again = fresh.apply(fresh.render(models))
    assert fresh.ask("GET", "/health").status == 200
    assert plain.master == secured.master == again.master
    assert again.generation == plain.generation


@pytest.mark.parametrize("name", ["cert.pem", "key.pem"])
def test_files_that_vanish_are_missed_only_by_the_next_start(fresh: Rig, name: str) -> None:
    known = on_disk(renew(fresh))
    rendered = fresh.render(MODELS, **TLS)
    live = fresh.apply(rendered)
    (Path(fresh.site.root) / "tls" / name).rename(Path(fresh.site.root) / "away")
    other = fresh.render({"beta": {}})
    with pytest.raises(GatewayError, match="cannot load certificate"):
        fresh.apply(rendered)
    assert fresh.gateway.observe().generation == live.generation
    assert served(fresh) == known
    # A change that fails goes back to what runs; that nginx still has what it read.
    bad = {**other.files, "nginx.conf": "bad;"}
    with pytest.raises(GatewayError):
        fresh.apply(type(other)(other.generation, bad))
    assert fresh.ask("GET", "/health").status == 200
    assert live.master
    os.kill(live.master.pid, signal.SIGKILL)
    eventually(lambda: fresh.gateway.observe().master is None)
    with pytest.raises(GatewayError, match="cannot load certificate"):
        fresh.apply(rendered)
    # Its workers serve on; with the file back, the next apply replaces them.
    assert fresh.ask("GET", "/health").status == 200
    (Path(fresh.site.root) / "away").rename(Path(fresh.site.root) / "tls" / name)
    assert fresh.apply(rendered).master not in {None, live.master}


def test_no_private_key_leaves_its_file(fresh: Rig) -> None:
    secret = renew(fresh).key.read_text().splitlines()[1]
    fresh.apply(fresh.render(MODELS, **TLS))
    for path in Path(fresh.site.state).rglob("*"):
        assert not path.is_file() or secret not in path.read_text(errors="replace")
