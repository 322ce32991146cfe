"""The Hugging Face hub: what a repository has, and fetching it into the hub's cache layout.

In: a repository, a revision, a quant. Out: `ObservedFiles`; downloads (`drivers.fetch`).
What any tool already fetched into the store or HF_HUB_CACHE is found first, without a request.
The hub's own client is imported late: an offline plan of what is here must not pay for it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from reconciler.core.observed import FileStatus, ObservedFile, ObservedFiles
from reconciler.core.plan import FetchFiles
from reconciler.core.resolve import QuantError, pick_files
from reconciler.drivers import effects
from reconciler.drivers.base import Cancel, Told
from reconciler.drivers.fetch.allowance import Allowance
from reconciler.drivers.fetch.order import Limits, Order
from reconciler.errors import HubError

if TYPE_CHECKING:
    from reconciler.drivers.hub_client import HubClient

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
        limits: Limits | None = None,
    ) -> None:
        self._store = store
        self._allowance = Allowance(limits or Limits())
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
        commit, sizes = self._client().listing(repo, revision)
        names = pick_files(sizes, quant)
        return ObservedFiles(
            FileStatus.MISSING,
            path=str(_snapshot(self._store, repo, commit) / names[0]),
            spec_id=f"{repo}@{commit}/{names[0]}",
            files=tuple(ObservedFile(name, sizes[name]) for name in names),
            commit=commit,
        )

    def fetch(self, fetch: FetchFiles, progress: Told, cancel: Cancel) -> None:
        """Download the missing files; then note the commit as the revision's, as the hub does."""
        from reconciler.drivers.fetch.run import all_files  # noqa: PLC0415 - it costs 0.05 s

        effects.sweep(_folder(self._store, fetch.repo))
        client = self._client()
        orders = [self._order(client, fetch, file) for file in fetch.files]
        with client.translated(fetch.repo):
            all_files(orders, self._allowance, progress, cancel)
            if not _COMMIT.fullmatch(fetch.revision):
                ref = _folder(self._store, fetch.repo) / "refs" / fetch.revision
                effects.make_folder(ref.parent, mode=0o755)
                effects.write_atomic(ref, fetch.commit, mode=0o644)

    def _order(self, client: HubClient, fetch: FetchFiles, file: ObservedFile) -> Order:
        if not _stays_inside(file.name):
            raise HubError(
                f"hub repository {fetch.repo} has a file with a path that leads out: {file.name}",
                hint="do not use this repository",
                retryable=False,
            )
        link = _snapshot(self._store, fetch.repo, fetch.commit) / file.name

        def arrived(blob: Path) -> None:
            target = os.path.relpath(blob, link.parent)
            effects.make_folder(link.parent, mode=0o755)
            effects.swap_link(link, target)

        return Order(
            where=f"hub repository {fetch.repo}",
            name=file.name,
            size=file.size,
            folder=_folder(self._store, fetch.repo) / "blobs",
            locate=lambda: client.locate(fetch.repo, file.name, fetch.commit),
            arrived=arrived,
        )

    def _client(self) -> HubClient:
        from reconciler.drivers.hub_client import HubClient  # noqa: PLC0415 - it costs 0.2 s

        return HubClient(self._endpoint, self._token)


def _stays_inside(name: str) -> bool:
    return not Path(name).is_absolute() and ".." not in Path(name).parts


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
