"""Certificates for the tests, made by the `openssl` program as a user would make them.

In: a folder. Out: a certificate for localhost with its key, and an SSL context that trusts it.
"""

from __future__ import annotations

import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Certificate:
    """A certificate that signed itself, and its private key."""

    cert: Path
    key: Path

    @property
    def trust(self) -> ssl.SSLContext:
        """What a client trusts that knows this certificate, and no other."""
        return ssl.create_default_context(cafile=str(self.cert))

    @property
    def serve(self) -> ssl.SSLContext:
        """What a server has that is known by it."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.cert, self.key)
        return context


def make_certificate(folder: Path, days: int = 30) -> Certificate:
    """Write cert.pem and key.pem; what is there already is replaced, as a renewal does."""
    folder.mkdir(parents=True, exist_ok=True)
    made = Certificate(folder / "cert.pem", folder / "key.pem")
    words = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=localhost"
    names = "subjectAltName=DNS:localhost,IP:127.0.0.1"
    files = ["-keyout", str(made.key), "-out", str(made.cert)]
    subprocess.run(
        ["openssl", *words.split(), "-addext", names, "-days", str(days), *files],
        check=True,
        capture_output=True,
    )
    made.key.chmod(0o600)
    return made
