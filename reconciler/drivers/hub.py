"""The Hugging Face hub: what a model stands for, and fetching it into the hub's cache layout.

In: a model, and its pin if it has one. Out: `ObservedFiles`; downloads (`drivers.fetch`).
What any tool already fetched into the store or HF_HUB_CACHE is found first, without a request.
The hub's own client is imported late: an offline plan of what is here must not pay for it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from reconciler.core.desired import Model
from reconciler.core.gguf import facts_of
from reconciler.core.lockfile import FileRole, LockedFile, Pin
from reconciler.core.observed import FileStatus, ObservedFile, ObservedFiles, is_other
from reconciler.core.plan import FetchFiles, VerifyFiles
from reconciler.core.present import human_bytes
from reconciler.core.quants import QuantError, choose, quant_sizes
from reconciler.drivers import effects
from reconciler.drivers.base import Cancel, Told
from reconciler.drivers.fetch.allowance import Allowance
from reconciler.drivers.fetch.head import read_head
from reconciler.drivers.fetch.order import Limits, Order, Remote
from reconciler.drivers.fetch.partial import is_here, journal_of
from reconciler.drivers.fetch.run import all_files
from reconciler.drivers.hub_cache import (
    COMMIT,
    commit_of,
    digest_of,
    header_of,
    identity_of,
    local_pin,
    names_in,
    observed_file,
    pinned_file,
    repo_folder,
    snapshot,
)
from reconciler.drivers.verified import Verified, judged
from reconciler.drivers.verifying import verify_unknown
from reconciler.errors import HubError

if TYPE_CHECKING:
    from reconciler.drivers.hub_client import HubClient


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
        offline: bool = False,
    ) -> None:
        self._store = store
        self.allowance = Allowance(limits or Limits())
        """What all downloads take together, whatever they come from."""
        self._caches = (store, *(cache for cache in caches if cache != store))
        self.verified = Verified()
        """What is known of bytes that lie on disk. Who keeps it between runs puts it here."""
        self._endpoint = endpoint
        self._token = token
        self.is_offline = offline

    def folder(self, repo: str) -> Path:
        """Where a repository lies in the store."""
        return repo_folder(self._store, repo)

    def fetched(self, repo: str, digest: str) -> Path:
        """Where the bytes with this hash come to lie."""
        return self.folder(repo) / "blobs" / digest

    def lying(self, repo: str, file: ObservedFile | LockedFile) -> Path | None:
        """Where the bytes of a file lie already, whatever commit they came with; None if nowhere.

        They are those of their name as far as anybody knows; who links to them verifies them.
        """
        for cache in self._caches:
            blob = repo_folder(cache, repo) / "blobs" / file.digest
            try:
                found = (
                    self.verified.hash_of(identity_of(blob)) if is_here(blob, file.size) else None
                )
            except OSError:
                if cache == self._store:
                    raise
                # A cache of others, which we may not look into, has nothing for us.
                continue
            if found is not None and not is_other(found, file.digest):
                return blob
        return None

    def inspect(self, model: Model, pin: Pin | None = None) -> ObservedFiles:
        """The files that a model stands for: here, to be fetched, or not to be found out.

        A pin that covers the model has said so once and for all; else it is found out: by what is
        here, then by the hub, at the pin's commit if only another quant is asked for.
        """
        if pin is not None and pin.covers(model):
            return self._pinned(pin)
        held = pin is not None and pin.holds_commit(model)
        revision = pin.commit if pin and held else model.source.revision
        return self._here(model, revision) or self._asked(model, revision)

    def latest(self, model: Model, pin: Pin | None) -> ObservedFiles:
        """What a model's revision is now, by the hub.

        A pin of the very same files stays, if they are here: nothing is restarted for a commit
        that changed something else.
        """
        found = self._asked(model, model.source.revision)
        if pin is None or found.pin is None or not pin.covers(model):
            return found
        if {*pin.files} != {*found.pin.files}:
            return found
        known = self._pinned(pin)
        if known.status is FileStatus.PRESENT:
            return known
        return replace(found, pin=replace(found.pin, facts=pin.facts))

    def _asked(self, model: Model, revision: str) -> ObservedFiles:
        repo = model.source.repo or ""
        try:
            commit, files = self._listing(repo, revision)
            pin = _pin(model, commit, files)
            _check_pin(pin)
            found = self._pinned(pin)
        except HubError as error:
            status = FileStatus.UNKNOWN if error.retryable else FileStatus.BAD
            return ObservedFiles(status, reason=f"{error.message}: {error.hint}")
        except QuantError as error:
            return ObservedFiles(FileStatus.BAD, reason=f"{repo}: {error}")
        return replace(found, quants=quant_sizes(_sizes(files)))

    def _listing(self, repo: str, revision: str) -> tuple[str, Mapping[str, LockedFile]]:
        if self.is_offline:
            raise HubError(
                f"hub repository {repo} is not asked, because of --offline",
                hint="what is in the lock file and on disk needs no hub; for this, leave it out",
            )
        return self._client().listing(repo, revision)

    def _pinned(self, pin: Pin) -> ObservedFiles:
        """How the files of a pin stand: all in one cache, or to be fetched into the store."""
        for cache in self._caches:
            folder = snapshot(cache, pin.repo, pin.commit)
            files = self._files(folder, pin)
            if all(file.is_here for file in files):
                known = pin if pin.facts else local_pin(pin, folder) or pin
                return _seen(FileStatus.PRESENT, folder, known, files)
        folder = snapshot(self._store, pin.repo, pin.commit)
        found = _seen(FileStatus.MISSING, folder, pin, self._files(folder, pin))
        lacking = [one for one in found.missing.values() if not self.lying(pin.repo, one)]
        if self.is_offline and lacking:
            size = human_bytes(sum(file.size for file in lacking))
            reason = (
                f"{size} of its files are not here, and --offline keeps them from being fetched"
            )
            return replace(found, status=FileStatus.UNKNOWN, reason=reason)
        return found

    def _files(self, folder: Path, pin: Pin) -> tuple[ObservedFile, ...]:
        return tuple(judged(pinned_file(folder, file), self.verified) for file in pin.files)

    def _here(self, model: Model, revision: str) -> ObservedFiles | None:
        """What any tool fetched: the files, and the pin that they make."""
        repo = model.source.repo or ""
        for cache in self._caches:
            commit = commit_of(cache, repo, revision)
            if not commit:
                continue
            folder = snapshot(cache, repo, commit)
            here = {one: observed_file(folder / one, one) for one in names_in(folder)}
            locked = {name: LockedFile(name, file.size) for name, file in here.items()}
            try:
                pin = _pin(model, commit, locked)
            except QuantError:
                continue
            files = tuple(self._found(folder, file.name) for file in pin.files)
            if any(file.wrong for file in files):
                continue
            found = _seen(FileStatus.PRESENT, folder, pin, files)
            return replace(found, pin=local_pin(pin, folder))
        return None

    def _found(self, folder: Path, name: str) -> ObservedFile:
        digest = digest_of(folder / name)
        return judged(replace(observed_file(folder / name, name), digest=digest), self.verified)

    def fetch(self, fetch: FetchFiles, progress: Told, cancel: Cancel) -> None:
        """Note the commit as the revision's, as the hub does, and download the missing files.

        What proves to lie here already, though nobody knows who hashed it, is hashed now.
        """
        repo, revision = fetch.source.repo or "", fetch.source.revision
        effects.sweep(self.folder(repo))
        for file in fetch.files:
            self.verified.make_room(self.fetched(repo, file.digest), file.digest)
        client = self._client()
        lying = {file: blob for file in fetch.files if (blob := self.lying(repo, file))}
        missing = (file for file in fetch.files if file not in lying)
        orders = [self._order(client, repo, fetch.commit, file) for file in missing]
        with client.translated(repo):
            # The links come last: who is killed before has files missing, and clears up.
            if not COMMIT.fullmatch(revision):
                ref = self.folder(repo) / "refs" / revision
                effects.make_folder(ref.parent, mode=0o755)
                effects.write_atomic(ref, fetch.commit, mode=0o644)
            for file, blob in lying.items():
                if blob == self.fetched(repo, file.digest):
                    # Its download may have been killed in its very end.
                    effects.unlink(journal_of(blob))
                self._link(self._place(repo, fetch.commit, file.name), blob)
            all_files(orders, self.allowance, progress, cancel)
        folder = snapshot(self._store, repo, fetch.commit)
        here = tuple(self._found(folder, file.name) for file in fetch.files)
        effect = VerifyFiles(fetch.model, str(folder), here)
        verify_unknown(effect, self.verified, progress, cancel)

    def learn(self, pin: Pin, cancel: Cancel) -> Pin:
        """The same pin with what its headers say; the bytes that were read are kept."""
        client = self._client()
        headers = []
        for file in pin.files:
            if file.role is not FileRole.WEIGHTS:
                continue
            blob = self.lying(pin.repo, file)
            header = header_of(blob) if blob else None
            if header is None:
                order = self._order(client, pin.repo, pin.commit, file)
                with client.translated(pin.repo):
                    header = read_head(order, self.allowance, cancel)
            headers.append(header)
        return replace(pin, facts=facts_of(one for one in headers if one))

    def _order(
        self, client: HubClient, repo: str, commit: str, file: ObservedFile | LockedFile
    ) -> Order:
        where = f"hub repository {repo}"
        link = self._place(repo, commit, file.name)

        def locate() -> Remote:
            remote = client.locate(repo, file.name, commit)
            if file.digest not in {"", remote.digest}:
                raise HubError(
                    f"{where}: {file.name} has other bytes at this very commit than the lock "
                    f"file says: its {remote.kind} is {remote.digest}, not {file.digest}",
                    hint="do not trust this hub; with the right one (HF_ENDPOINT) apply again",
                    retryable=False,
                )
            return remote

        def arrived(blob: Path, hashed: str) -> None:
            self.verified.arrived(blob, hashed)
            self._link(link, blob)

        blobs = self.fetched(repo, "")
        return Order(where, file.name, file.size, blobs, locate, arrived)

    def _place(self, repo: str, commit: str, name: str) -> Path:
        """Where a file's link is, or will be. Raises HubError, as `_check_name`."""
        _check_name(f"hub repository {repo}", name)
        return snapshot(self._store, repo, commit) / name

    def _link(self, link: Path, blob: Path) -> None:
        is_ours = blob.is_relative_to(self._store)
        target = os.path.relpath(blob, link.parent) if is_ours else blob.absolute()
        effects.make_folder(link.parent, mode=0o755)
        effects.swap_link(link, str(target))

    def _client(self) -> HubClient:
        from reconciler.drivers.hub_client import HubClient  # noqa: PLC0415 - it costs 0.2 s

        return HubClient(self._endpoint, self._token)


def _pin(model: Model, commit: str, files: Mapping[str, LockedFile]) -> Pin:
    """The pin of a model at a commit that has these files."""
    source = model.source
    chosen = choose(_sizes(files), model)
    return Pin(
        repo=source.repo or "",
        revision=source.revision,
        quant=model.quant or "",
        commit=commit,
        files=tuple(replace(files[name], role=role) for name, role in chosen),
        mmproj=source.mmproj,
        draft=source.draft or "",
    )


def _sizes(files: Mapping[str, LockedFile]) -> dict[str, int]:
    return {name: file.size for name, file in files.items()}


def _check_name(where: str, name: str) -> None:
    """A file's name is part of a path here.

    Raises:
        HubError: it leads out of its repository.
    """
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise HubError(
            f"{where} has a file with a path that leads out: {name}",
            hint="do not use this repository",
            retryable=False,
        )


def _check_pin(pin: Pin) -> None:
    """What is written down must hold for good.

    Raises:
        HubError: the hub does not say what a file's bytes are, or where it lies.
    """
    where = f"hub repository {pin.repo}"
    for file in pin.files:
        _check_name(where, file.name)
        if not file.digest:
            raise HubError(
                f"{where}: its hub does not say the size and hash of {file.name}",
                hint="without them nothing can be verified: use another HF_ENDPOINT",
                retryable=False,
            )
    if not COMMIT.fullmatch(pin.commit):
        raise HubError(
            f"{where}: its hub does not say which commit {pin.revision} is",
            hint="without it nothing can be pinned: use another HF_ENDPOINT",
            retryable=False,
        )


_FLAGS = {FileRole.MMPROJ: "mmproj", FileRole.DRAFT: "model-draft"}
"""How an engine is given the files that are no weights."""


def _seen(
    status: FileStatus, folder: Path, pin: Pin, files: tuple[ObservedFile, ...]
) -> ObservedFiles:
    first = pin.files[0].name
    # Of a draft in shards the first is given; `dict` keeps the last of a key.
    others = {_FLAGS[one.role]: one.name for one in reversed(pin.files) if one.role in _FLAGS}
    also = "".join(f"+{flag}={name}" for flag, name in sorted(others.items()))
    return ObservedFiles(
        status,
        path=str(folder / first),
        spec_id=f"{pin.repo}@{pin.commit}/{first}{also}",
        files=files,
        commit=pin.commit,
        companions={flag: str(folder / name) for flag, name in others.items()},
        pin=pin,
    )
