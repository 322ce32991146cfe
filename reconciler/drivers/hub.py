"""The Hugging Face hub, through its own client: what a repository has, and fetching it.

In: a repository, a revision, a quant. Out: `ObservedFiles`; downloads in the hub's cache layout.
What any tool already fetched into the store or HF_HUB_CACHE is found first, without a request.
Imports of the client are late: an offline plan of what is here must not pay for it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from reconciler.core.observed import FileStatus, ObservedFile, ObservedFiles
from reconciler.core.plan import FetchFiles
from reconciler.core.resolve import QuantError, pick_files
from reconciler.drivers import effects
from reconciler.drivers.base import Cancel
from reconciler.errors import HubError, InterruptedRunError

_COMMIT = re.compile(r"[0-9a-f]{40}")


class Hub:
    """Looks and fetches; `store` is where new files go.

    Without an endpoint or a token the client looks for them as its other users know it.
    """

    def __init__(
        self,
        store: str,
        caches: tuple[str, ...],
        *,
        endpoint: str | None = None,
        token: str | None = None,
    ) -> None:
        self._store = store
        self._caches = (store, *(cache for cache in caches if cache != store))
        self._endpoint = endpoint
        self._token = token

    def inspect(self, repo: str, revision: str, quant: str) -> ObservedFiles:
        """The files that a quant stands for: here, to be fetched, or not to be found out."""
        pinned = ""
        for cache in self._caches:
            commit = _commit_of(cache, repo, revision)
            pinned = pinned or commit
            found = _in_snapshot(cache, repo, commit, quant) if commit else None
            if found:
                return found
        try:
            return self._ask(repo, pinned or revision, quant)
        except HubError as error:
            status = FileStatus.UNKNOWN if error.retryable else FileStatus.BAD
            return ObservedFiles(status, reason=f"{error.message}: {error.hint}")
        except QuantError as error:
            return ObservedFiles(FileStatus.BAD, reason=f"{repo}: {error}")

    def _ask(self, repo: str, revision: str, quant: str) -> ObservedFiles:
        from huggingface_hub import HfApi  # noqa: PLC0415 - 0.2 s that an offline plan need not pay

        api = HfApi(endpoint=self._endpoint, token=self._token)
        with _translated(repo):
            info = api.model_info(repo, revision=revision, files_metadata=True, timeout=20)
        sizes = {one.rfilename: one.size or 0 for one in info.siblings or ()}
        names = pick_files(sizes, quant)
        commit = info.sha or revision
        return ObservedFiles(
            FileStatus.MISSING,
            path=str(_snapshot(self._store, repo, commit) / names[0]),
            spec_id=f"{repo}@{commit}/{names[0]}",
            files=tuple(ObservedFile(name, sizes[name]) for name in names),
            commit=commit,
        )

    def fetch(
        self, fetch: FetchFiles, progress: Callable[[int, int], None], cancel: Cancel
    ) -> None:
        """Download the missing files; then note the commit as the revision's, as the hub does."""
        from huggingface_hub import hf_hub_download  # noqa: PLC0415 - see above
        from huggingface_hub.utils.tqdm import disable_progress_bars  # noqa: PLC0415 - see above

        disable_progress_bars()
        total = sum(file.size for file in fetch.files)
        done = 0
        for file in fetch.files:
            progress(done, total)
            if cancel.is_set():
                raise InterruptedRunError(f"interrupted while downloading from {fetch.repo}")
            with _translated(fetch.repo):
                hf_hub_download(
                    fetch.repo,
                    file.name,
                    revision=fetch.commit,
                    cache_dir=self._store,
                    endpoint=self._endpoint,
                    token=self._token,
                )
            done += file.size
        progress(done, total)
        if not _COMMIT.fullmatch(fetch.revision):
            ref = _folder(self._store, fetch.repo) / "refs" / fetch.revision
            effects.make_folder(ref.parent, mode=0o755)
            effects.sweep(ref.parent)
            effects.write_atomic(ref, fetch.commit, mode=0o644)


class _translated:  # noqa: N801 - reads as a phrase: `with _translated(repo):`
    """Turn what the client raises into a `HubError` that says what to do."""

    def __init__(self, repo: str) -> None:
        self._repo = repo

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        from huggingface_hub import errors  # noqa: PLC0415 - see above

        # Its transport's errors (httpx or httpx2, by version) come through: a base of its own.
        raised = (ValueError, *errors.HfHubHTTPError.__bases__)
        if error is not None and isinstance(error, raised):
            said, hint, final = _meaning(error)
            message = f"hub repository {self._repo} {said}"
            raise HubError(message, hint=hint, retryable=not final) from error


def _meaning(error: BaseException) -> tuple[str, str, bool]:
    """What the client's error says of a repository, what to do now, and whether that is final."""
    from huggingface_hub import errors  # noqa: PLC0415 - see above

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
        return f"cannot be stored: {error}", "make room, or correct the folder's rights", False
    hint = "check the network, HF_ENDPOINT and the proxy"
    return f"cannot be reached ({type(error).__name__})", hint, False


def _folder(cache: str, repo: str) -> Path:
    return Path(cache) / f"models--{repo.replace('/', '--')}"


def _snapshot(cache: str, repo: str, commit: str) -> Path:
    return _folder(cache, repo) / "snapshots" / commit


def _commit_of(cache: str, repo: str, revision: str) -> str:
    if _COMMIT.fullmatch(revision):
        return revision
    try:
        return (_folder(cache, repo) / "refs" / revision).read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _in_snapshot(cache: str, repo: str, commit: str, quant: str) -> ObservedFiles | None:
    folder = _snapshot(cache, repo, commit)
    try:
        names = pick_files(_names_in(folder), quant)
    except QuantError:
        return None
    files = tuple(observed_file(folder / name, name) for name in names)
    return ObservedFiles(
        FileStatus.PRESENT,
        path=str(folder / names[0]),
        spec_id=f"{repo}@{commit}/{names[0]}",
        files=files,
        commit=commit,
    )


def _names_in(folder: Path) -> Iterator[str]:
    for path in folder.rglob("*"):
        if path.is_file():
            yield path.relative_to(folder).as_posix()


def observed_file(path: Path, name: str) -> ObservedFile:
    """A file that is here, with its identity.

    Raises:
        OSError: it is not.
    """
    seen = os.stat(path)  # noqa: PTH116 - symlinks of the hub's cache are followed on purpose
    identity = f"{seen.st_dev:x}:{seen.st_ino}:{seen.st_size}:{seen.st_mtime_ns}"
    return ObservedFile(name, seen.st_size, identity)
