"""A model hub on this machine: the part of the Hugging Face protocol that its client uses.

In: repositories as commits of files. Out: an endpoint for `HF_ENDPOINT`, and what was asked of it.
Weights lie behind a redirect to a store by sha256, as the hub's do; Range is honoured there.
Gated and private repositories want the token; `broken` answers every request with that status,
`faults` are the bad luck of the next requests for weights, one each (`hub_faults`).
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

from certificates import Certificate
from hub_faults import Content, Fault, Kind, Made, flipped, hang, part, reset, sha_of

TOKEN = "hf_" + "secret" * 4
_API = re.compile(r"/api/models/([^/]+/[^/]+)(?:/revision/([^/?]+))?(?:\?.*)?")
_TREE = re.compile(r"/api/models/([^/]+/[^/]+)/tree/([^/?]+)(?:\?.*)?")
_RESOLVE = re.compile(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)")


@dataclass
class Repo:
    """One repository: commits of files, names for commits."""

    commits: dict[str, Mapping[str, Content]]
    refs: dict[str, str]
    gated: bool = False
    private: bool = False

    def commit(self, files: Mapping[str, Content], ref: str = "main") -> str:
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
    elsewhere: str = ""
    """Where a store sends on to; the hub itself if it is not said."""
    repos: dict[str, Repo] = field(default_factory=dict)
    files: dict[str, Content] = field(default_factory=dict)
    """What lies on it as plain files, at `/files/NAME`; `/moved/NAME` sends on to its store."""
    requests: list[str] = field(default_factory=list)
    """`METHOD path` of each request, in order."""
    broken: int = 0
    faults: list[Fault] = field(default_factory=list)
    is_ranged: bool = True
    """Whether its store knows ranges."""
    is_sized: bool = True
    """Whether its store says how large files are."""
    is_hashed: bool = True
    """Whether its listing says what the bytes of files are."""
    etag: str = ""
    """Stands in the store's ETags, besides the hash."""
    sent: int = 0
    """Bytes of weights that were handed to the network, each time they were asked for."""
    told_secret: list[str] = field(default_factory=list)
    """`HOST PATH` of each request that brought a token."""
    validators: set[str] = field(default_factory=set)
    """What weights were asked for on condition of."""
    over: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def next_fault(self) -> Fault | None:
        with self.lock:
            return self.faults.pop(0) if self.faults else None

    def count(self, sent: int) -> None:
        with self.lock:
            self.sent += sent

    def add(self, name: str, files: Mapping[str, Content], **how: bool) -> Repo:
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
        if "Authorization" in self.headers:
            self.hub.told_secret.append(f"{self.headers['Host']} {self.path}")
        api, file = _API.fullmatch(self.path), _RESOLVE.fullmatch(self.path)
        tree = _TREE.fullmatch(self.path)
        if self.hub.broken:
            self._send(self.hub.broken, b"broken")
        elif self.path.startswith("/cdn/"):
            self._weights(self.path.removeprefix("/cdn/"))
        elif self.path.startswith("/files/"):
            name = self.path.removeprefix("/files/").partition("?")[0]
            self._content(self.hub.files.get(name))
        elif self.path.startswith("/moved/"):
            there = self.path.replace("/moved/", "/files/")
            self._send(302, b"", {"Location": f"{self.hub.store}{there}"})
        elif api:
            self._api(api[1], api[2] or "main")
        elif tree:
            self._tree(*tree.groups())
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

    def _files(self, repo: Repo, revision: str) -> tuple[str, Mapping[str, Content]]:
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
            entry = {"rfilename": path, "size": len(content), "blobId": blob_of(content)}
            if not self.hub.is_hashed:
                del entry["blobId"]
            elif path.endswith(".gguf"):
                entry["lfs"] = {"sha256": sha_of(content), "size": len(content), "pointerSize": 130}
            siblings.append(entry)
        info = {"id": name, "modelId": name, "sha": sha, "private": repo.private, "tags": []}
        info |= {"gated": "manual" if repo.gated else False, "siblings": siblings}
        self._send(200, json.dumps(info).encode(), {"Content-Type": "application/json"})

    def _tree(self, name: str, revision: str) -> None:
        repo = self._repo(name)
        sha, files = self._files(repo, revision) if repo else ("", {})
        entries = []
        for path, content in files.items():
            entry = {"type": "file", "oid": blob_of(content), "size": len(content), "path": path}
            if path.endswith(".gguf"):
                entry["lfs"] = {"oid": sha_of(content), "size": len(content), "pointerSize": 130}
            entries.append(entry)
        if files:
            head = {"Content-Type": "application/json", "X-Repo-Commit": sha}
            self._send(200, json.dumps(entries).encode(), head)

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
            digest = sha_of(content)
            headers |= {"X-Linked-Etag": f'"{digest}"', "X-Linked-Size": f"{len(content)}"}
            headers["Location"] = f"{self.hub.store}/cdn/{digest}"
            self._send(302, b"", headers)
        elif isinstance(content, bytes):
            self._send(200, content, headers | {"ETag": f'"{blob_of(content)}"'})

    def _weights(self, sha: str) -> None:
        all_files = (
            content
            for repo in self.hub.repos.values()
            for files in repo.commits.values()
            for content in files.values()
        )
        self._content(next((one for one in all_files if sha_of(one) == sha), None))

    def _content(self, content: Content | None) -> None:
        if content is None:
            self._fail(404, "EntryNotFound")
            return
        fault = self.hub.next_fault() if self.command == "GET" else None
        if fault and fault.kind is Kind.STATUS:
            self._send(fault.status, b"no", dict(fault.headers))
        elif fault and fault.kind is Kind.ELSEWHERE:
            there = f"{self.hub.elsewhere or self.hub.endpoint}{self.path}"
            self._send(302, b"", {"Location": there})
        elif fault and fault.kind is Kind.SILENCE:
            hang(self, self.hub.over)
        else:
            self._part(content, sha_of(content), fault)

    def _part(self, content: Content, sha: str, fault: Fault | None) -> None:
        etag = f'"{self.hub.etag}{sha}"'
        self.hub.validators.add(self.headers.get("If-Range", ""))
        headers = {"ETag": etag, "Accept-Ranges": "bytes"}
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        kind = fault.kind if fault else None
        if self.headers.get("If-Range", etag) != etag or not self.hub.is_ranged:
            wanted = None
        if wanted is None or kind is Kind.NO_RANGES:
            self._stream(200, content, (0, len(content)), headers, fault)
            return
        begin, end = int(wanted[1]), int(wanted[2] or len(content) - 1) + 1
        if begin >= len(content):
            self._send(416, b"", {"Content-Range": f"bytes */{len(content)}"})
            return
        end = min(end, len(content))
        if kind is Kind.SHIFT and end - begin > 1:
            begin += 1
        if kind is Kind.SHORT:
            end = begin + (end - begin + 1) // 2
        if kind is not Kind.NO_SUCH_RANGE:
            whole = len(content) if self.hub.is_sized else "*"
            headers["Content-Range"] = f"bytes {begin}-{end - 1}/{whole}"
        self._stream(206, content, (begin, end), headers, fault)

    def _stream(
        self,
        status: int,
        content: Content,
        span: tuple[int, int],
        headers: Mapping[str, str],
        fault: Fault | None,
    ) -> None:
        at, end = span
        self.send_response(status)
        length = {"Content-Length": str(end - at)} if self.hub.is_sized else {"Connection": "close"}
        for name, value in {**headers, **length}.items():
            self.send_header(name, value)
        self.end_headers()
        kind = fault.kind if fault else None
        breaks = kind in {Kind.STALL, Kind.RESET, Kind.TRUNCATE}
        stop = min(end, at + fault.after) if fault and breaks else end
        while at < stop and self.command == "GET":
            block = part(content, at, stop)
            if kind is Kind.FLIP and at == span[0]:
                block = flipped(block)
            self.hub.count(len(block))
            self.wfile.write(block)
            at += len(block)
        if kind is Kind.STALL:
            hang(self, self.hub.over)
        elif kind is Kind.RESET:
            reset(self)
        elif kind is Kind.TRUNCATE:
            self.close_connection = True

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


def blob_of(content: Content) -> str:
    """The identity that git gives a small file."""
    if isinstance(content, Made):
        return sha_of(content)[:40]
    head = f"blob {len(content)}\0".encode()
    return hashlib.sha1(head + content, usedforsecurity=False).hexdigest()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that left is none of the test's business."""


@contextlib.contextmanager
def hub_server(certificate: Certificate | None = None) -> Iterator[HubServer]:
    """A running hub; with a certificate it speaks https."""
    hub = HubServer()
    handler = type("_Bound", (_Handler,), {"hub": hub})
    with _Server(("127.0.0.1", 0), handler) as server:
        port = server.server_address[1]
        scheme = "https" if certificate else "http"
        if certificate:
            server.socket = certificate.serve.wrap_socket(server.socket, server_side=True)
        hub.endpoint, hub.store = f"{scheme}://127.0.0.1:{port}", f"{scheme}://localhost:{port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield hub
        finally:
            hub.over.set()
            server.shutdown()
            thread.join()
