"""A model hub on this machine: the part of the Hugging Face protocol that its client uses.

In: repositories as commits of files. Out: an endpoint for `HF_ENDPOINT`, and what was asked of it.
Weights lie behind a redirect to a store by sha256, as the hub's do; Range is honoured there.
Gated and private repositories want the token; `broken` answers every request with that status.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "hf_" + "secret" * 4
_API = re.compile(r"/api/models/([^/]+/[^/]+)(?:/revision/([^/?]+))?(?:\?.*)?")
_RESOLVE = re.compile(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)")


@dataclass
class Repo:
    """One repository: commits of files, names for commits."""

    commits: dict[str, Mapping[str, bytes]]
    refs: dict[str, str]
    gated: bool = False
    private: bool = False

    def commit(self, files: Mapping[str, bytes], ref: str = "main") -> str:
        """A new commit, which the ref moves to."""
        sha = hashlib.sha1(repr(sorted(files.items())).encode(), usedforsecurity=False).hexdigest()
        self.commits[sha] = files
        self.refs[ref] = sha
        return sha


@dataclass
class HubServer:
    """The hub, its repositories and its visitors' book."""

    endpoint: str = ""
    store: str = ""
    """Where weights lie: another host's name, or the client would follow the redirect too early."""
    repos: dict[str, Repo] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    """`METHOD path` of each request, in order."""
    broken: int = 0

    def add(self, name: str, files: Mapping[str, bytes], **how: bool) -> Repo:
        self.repos[name] = repo = Repo({}, {}, **how)
        repo.commit(files)
        return repo


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: HubServer

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        self.hub.requests.append(f"{self.command} {self.path}")
        api, file = _API.fullmatch(self.path), _RESOLVE.fullmatch(self.path)
        if self.hub.broken:
            self._send(self.hub.broken, b"broken")
        elif self.path.startswith("/cdn/"):
            self._weights(self.path.removeprefix("/cdn/"))
        elif api:
            self._api(api[1], api[2] or "main")
        elif file:
            self._file(*file.groups())
        else:
            self._fail(404, "EntryNotFound")

    @property
    def _known(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def _repo(self, name: str) -> Repo | None:
        repo = self.hub.repos.get(name)
        if repo is None or (repo.private and not self._known):
            self._fail(404 if self._known else 401, "RepoNotFound")
            return None
        return repo

    def _files(self, repo: Repo, revision: str) -> tuple[str, Mapping[str, bytes]]:
        sha = repo.refs.get(revision, revision)
        files = repo.commits.get(sha)
        if files is None:
            self._fail(404, "RevisionNotFound")
        return sha, files or {}

    def _api(self, name: str, revision: str) -> None:
        repo = self._repo(name)
        sha, files = self._files(repo, revision) if repo else ("", {})
        if repo is None or not files:
            return
        siblings: list[dict[str, Any]] = []
        for path, content in files.items():
            entry = {"rfilename": path, "size": len(content), "blobId": _blob(content)}
            if path.endswith(".gguf"):
                entry["lfs"] = {"sha256": _sha(content), "size": len(content), "pointerSize": 130}
            siblings.append(entry)
        info = {"id": name, "modelId": name, "sha": sha, "private": repo.private, "tags": []}
        info |= {"gated": "manual" if repo.gated else False, "siblings": siblings}
        self._send(200, json.dumps(info).encode(), {"Content-Type": "application/json"})

    def _file(self, name: str, revision: str, path: str) -> None:
        repo = self._repo(name)
        if repo is None:
            return
        if repo.gated and not self._known:
            self._fail(401, "GatedRepo")
            return
        sha, files = self._files(repo, revision)
        if not files:
            return
        if path not in files:
            self._fail(404, "EntryNotFound", {"X-Repo-Commit": sha})
            return
        content, headers = files[path], {"X-Repo-Commit": sha}
        if path.endswith(".gguf"):
            headers |= {"X-Linked-Etag": f'"{_sha(content)}"', "X-Linked-Size": f"{len(content)}"}
            headers["Location"] = f"{self.hub.store}/cdn/{_sha(content)}"
            self._send(302, b"", headers)
        else:
            self._send(200, content, headers | {"ETag": f'"{_blob(content)}"'})

    def _weights(self, sha: str) -> None:
        all_files = (
            content
            for repo in self.hub.repos.values()
            for files in repo.commits.values()
            for content in files.values()
        )
        content = next((one for one in all_files if _sha(one) == sha), None)
        if content is None:
            self._fail(404, "EntryNotFound")
            return
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        headers = {"ETag": f'"{sha}"', "Accept-Ranges": "bytes"}
        if wanted:
            begin, end = int(wanted[1]), int(wanted[2] or len(content) - 1)
            headers["Content-Range"] = f"bytes {begin}-{end}/{len(content)}"
            self._send(206, content[begin : end + 1], headers)
        else:
            self._send(200, content, headers)

    def _fail(self, status: int, code: str, headers: Mapping[str, str] | None = None) -> None:
        self._send(status, b'{"error": "no"}', {"X-Error-Code": code, **(headers or {})})

    def _send(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _blob(content: bytes) -> str:
    """The identity that git gives a small file."""
    head = f"blob {len(content)}\0".encode()
    return hashlib.sha1(head + content, usedforsecurity=False).hexdigest()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that left is none of the test's business."""


@contextlib.contextmanager
def hub_server() -> Iterator[HubServer]:
    """A running hub."""
    hub = HubServer()
    handler = type("_Bound", (_Handler,), {"hub": hub})
    with _Server(("127.0.0.1", 0), handler) as server:
        port = server.server_address[1]
        hub.endpoint, hub.store = f"http://127.0.0.1:{port}", f"http://localhost:{port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield hub
        finally:
            server.shutdown()
            thread.join()
