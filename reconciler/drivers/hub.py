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
from reconciler.errors import HubError

_COMMIT = re.compile(r"[0-9a-f]{40}")


class Hub:
    """Looks and fetches; `store` is where new files go."""

    def __init__(self, store: str, caches: tuple[str, ...]) -> None:
        self._store = store
        self._caches = (store, *(cache for cache in caches if cache != store))

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
            return ObservedFiles(FileStatus.UNKNOWN, reason=error.message)
        except QuantError as error:
            return ObservedFiles(FileStatus.BAD, reason=f"{repo}: {error}")

    def _ask(self, repo: str, revision: str, quant: str) -> ObservedFiles:
        from huggingface_hub import HfApi  # noqa: PLC0415 - 0.2 s that an offline plan need not pay

        with _translated(repo):
            info = HfApi().model_info(repo, revision=revision, files_metadata=True, timeout=20)
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
                raise HubError(f"the download of {fetch.repo} was interrupted")
            with _translated(fetch.repo):
                hf_hub_download(fetch.repo, file.name, revision=fetch.commit, cache_dir=self._store)
            done += file.size
        progress(done, total)
        if not _COMMIT.fullmatch(fetch.revision):
            ref = _folder(self._store, fetch.repo) / "refs" / fetch.revision
            effects.make_folder(ref.parent, mode=0o755)
            effects.write_atomic(ref, fetch.commit, mode=0o644)


class _translated:  # noqa: N801 - reads as a phrase: `with _translated(repo):`
    """Turn what the client raises into a `HubError` that says what to do."""

    def __init__(self, repo: str) -> None:
        self._repo = repo

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        from huggingface_hub import errors  # noqa: PLC0415 - see above

        # The client lets its HTTP library's errors through; it names their base, unexported.
        network_error = errors.HTTPError  # type: ignore[attr-defined]
        if error is None or not isinstance(error, OSError | network_error | ValueError):
            return
        said, final = "cannot be reached", False
        hint = "check the network, HF_ENDPOINT and the proxy"
        if isinstance(error, errors.GatedRepoError):
            said, final = "is gated", True
            hint = "accept its terms on its page, then set HF_TOKEN or run `hf auth login`"
        elif isinstance(error, errors.RevisionNotFoundError):
            said, final, hint = "has no such revision", True, "check `source.revision`"
        elif isinstance(error, errors.RepositoryNotFoundError):
            said, final = "does not exist, or is private", True
            hint = "check `source.repo`; for a private one set HF_TOKEN"
        elif isinstance(error, errors.EntryNotFoundError):
            said, final, hint = "no longer has that file", True, "check `quant`"
        message = f"hub repository {self._repo} {said} ({type(error).__name__}): {hint}"
        raise HubError(message, hint=hint, retryable=not final) from error


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
