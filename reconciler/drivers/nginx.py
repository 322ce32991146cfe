"""The nginx of one root: observed, started, reloaded, restarted, stopped.

In: rendered configurations and the master that was observed. Out: what nginx runs, or GatewayError.
The last good generation stays in place until a new one answers. Who is nginx of ours is for
`nginx_process` to say.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from reconciler.core.gateway_view import live_file
from reconciler.core.observed import ObservedGateway, ProcessRef
from reconciler.core.outline import OUTLINE_FILE, read_outline
from reconciler.core.plan import ApplyGateway, RenderedGateway, StopGateway
from reconciler.core.site import Site
from reconciler.core.words import Generation
from reconciler.drivers import effects, locks, proc
from reconciler.drivers.base import Cancel, Clock
from reconciler.drivers.clock import SystemClock
from reconciler.drivers.nginx_process import (
    GENERATION,
    Holders,
    ask_generation,
    find_program,
    holders_of,
)
from reconciler.errors import GatewayError, InterruptedRunError

CONFIRM_S = 10.0
"""How long a new configuration may take until it answers; nginx tries to bind for 2.5 s."""
CHECK_S = 30.0
END_S = 2.0
LOG_LIMIT_BYTES = 50 * 2**20
"""A larger log of nginx is set aside; some 400,000 requests."""
POLL_S = 0.02
LARGEST_OUTLINE = 16 * 2**20
"""Of many thousand keys."""
_EMERGENCY = re.compile(r"\[emerg\](?: \d+#\d+:)? (.*)")
_BIND = re.compile(r"bind\(\) to (\S+) failed \(\d+: ([^)]*)\)")

_children: list[subprocess.Popen[bytes]] = []
"""The masters that this process started: kept, so that they are reaped and never warned about."""


class NginxGateway:
    """`GatewayDriver` over a real nginx."""

    def __init__(self, site: Site, clock: Clock | None = None) -> None:
        self._site = site
        self._clock = clock or SystemClock()
        self._folder = Path(site.gateway)
        self._current = self._folder / "current"
        self._access_log = self._folder / "logs" / "access.log"
        self._error_log = self._folder / "logs" / "error.log"

    # ---- looking

    def locate(self, wanted: str) -> tuple[tuple[str, ...], str]:
        """Find nginx: how it is started, or () and what was tried."""
        return find_program(wanted, self._site.root)

    def observe(self) -> ObservedGateway:
        """Who holds the gateway lock, and what the running nginx answers for itself."""
        holders = self._holders()
        since = proc.started_at(holders.master, self._clock.now()) if holders.master else 0.0
        asked = holders.master or holders.orphans
        generation = self._patient_generation() if asked else None
        kept = self._folder / generation / OUTLINE_FILE if generation else None
        return ObservedGateway(
            master=holders.master,
            orphans=holders.orphans,
            generation=generation,
            since=since,
            outline=read_outline(_tail(kept, limit=LARGEST_OUTLINE)) if kept else None,
        )

    def _patient_generation(self) -> Generation | None:
        """One silent second proves nothing; a restart that it led to would cut every stream."""
        deadline = self._clock.monotonic() + CONFIRM_S
        while (found := self.live_generation()) is None:
            if self._clock.monotonic() >= deadline or not self._holders().master:
                return None
            time.sleep(POLL_S)
        return found

    def live_generation(self, timeout: float = 1.0) -> Generation | None:
        """Ask the running nginx for its generation; None without an answer in time."""
        return ask_generation(self._site.control_socket, timeout)

    def _holders(self) -> Holders:
        _reap()
        return holders_of(self._site.gateway_lock)

    # ---- acting

    def apply(self, effect: ApplyGateway, cancel: Cancel) -> None:
        """Test, swap, start or reload, confirm; on failure the last good one serves on.

        Raises:
            GatewayError: nginx rejected the configuration or did not take it.
        """
        for folder in ("", "logs", "temp"):
            effects.make_folder(self._folder / folder)
        effects.make_folder(self._site.sockets)
        if effect.nginx and not os.access(effect.nginx[0], os.X_OK):
            effects.make_executable(effect.nginx[0])
        self._write(effect.rendered)
        if effect.master or effect.orphans:
            # Where nothing serves there is nothing to spare: there the start is the test.
            self._check(effect, cancel)
        previous, wanted = self._current_target(), effect.rendered.generation
        effects.swap_link(self._current, wanted)
        try:
            if effect.master is None or not proc.lives(effect.master):
                self._start(effect, wanted, cancel)
            elif effect.restart_grace_s is None:
                self._reload(effect.master, wanted, cancel)
            else:
                self.stop(StopGateway(effect.master, (), effect.restart_grace_s), cancel)
                self._start(effect, wanted, cancel)
        except (GatewayError, OSError):
            with contextlib.suppress(OSError):
                self._back_to(previous, effect, cancel)
            raise
        self._prune({wanted, previous})

    def stop(self, effect: StopGateway, cancel: Cancel) -> None:
        """End master and workers: QUIT, which lets requests finish, then TERM, then KILL."""
        known = {*self._holders().all, *effect.orphans}
        known |= {effect.master} if effect.master else set()
        for process in (effect.master, *effect.orphans):
            if process is not None:
                effects.send(process, signal.SIGQUIT, proc.lives)
        self._await(lambda: not self._left(known), effect.grace_s, cancel)
        if cancel.is_set():
            raise InterruptedRunError("interrupted while nginx was stopping; it goes on to stop")
        self._end(self._left(known), cancel)
        # A master that had to be killed may have left workers that were not known before.
        self._end(self._left(known), cancel)
        if left := self._left(known):
            raise GatewayError(f"nginx (pid {left[0].pid}) does not end, even by KILL")
        effects.unlink(self._site.control_socket)

    def publish(self, instances: Mapping[str, Mapping[str, object]]) -> None:
        """Write what /api/models adds to the live phases: since, size, reason by instance.

        A size that is None was not looked at this time: the last one stays.
        """
        path = Path(live_file(self._site))
        sizes = _sizes(path)
        whole = {
            name: {**note, "size_bytes": sizes.get(name)}
            if note.get("size_bytes", 0) is None
            else note
            for name, note in instances.items()
        }
        text = json.dumps(whole, sort_keys=True) + "\n"
        if _tail(path, limit=len(text) + 1) != text:
            effects.make_folder(path.parent)
            effects.write_atomic(path, text)
        self.turn_logs()

    def turn_logs(self) -> None:
        """Set full logs aside as NAME.1, and let nginx open new ones.

        One that is not there was set aside by a run that was killed before it told nginx.
        """
        logs = (self._access_log, self._error_log)
        full = [log for log in logs if _size(log) > LOG_LIMIT_BYTES]
        is_due = full or not all(log.exists() for log in logs)
        if is_due and (master := self._holders().master):
            for log in full:
                effects.rename(log, f"{log}.1")
            effects.send(master, signal.SIGUSR1, proc.lives)

    def _write(self, rendered: RenderedGateway) -> None:
        folder = self._folder / rendered.generation
        if not folder.is_dir():
            effects.write_folder(folder, rendered.files)
        # What is there is right by its name, unless somebody else wrote into it.
        for name, text in sorted(rendered.files.items()):
            if _tail(folder / name, limit=len(text.encode()) + 1) != text:
                effects.make_folder((folder / name).parent)
                effects.write_atomic(folder / name, text)

    def _check(self, effect: ApplyGateway, cancel: Cancel) -> None:
        """Let nginx test the candidate; the generation that runs is not touched by it."""
        config = f"{effect.rendered.generation}/nginx.conf"
        code, said = self._run((*self._command(effect, config), "-t"), "check.log", cancel)
        if code is None:
            raise GatewayError(f"nginx -t did not end within {CHECK_S:.0f} s")
        if code != 0:
            raise self._rejected(effect.rendered.generation, said)

    def _rejected(self, generation: Generation, said: str) -> GatewayError:
        return GatewayError(
            f"nginx rejected its configuration: {_reason(said)}",
            hint=f"The rendered files lie in {self._folder / generation}; what ran before runs on.",
            retryable=False,
        )

    def _run(self, argv: tuple[str, ...], log: str, cancel: Cancel) -> tuple[int | None, str]:
        path = self._folder / "logs" / log
        effects.unlink(path)
        child = effects.spawn(
            argv, env=_environment(), cwd=str(self._folder), log=str(path), keep=()
        )
        self._await(lambda: child.poll() is not None, CHECK_S, cancel)
        if child.poll() is None:
            child.kill()
            child.wait()
            if cancel.is_set():
                raise InterruptedRunError("interrupted while nginx tested its configuration")
            return None, ""
        return child.returncode, _tail(path)

    def _command(self, effect: ApplyGateway, config: str) -> tuple[str, ...]:
        # As root nginx's default user could not reach the sockets. As anyone else the directive
        # is only warned about, so it is left out: and out of the rendered text in both cases.
        user = ("-g", "user root;") if os.geteuid() == 0 else ()
        log = str(self._error_log)
        return (*effect.nginx, "-p", str(self._folder), "-c", config, "-e", log, *user)

    def _start(self, effect: ApplyGateway, wanted: Generation, cancel: Cancel) -> None:
        self._end((*effect.orphans, *self._holders().orphans), cancel)
        lock = self._take_lock(cancel)
        log = self._folder / "logs" / "start.log"
        try:
            effects.unlink(log)
            # Left behind by a killed nginx. Nobody listens on it: we hold the lock.
            effects.unlink(self._site.control_socket)
            # It counts requests by this log: those of the nginx before are none of its own.
            if _size(self._access_log):
                effects.rename(self._access_log, f"{self._access_log}.1")
            child = effects.spawn(
                self._command(effect, "current/nginx.conf"),
                env=_environment(),
                cwd=str(self._folder),
                log=str(log),
                keep=(lock,),
            )
        finally:
            os.close(lock)
        _children.append(child)
        self._await(
            lambda: child.poll() is not None or self.live_generation() == wanted, CONFIRM_S, cancel
        )
        if child.poll() is not None:
            said = _tail(log)
            if _EMERGENCY.search(said) and not _BIND.search(said):
                raise self._rejected(wanted, said)
            raise GatewayError(
                f"nginx did not start: {_reason(said)}",
                hint=f"Its log is {self._error_log}.",
            )
        if self.live_generation() != wanted:
            raise self._not_taken(wanted, _tail(log), cancel)

    def _take_lock(self, cancel: Cancel) -> int:
        taken: list[int] = []

        def take() -> bool:
            lock = locks.take(self._site.gateway_lock)
            taken.extend(() if lock is None else (lock,))
            return lock is not None

        if self._await(take, CONFIRM_S, cancel):
            return taken[0]
        holders = ", ".join(str(ref.pid) for ref in proc.holders_of(self._site.gateway_lock))
        raise GatewayError(
            f"the gateway lock is held by another process (pid {holders or 'unknown'})",
            hint="Another run may just be starting nginx: apply again.",
        )

    def _reload(self, master: ProcessRef, wanted: Generation, cancel: Cancel) -> None:
        old = frozenset(self._holders().workers)
        log_start = _size(self._error_log)
        effects.send(master, signal.SIGHUP, proc.lives)

        def settled() -> bool:
            said = _EMERGENCY.findall(_tail(self._error_log, log_start))
            # It tries to bind five times before it gives up; anything else is final.
            gave_up = any("bind() to" not in line for line in said) or not proc.lives(master)
            return gave_up or self._is_live(wanted, old)

        self._await(settled, CONFIRM_S, cancel)
        if not self._is_live(wanted, old):
            raise self._not_taken(wanted, _tail(self._error_log, log_start), cancel)

    def _is_live(self, wanted: Generation, old: frozenset[ProcessRef]) -> bool:
        """The new configuration answers, and no worker of the old one takes requests any more."""
        if self.live_generation() != wanted:
            return False
        holders = self._holders()
        return not (old & set(holders.workers)) - holders.draining

    def _not_taken(self, wanted: Generation, said: str, cancel: Cancel) -> Exception:
        if cancel.is_set():
            return InterruptedRunError(f"interrupted before nginx confirmed generation {wanted}")
        return GatewayError(
            f"nginx did not take generation {wanted}: {_reason(said)}",
            hint="The last good one serves on. To move a port to another address, `down` first.",
        )

    def _back_to(self, previous: Generation | None, effect: ApplyGateway, cancel: Cancel) -> None:
        """Put the last good generation back, and let nginx read it if it left it."""
        if previous is None or previous == effect.rendered.generation:
            return
        effects.swap_link(self._current, previous)
        holders = self._holders()
        if holders.master is None and effect.restart_grace_s is not None:
            # It served until we stopped it. Why the new one did not start is what has to be told.
            with contextlib.suppress(GatewayError):
                self._start(effect, previous, cancel)
        elif holders.master is not None and self.live_generation() != previous:
            effects.send(holders.master, signal.SIGHUP, proc.lives)

    def _left(self, known: Iterable[ProcessRef]) -> list[ProcessRef]:
        """What lives of `known` and of the holders: one that is just ending has lost its title."""
        return [ref for ref in {*known, *self._holders().all} if proc.lives(ref)]

    def _end(self, processes: Iterable[ProcessRef], cancel: Cancel) -> None:
        doomed = tuple(dict.fromkeys(processes))
        for number in (signal.SIGTERM, signal.SIGKILL):
            for process in doomed:
                effects.send(process, number, proc.lives)
            if self._await(lambda: not any(map(proc.lives, doomed)), END_S, cancel):
                return

    def _await(self, done: Callable[[], bool], timeout: float, cancel: Cancel) -> bool:
        deadline = self._clock.monotonic() + timeout
        while not done():
            if self._clock.monotonic() >= deadline or cancel.wait(POLL_S):
                return False
        return True

    def _current_target(self) -> Generation | None:
        with contextlib.suppress(OSError):
            return Generation(self._current.readlink().name)
        return None

    def _prune(self, keep: set[Generation | None]) -> None:
        with contextlib.suppress(OSError):  # what is left is removed the next time
            for entry in self._folder.iterdir():
                if GENERATION.fullmatch(entry.name) and entry.name not in keep:
                    effects.remove_tree(entry)


def _environment() -> dict[str, str]:
    # Nothing of the caller's: NGINX in it would hand over sockets, TZ would change the logs.
    return {"PATH": os.defpath}


def _reap() -> None:
    _children[:] = [child for child in _children if child.poll() is None]


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _sizes(path: Path) -> dict[str, object]:
    """The sizes that were published last, by instance."""
    try:
        notes = json.loads(path.read_text(encoding="utf-8"))
        return {name: note.get("size_bytes") for name, note in notes.items()}
    except (OSError, ValueError, AttributeError):
        return {}


def _tail(path: Path, start: int = 0, limit: int = 16384) -> str:
    """What a file says from `start` on, at most its last `limit` bytes."""
    try:
        with path.open("rb") as file:
            file.seek(max(start, _size(path) - limit))
            return file.read().decode(errors="replace")
    except OSError:
        return ""


def _reason(said: str) -> str:
    """The cause in what nginx said: its own words, without time stamps; ports in plain words."""
    bind = _BIND.search(said)
    if bind:
        return f"cannot listen on {bind[1]}: {bind[2].lower()}"
    lines = _EMERGENCY.findall(said) or [line for line in said.splitlines() if line.strip()][-3:]
    return "; ".join(dict.fromkeys(lines)) or "it said nothing"
