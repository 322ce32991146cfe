"""Files from plain URLs, each with its sha256: how they stand, and fetching them.

In: a `source.url`. Out: `ObservedFiles`; downloads (`drivers.fetch`). In the store a file is called
by its hash: the same bytes are the same file, whatever URL they came from. What is here needs no
request; of what is not, its server is asked for the size. No secret is ever sent.
"""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path

import reconciler
from reconciler.core.addresses import file_name
from reconciler.core.desired import Source
from reconciler.core.observed import FileStatus, ObservedFile, ObservedFiles
from reconciler.core.plan import FetchFiles, VerifyFiles
from reconciler.core.present import human_bytes
from reconciler.core.stored import URLS
from reconciler.drivers import effects
from reconciler.drivers.base import Cancel, Told
from reconciler.drivers.fetch.allowance import Allowance
from reconciler.drivers.fetch.connections import Connections
from reconciler.drivers.fetch.order import HashKind, Hints, Order, Remote
from reconciler.drivers.fetch.partial import is_here, journal_of
from reconciler.drivers.fetch.run import all_files, tls_context
from reconciler.drivers.fetch.wire import locate
from reconciler.drivers.hub_cache import observed_file
from reconciler.drivers.verified import Verified, judged
from reconciler.drivers.verifying import verify_unknown
from reconciler.errors import HubError

_HEADERS = {"User-Agent": f"llm-reconcile/{reconciler.__version__}"}
_HINTS = Hints(
    denied="where a login is needed, fetch the file yourself and use `source.path`",
    gone="check `source.url`",
    unreached="check `source.url`, the network and the proxy",
    wrong="if the file at this URL is another one now that you trust, change `source.sha256`",
)


class UrlFiles:
    """Looks and fetches; what they take together with others is `allowance`."""

    def __init__(
        self, store: str, allowance: Allowance, verified: Verified, *, offline: bool
    ) -> None:
        self.folder = Path(store, URLS)
        """Where they lie in the store."""
        self._allowance = allowance
        self._verified = verified
        self._is_offline = offline

    def fetched(self, digest: str) -> Path:
        """Where the bytes with this hash come to lie."""
        return self.folder / "blobs" / digest

    def inspect(self, source: Source) -> ObservedFiles:
        """The file: here, to be fetched, or not to be had."""
        digest = source.sha256 or ""
        path = self.fetched(digest)
        file = ObservedFile(digest, 0, digest=digest)
        with contextlib.suppress(OSError):
            file = judged(replace(observed_file(path, digest), digest=digest), self._verified)
        found = ObservedFiles(FileStatus.PRESENT, str(path), "url", (file,))
        if not file.is_here:
            return self._asked(source, found)
        if journal_of(path).exists():
            # Its download was killed in its very end, and is brought to it at no cost.
            unnamed = replace(file, identity="")
            return replace(found, status=FileStatus.MISSING, files=(unnamed,))
        return found

    def doubted(self, source: Source, found: ObservedFiles) -> ObservedFiles | None:
        """The same file as one to be fetched anew; None where its bytes are known to be right."""
        [file] = found.files
        if self._verified.hash_of(file.identity) == file.digest:
            return None
        return self._asked(source, replace(found, files=(replace(file, identity=""),)))

    def _asked(self, source: Source, lacking: ObservedFiles) -> ObservedFiles:
        """What its server says of a file that is not here, or has wrong bytes."""
        lacking = replace(lacking, status=FileStatus.UNKNOWN)
        if self._is_offline:
            reason = f"{source.place} is not here, and --offline keeps it from being fetched"
            return replace(lacking, reason=reason, files=_if_here(lacking.files))
        try:
            size = self._located(source).size
        except HubError as error:
            status = FileStatus.UNKNOWN if error.retryable else FileStatus.BAD
            reason = f"{error.message}: {error.hint}"
            return replace(lacking, status=status, reason=reason, files=_if_here(lacking.files))
        files = tuple(replace(one, size=size) for one in lacking.files)
        return replace(lacking, status=FileStatus.MISSING, files=files)

    def _located(self, source: Source) -> Remote:
        asked = Remote(source.url or "", 0, HashKind.SHA256, source.sha256 or "", _HEADERS, _HINTS)
        with Connections(self._allowance.limits, tls_context) as connections:
            return locate(connections, source.place, asked)

    def fetch(self, fetch: FetchFiles, progress: Told, cancel: Cancel) -> None:
        """Download it. What lies here already is hashed, if nobody did."""
        source, [file] = fetch.source, fetch.files
        path = self.fetched(file.digest)

        def located() -> Remote:
            found = self._located(source)
            if found.size != file.size:
                # Room was looked for: not for this.
                raise HubError(
                    f"{source.place} has {human_bytes(found.size)} now, not "
                    f"{human_bytes(file.size)} as when this was planned",
                    hint="plan again",
                    retryable=False,
                )
            return found

        effects.sweep(self.folder)
        self._verified.make_room(path, file.digest)
        order = Order(
            source.place,
            file_name(source.url or ""),
            file.size,
            path.parent,
            located,
            self._verified.arrived,
        )
        if is_here(path, file.size):
            effects.unlink(journal_of(path))
        else:
            all_files([order], self._allowance, progress, cancel)
        here = replace(observed_file(path, file.digest), digest=file.digest)
        effect = VerifyFiles(fetch.model, str(path.parent), (here,))
        verify_unknown(effect, self._verified, progress, cancel)


def _if_here(files: tuple[ObservedFile, ...]) -> tuple[ObservedFile, ...]:
    """Of a file that nobody tells the size of, what lies here counts alone."""
    return tuple(one for one in files if one.identity)
