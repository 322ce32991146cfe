"""The hub's own client: listing, what a file is and where its bytes are, tokens, errors.

In: a repository, a commit, a file. Out: sizes, `Remote`s, or a `HubError` that says what to do.
Only its words are the client's; the bytes come by `drivers.fetch`. Importing this takes 0.2 s.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import AbstractContextManager
from urllib.parse import urlsplit

from huggingface_hub import HfApi, constants, errors, get_hf_file_metadata, hf_hub_url
from huggingface_hub.hf_api import RepoSibling
from huggingface_hub.utils._headers import build_hf_headers

from reconciler.core.lockfile import LockedFile
from reconciler.core.os_errors import explain_os
from reconciler.drivers.fetch.order import HashKind, Remote
from reconciler.drivers.fetch.proxies import check_all, proxy_for
from reconciler.errors import HubError

_KINDS = {64: HashKind.SHA256, 40: HashKind.GIT}
_HASH = re.compile(r"[0-9a-f]+")
PATIENCE_S = 20.0


class HubClient:
    """One hub, asked by one user.

    Without an endpoint or a token the client looks for them as its other users know it.
    """

    def __init__(self, endpoint: str | None, token: str | None) -> None:
        self._endpoint = endpoint
        self._token = token

    def listing(self, repo: str, revision: str) -> tuple[str, Mapping[str, LockedFile]]:
        """The commit of a revision, and its files by name.

        Raises:
            HubError: it cannot be read.
        """
        api = HfApi(endpoint=self._endpoint, token=self._token)
        with self.translated(repo):
            _check_proxies(self._endpoint or constants.ENDPOINT)
            info = api.model_info(repo, revision=revision, files_metadata=True, timeout=PATIENCE_S)
        files = (_locked(one) for one in info.siblings or ())
        return info.sha or revision, {file.name: file for file in files}

    def locate(self, repo: str, name: str, commit: str) -> Remote:
        """Where a file's bytes are, and which they must be.

        Raises:
            HubError: it cannot be read, or its hub does not say its hash.
        """
        url = hf_hub_url(repo, name, revision=commit, endpoint=self._endpoint)
        with self.translated(repo):
            _check_proxies(url)
            found = get_hf_file_metadata(
                url, token=self._token, timeout=PATIENCE_S, endpoint=self._endpoint
            )
        digest = found.etag or ""
        kind = _KINDS.get(len(digest))
        if kind is None or found.size is None or not _HASH.fullmatch(digest):
            raise HubError(
                f"hub repository {repo}: its hub does not say the size and hash of {name}",
                hint="without them nothing can be verified: use another HF_ENDPOINT",
                retryable=False,
            )
        is_ours = _origin(found.location) == _origin(url)
        headers = build_hf_headers(token=self._token if is_ours else False)
        return Remote(found.location, found.size, kind, digest, headers)

    def translated(self, repo: str) -> AbstractContextManager[None]:
        """Turn what the client raises inside into a `HubError` that says what to do."""
        return _Translated(repo)


def _locked(file: RepoSibling) -> LockedFile:
    """A file of a listing; without a hash where the hub does not say what its bytes are."""
    sha256 = file.lfs.sha256 if file.lfs else ""
    git_sha1 = "" if file.lfs else file.blob_id or ""
    digest = sha256 or git_sha1
    is_known = file.size is not None and _HASH.fullmatch(digest) and len(digest) in _KINDS
    if not is_known:
        return LockedFile(file.rfilename, file.size or 0)
    return LockedFile(file.rfilename, file.size or 0, sha256=sha256, git_sha1=git_sha1)


def _check_proxies(url: str) -> None:
    """Say before anything is asked what the client would call a defect, and downloads refuse."""
    check_all()
    parts = urlsplit(url)
    proxy_for(parts.scheme, parts.hostname or "", parts.port or 443)


def _origin(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme, parts.netloc


class _Translated:
    """Turn what the client raises into a `HubError` that says what to do."""

    def __init__(self, repo: str) -> None:
        self._repo = repo

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        # Its transport's errors (httpx or httpx2, by version) come through: a base of its own.
        raised = (ValueError, *errors.HfHubHTTPError.__bases__)
        if error is not None and isinstance(error, raised):
            said, hint, final = _meaning(error)
            message = f"hub repository {self._repo} {said}"
            asked = _asked_pause(error)
            raise HubError(message, hint=hint, retryable=not final, asked_pause=asked) from error


def _asked_pause(error: BaseException) -> str:
    if isinstance(error, errors.HfHubHTTPError):
        return str(error.response.headers.get("Retry-After", ""))
    return ""


def _meaning(error: BaseException) -> tuple[str, str, bool]:
    """What the client's error says of a repository, what to do now, and whether that is final."""
    known: tuple[tuple[type[Exception], str, str], ...] = (
        (
            errors.GatedRepoError,
            "is gated",
            "accept its terms on its page, then set HF_TOKEN or run `hf auth login`",
        ),
        (errors.RevisionNotFoundError, "has no such revision", "check `source.revision`"),
        (
            errors.RepositoryNotFoundError,
            "does not exist, or is private",
            "check `source.repo`; for a private one set HF_TOKEN",
        ),
        (errors.RemoteEntryNotFoundError, "no longer has that file", "check `quant`"),
        (errors.OfflineModeIsEnabled, "may not be asked", "unset HF_HUB_OFFLINE"),
    )
    for kind, said, hint in known:
        if isinstance(error, kind):
            return said, hint, True
    if isinstance(error, errors.LocalEntryNotFoundError) and error.__cause__ is not None:
        # "Not found here" after the hub could not be asked: what happened there is the cause.
        return _meaning(error.__cause__)
    if isinstance(error, errors.HfHubHTTPError):
        status = error.response.status_code
        if status in {401, 403}:
            return f"refuses us (HTTP {status})", "check HF_TOKEN, or run `hf auth login`", True
        return f"cannot be read: its hub answered HTTP {status}", "try again later", False
    if isinstance(error, OSError) and error.errno is not None:
        said, hint = explain_os(error)
        return f"cannot be stored: {said}", hint, False
    hint = "check the network, HF_ENDPOINT and the proxy"
    return f"cannot be reached ({type(error).__name__})", hint, False
