"""The user's own generated files: read, written beside, judged, swapped, told of, put back.

In: renders and effects of a plan. Out: what was found, files, notes in the state folder, or
StepError. A file is noted before it is swapped and again once it was told of: a run that is killed
between the two is made up for by the next. Commands may take their time, so each file has a lock
of its own: the run lock is not needed. What a file says is `core.plan_renders`'s matter.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import stat
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import replace
from glob import escape
from pathlib import Path

from reconciler.core.desired import Render
from reconciler.core.fields import PATH_WORD
from reconciler.core.hiding import hide
from reconciler.core.os_errors import explain_os
from reconciler.core.plan import RemoveRender, WriteRender
from reconciler.core.renders import (
    ObservedRender,
    ObservedRenders,
    RenderNote,
    attempt_of,
    digest_of,
    notes_text,
    read_notes,
)
from reconciler.core.site import Site
from reconciler.core.text import printable
from reconciler.drivers import effects, locks, proc
from reconciler.drivers.base import Cancel
from reconciler.drivers.programs import run_command
from reconciler.drivers.templates import shipped_folder
from reconciler.errors import InterruptedRunError, StepError

VALIDATE_S = 30.0
RELOAD_S = 60.0
LONGEST_S = VALIDATE_S + 2 * RELOAD_S
"""What one file takes at most: a `reload` that fails is run again for the last good file."""
LARGEST_BYTES = 16 * 2**20
"""No file that was rendered is as large."""
NEW_MODE = 0o644
"""There is no secret in it; who reads it may be another user."""
MOST_COPIES = 20
"""Of what others wrote into one file."""
_LINES, _LETTERS = 5, 500
_SHIPPED = "templates/renders/"
_POLL_S = 0.05


class RenderedFiles:
    """The real `Renders` of `drivers.base_renders`."""

    def __init__(self, site: Site, secrets: Callable[[], Collection[str]]) -> None:
        """`secrets`: what nothing that a command says may repeat."""
        self._site = site
        self._root = Path(site.root)
        self._secrets = secrets

    # ---- looking

    def observe(self, wanted: Iterable[Render]) -> ObservedRenders:
        """These, and all that we have made before; nothing is run."""
        notes = self._notes()
        found = {dest: self._file(dest, notes.get(dest)) for dest in notes}
        for render in wanted:
            template, problem = self._template(render.template)
            seen = found.get(render.dest) or self._file(render.dest, None)
            found[render.dest] = replace(seen, template=template, problem=problem)
        return found

    def _template(self, name: str) -> tuple[str | None, str]:
        path = self._root / name
        try:
            if name.startswith(_SHIPPED) and not path.exists():
                path = shipped_folder() / name.removeprefix("templates/")
            return path.read_text(encoding="utf-8"), ""
        except FileNotFoundError:
            shipped = sorted(one.name for one in (shipped_folder() / "renders").glob("*.j2"))
            return None, f"there is no template {name}; shipped in {_SHIPPED}: {', '.join(shipped)}"
        except UnicodeDecodeError:
            return None, f"the template {name} is no text in UTF-8"
        except OSError as error:
            return None, f"the template {name} cannot be read: {error.strerror}"

    def _file(self, dest: str, note: RenderNote | None) -> ObservedRender:
        path = self._root / dest
        if said := self._astray(dest):
            return ObservedRender(obstacle=said, note=note)
        try:
            known = path.lstat()
            if not stat.S_ISREG(known.st_mode):
                what = "a link" if stat.S_ISLNK(known.st_mode) else "no file"
                return ObservedRender(obstacle=f"{dest} is {what}: it is not touched", note=note)
            if known.st_size > LARGEST_BYTES:
                said = f"{dest} is too large for a file that was rendered: it is not touched"
                return ObservedRender(obstacle=said, note=note)
            content = path.read_bytes()
        except FileNotFoundError:
            return ObservedRender(note=note)
        except OSError as error:
            return ObservedRender(obstacle=f"{dest}: {explain_os(error)[0]}", note=note)
        text = None
        with contextlib.suppress(UnicodeDecodeError):
            text = content.decode()
        return ObservedRender(digest=digest_of(content), text=text, note=note)

    def _astray(self, dest: str) -> str:
        """Why a file would lie elsewhere than its name says; empty: it would not."""
        root = Path(os.path.realpath(self._root))
        named = (root / dest).parent
        folder = Path(os.path.realpath(named))
        if not folder.is_relative_to(root):
            return f"{dest} leads out of the root, to {folder}: it is not touched"
        if folder == named:
            return ""
        # It could be a place where no render may write, or that of another one.
        place = folder.relative_to(root) / Path(dest).name
        return f"{dest} leads through a link, to {place}: it is not touched; name that as `dest`"

    # ---- acting

    def apply(self, effect: WriteRender | RemoveRender, cancel: Cancel) -> None:
        """Write a file and tell of it, or take it away.

        Raises:
            StepError: the new file was refused, or who reads it could not be told.
            InterruptedRunError: the run is to end; the next one goes on.
        """
        if isinstance(effect, WriteRender):
            with self._alone(effect.render.dest, cancel):
                self._make(effect, cancel)
        else:
            with self._alone(effect.dest, cancel):
                self._remove(effect)

    @contextlib.contextmanager
    def _alone(self, dest: str, cancel: Cancel) -> Iterator[None]:
        """Have a file to oneself; another run's commands for it are waited for."""
        path = self._site.render_lock(dest)
        effects.make_folder(self._site.state)
        waited, holders = 0.0, ""
        while (lock := locks.take(path)) is None:
            holders = holders or self._holders(dest, path)
            if waited >= LONGEST_S:
                raise StepError(f"{dest} is in the hands of {holders}", hint="apply again")
            if cancel.wait(_POLL_S):
                raise InterruptedRunError(f"interrupted while {holders} wrote {dest}")
            waited += _POLL_S
        try:
            yield
        finally:
            os.close(lock)

    def _holders(self, dest: str, path: str) -> str:
        """Who has the file; whoever waits for us we cannot wait for."""
        above, found = set(proc.ancestors()), proc.holders_of(path)
        for one in found:
            if one.pid in above:
                raise StepError(
                    f"a command of {dest} runs this, and pid {one.pid} waits for its end",
                    hint="let `validate` and `reload` call nothing that applies this file again",
                    retryable=False,
                )
        return ", ".join(f"pid {one.pid}" for one in found) or "another run"

    def _make(self, effect: WriteRender, cancel: Cancel) -> None:
        render, path = effect.render, self._root / effect.render.dest
        digest = digest_of(effect.text)
        if said := self._astray(render.dest):
            raise StepError(said, hint="apply again: the plan says where")
        before = self._content(path)
        held = "" if before is None else digest_of(before)
        if held not in {effect.found, digest}:
            # A plan is about what it has seen.
            said = f"{render.dest} has changed since the plan was made: it stays as it is"
            raise StepError(said, hint="apply again")
        note = self._notes().get(render.dest)
        if note and (note.told, held) == (digest, digest):
            # Another run has been here since the plan was made.
            return
        if held != digest:
            self._swap(effect, path, before, cancel)
        if problem := self._reload(render, cancel):
            self._go_back(effect, path, before, problem, cancel)
        if digest_of(self._content(path) or b"") != digest:
            self._fail(effect, said := f"`reload` has changed {render.dest}, or taken it away")
            hint = "let it only read the file, or name another file as `dest`"
            raise StepError(said, hint=hint, retryable=False)
        self._keep(render.dest, "good", effect.text.encode())
        self._note(render.dest, lambda _: RenderNote(digest, digest))

    def _remove(self, effect: RemoveRender) -> None:
        path = self._root / effect.dest
        if not self._astray(effect.dest):
            if effect.is_ours and digest_of(self._content(path) or b"") == effect.found:
                effects.unlink(path)
            effects.unlink(_candidate(path))
        effects.unlink(self._site.render_copy(effect.dest, "good"))
        self._note(effect.dest, lambda _: None)

    def _swap(self, effect: WriteRender, path: Path, before: bytes | None, cancel: Cancel) -> None:
        render, candidate = effect.render, _candidate(path)
        effects.make_folder(path.parent, 0o755)
        effects.sweep(path.parent, f".{candidate.name}.*.tmp")
        try:
            _write(candidate, effect.text.encode(), _mode(path))
            if problem := self._judge(effect, candidate, cancel):
                self._fail(effect, problem)
                raise StepError(
                    f"the new {render.dest} was refused: {problem}",
                    hint=f"mend {render.template}; the file that was there stays",
                    retryable=False,
                )
            held = digest_of(before) if before is not None else ""
            known = self._notes().get(render.dest) or RenderNote()
            if before is not None and not known.is_ours(held):
                self._keep_aside(render.dest, before)
            self._note(
                render.dest,
                lambda _: RenderNote(
                    digest_of(effect.text), before=held if known.is_ours(held) else ""
                ),
            )
            effects.rename(candidate, path)
            effects.sync_folder(path.parent)
        finally:
            effects.unlink(candidate)

    def _judge(self, effect: WriteRender, candidate: Path, cancel: Cancel) -> str:
        if effect.render.check is None:
            return ""
        command = effect.render.check
        problem = self._run("validate", command, candidate, VALIDATE_S, cancel)
        if problem or self._content(candidate) == effect.text.encode():
            return problem
        return "`validate` must not change {path}"

    def _reload(self, render: Render, cancel: Cancel) -> str:
        if render.reload is None:
            return ""
        return self._run("reload", render.reload, self._root / render.dest, RELOAD_S, cancel)

    def _run(self, key: str, command: str, path: Path, timeout: float, cancel: Cancel) -> str:
        """What is wrong, without secrets; empty where the command has ended well."""
        words = [word.replace(PATH_WORD, str(path)) for word in shlex.split(command)]
        try:
            with effects.by_program(command):
                answer = run_command(words, cwd=str(self._root), timeout=timeout, cancel=cancel)
        except TimeoutError:
            said = f"did not end within {timeout:g} s, which is the limit of `{key}`, and was ended"
            return f"`{self._hidden(command)}` {said}"
        except OSError as error:
            return f"`{self._hidden(command)}` cannot be run: {explain_os(error)[0]}"
        if answer.code == 0:
            return ""
        # Before it is cut: of half a secret nobody knows that it is one.
        lines = [line.strip() for line in self._hidden(answer.out).splitlines() if line.strip()]
        said = printable("; ".join(lines[-_LINES:]))[-_LETTERS:] or "it said nothing"
        how = f"exit {answer.code}" if answer.code > 0 else f"signal {-answer.code}"
        return f"`{self._hidden(command)}` ({how}): {said}"

    def _hidden(self, text: str) -> str:
        return hide(text, self._secrets())

    def _go_back(
        self, effect: WriteRender, path: Path, before: bytes | None, problem: str, cancel: Cancel
    ) -> None:
        """Put back what was told of last, else what was there; tell of it, say how that went."""
        render, said = effect.render, f"it could not be told of: {problem}"
        good = self._content(Path(self._site.render_copy(render.dest, "good")))
        back = before if good is None else good
        if back is None or back == effect.text.encode():
            told = "it stays: there is nothing to go back to"
        else:
            digest, known = digest_of(back), self._notes().get(render.dest) or RenderNote()
            # What somebody else wrote does not become ours by being put back.
            is_ours = good is not None or known.is_ours(digest)
            mine = digest if is_ours else ""
            if is_ours:
                self._note(
                    render.dest, lambda note: replace(note, written=mine, before=note.written)
                )
            _put_back(path, back)
            told = "the last good one is back" if good is not None else "what was there is back"
            if again := self._reload(render, cancel):
                told += f", and was not told of either: {again}"
            else:
                self._note(render.dest, lambda note: replace(note, written=mine, told=mine))
        self._fail(effect, f"{said}; {told}")
        raise StepError(f"{render.dest}: {said}; {told}", hint="mend it, then apply again")

    def _fail(self, effect: WriteRender, reason: str) -> None:
        failed = attempt_of(effect.render, effect.text)
        self._note(effect.render.dest, lambda note: replace(note, failed=failed, reason=reason))

    # ---- remembering

    def _notes(self) -> dict[str, RenderNote]:
        known = self._content(Path(self._site.render_notes)) or b"{}"
        return read_notes(known.decode(errors="replace"))

    def _note(self, dest: str, change: Callable[[RenderNote], RenderNote | None]) -> None:
        folder = Path(self._site.render_locks)
        effects.make_folder(folder)
        with locks.only_writer(folder):
            notes = self._notes()
            before, note = notes.get(dest), change(notes.get(dest) or RenderNote())
            if note == before:
                return
            kept = {name: one for name, one in notes.items() if name != dest}
            text = notes_text({**kept, dest: note} if note else kept)
            effects.write_atomic(self._site.render_notes, text + "\n")

    def _keep(self, dest: str, kind: str, content: bytes) -> None:
        copy = Path(self._site.render_copy(dest, kind))
        if self._content(copy) != content:
            effects.make_folder(copy.parent)
            effects.write_atomic(copy, content)

    def _keep_aside(self, dest: str, content: bytes) -> None:
        """What we did not write is kept: the first one for ever, of the others the newest."""
        self._keep(f"{dest}.{digest_of(content)[:12]}", "edited", content)
        copy = Path(self._site.render_copy(dest, "edited"))
        copies = copy.parent.glob(f"{escape(copy.name)}.{'[0-9a-f]' * 12}")
        for old in sorted(copies, key=lambda one: one.stat().st_mtime_ns)[1 : 1 - MOST_COPIES]:
            effects.unlink(old)

    @staticmethod
    def _content(path: Path) -> bytes | None:
        try:
            return path.read_bytes()
        except FileNotFoundError:
            return None


def _candidate(path: Path) -> Path:
    """Beside it, with its own suffix: by that some programs know what it is."""
    return path.with_name(f".{path.stem}.candidate{path.suffix}")


def _mode(path: Path) -> int | None:
    """The rights that the file has; None: there is none."""
    try:
        return stat.S_IMODE(path.stat().st_mode)
    except FileNotFoundError:
        return None


def _write(path: Path, content: bytes, mode: int | None) -> None:
    """Never with more rights than it is to have, not even for a moment."""
    effects.write_atomic(path, content, NEW_MODE if mode is None else mode)
    if mode is not None and _mode(path) != mode:
        # The umask has taken some away.
        with effects.effect("chmod", path):
            path.chmod(mode)


def _put_back(path: Path, content: bytes) -> None:
    """In one step, with the rights that the file has."""
    candidate = _candidate(path)
    try:
        _write(candidate, content, _mode(path))
        effects.rename(candidate, path)
        effects.sync_folder(path.parent)
    finally:
        effects.unlink(candidate)
