"""Every change that we make to the machine goes through here: files, links, processes, signals.

In: what to do. Out: nothing, or an OSError that names what it is about, to be translated.
One place, so that tests can end the program before and after each effect (`hook`) and inject
errors; nothing outside this module and the hub client may write, unlink, rename, spawn or kill.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from reconciler.core.observed import ProcessRef
from reconciler.drivers.allocation import KEEP_SIZE, fallocate

_WHOLE_GROUP = 1 << 2
"""PIDFD_SIGNAL_PROCESS_GROUP (linux/pidfd.h, Linux 6.9): its group, whoever has its number now."""

_TEMPORARY = re.compile(r"\..+\.(\d+)\.tmp")
"""What `beside` calls a file; the number is its writer's."""


def _nothing(_what: str) -> None:
    pass


hook: Callable[[str], None] = _nothing
"""Called with a description before (`before write /x`) and after (`after write /x`) each effect."""


@contextlib.contextmanager
def effect(verb: str, what: str | Path | int) -> Iterator[None]:
    """What lasts while it is open is one effect: `hook` hears of its beginning and its end."""
    with named(what):
        hook(f"before {verb} {what}")
        yield
        hook(f"after {verb} {what}")


@contextlib.contextmanager
def named(what: str | Path | int) -> Iterator[None]:
    """Let an error say what it is about where the kernel does not."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = f"process {what}" if isinstance(what, int) else str(what)
        raise


def make_folder(path: str | Path, mode: int = 0o700) -> None:
    """Make a folder and its parents, if it is not there."""
    if not Path(path).is_dir():
        with effect("mkdir", path):
            Path(path).mkdir(mode=mode, parents=True, exist_ok=True)


def write_atomic(path: str | Path, text: str | bytes, mode: int = 0o600) -> None:
    """Replace a file's content whole or not at all, durably: temp file, fsync, rename, fsync."""
    target = Path(path)
    with effect("write", target), beside(target) as temporary:
        _write_durably(temporary, text, mode)
        temporary.replace(target)
        sync_folder(target.parent)


def show(path: str | Path, text: str | None) -> None:
    """Let a file say this for a while; None: it goes. At every moment it is whole or not there.

    It is no effect of its own, and not durable: it is what somebody may look at meanwhile.
    """
    if text is None:
        Path(path).unlink(missing_ok=True)
        return
    with beside(Path(path)) as temporary:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        temporary.replace(path)


def write_folder(path: str | Path, files: Mapping[str, str]) -> None:
    """Make a folder that is not there yet, whole or not at all, durably; names may have folders."""
    target = Path(path)
    with effect("write", target), beside(target) as temporary:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(mode=0o700)
        try:
            for name, text in files.items():
                file = temporary / name
                file.parent.mkdir(mode=0o700, exist_ok=True)
                _write_durably(file, text, 0o600)
            for folder in {(temporary / name).parent for name in files} | {temporary}:
                sync_folder(folder)
            temporary.replace(target)
            sync_folder(target.parent)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def overwrite(path: str | Path, text: str) -> None:
    """Replace what a lock file says, in place; others may add a line at any moment."""
    # A rename would leave the lock on the old inode.
    with effect("note", path), Path(path).open("a", encoding="utf-8") as file:
        file.truncate(0)
        file.write(text)


def swap_link(path: str | Path, target: str) -> None:
    """Point a symlink at `target` by rename: at every moment it is the old or the new one."""
    link = Path(path)
    with effect("link", link), beside(link) as temporary:
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(target)
        temporary.replace(link)


def unlink(path: str | Path) -> None:
    """Remove a file, link or socket, if it is there."""
    if os.path.lexists(path):
        with effect("unlink", path):
            Path(path).unlink(missing_ok=True)


def remove_if_empty(path: str | Path) -> bool:
    """Remove a folder in which nothing lies; whether it was one."""
    if any(Path(path).iterdir()):
        return False
    with effect("rmdir", path):
        Path(path).rmdir()
    return True


def make_executable(path: str | Path) -> None:
    """Mark a file as executable for whoever may read it (a wheel may have lost the mark)."""
    with effect("chmod", path):
        mode = Path(path).stat().st_mode
        Path(path).chmod(mode | (mode & 0o444) >> 2)


def rename(path: str | Path, target: str | Path) -> None:
    """Rename within one file system."""
    with effect("rename", path):
        Path(path).replace(target)


def open_partial(path: str | Path) -> int:
    """Open a file that is on its way, to read and write it; made if it is not there.

    What is then written into it (`write_at`, `append`) is no effect of its own: its journal says
    what counts, and there are thousands.
    """
    flags = os.O_RDWR | os.O_CLOEXEC
    if Path(path).exists():
        return os.open(path, flags)
    with effect("create", path):
        return os.open(path, flags | os.O_CREAT, 0o666)


def preallocate(descriptor: int, path: str | Path, size: int) -> None:
    """Take the room that a file will need, so that a full disk is known before the first byte.

    It is fallocate(2) itself: what the C library does where a file system cannot is to write the
    whole file once. There, nothing is done.
    """
    if os.fstat(descriptor).st_blocks * 512 >= size:
        return
    with effect("allocate", path):
        try:
            fallocate(descriptor, KEEP_SIZE, 0, size)
        except OSError as error:
            if error.errno in {errno.EOPNOTSUPP, errno.ENOSYS}:
                return
            # What it got before it failed is given back: others need it.
            os.ftruncate(descriptor, os.fstat(descriptor).st_size)
            raise


def write_at(descriptor: int, content: bytes | memoryview, offset: int) -> None:
    """Write all of it at this place of an open partial."""
    left = memoryview(content)
    while left:
        written = os.pwrite(descriptor, left, offset)
        left, offset = left[written:], offset + written


@contextlib.contextmanager
def by_program(what: str) -> Iterator[None]:
    """While it lasts, another program changes something for us: git."""
    with effect("run", what):
        yield


def append(descriptor: int, text: str) -> None:
    """Write at the end of a journal that was opened for it."""
    line = text.encode()
    if os.write(descriptor, line) != len(line):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def append_line(path: str | Path, line: str) -> None:
    """Add a line to a file of lines, made if it is not there: all of it or nothing."""
    with effect("append", path):
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        descriptor = os.open(path, flags, 0o600)
        try:
            before = os.fstat(descriptor).st_size
            try:
                append(descriptor, line)
            except OSError:
                # A full disk took the beginning of it.
                os.ftruncate(descriptor, before)
                raise
        finally:
            os.close(descriptor)


def open_journal(path: str | Path) -> int:
    """Open a journal that is there, to append to it."""
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)


def publish(descriptor: int, path: str | Path, target: str | Path) -> None:
    """Give a file that is whole its name, durably."""
    with effect("publish", target):
        os.fsync(descriptor)
        Path(path).replace(target)
        sync_folder(Path(target).parent)


def remove_tree(path: str | Path) -> None:
    """Remove a folder of ours with all it holds."""
    with effect("rmtree", path):
        shutil.rmtree(path, ignore_errors=True)


@contextlib.contextmanager
def scratch_folder() -> Iterator[Path]:
    """A folder among the temporary ones, for trying something; it is gone afterwards."""
    with (
        effect("scratch", tempfile.gettempdir()),
        tempfile.TemporaryDirectory(prefix="llm-reconcile-") as name,
    ):
        yield Path(name)


@contextlib.contextmanager
def scratch_file(folder: str | Path) -> Iterator[int]:
    """A file without a name in this very folder, open for writing; nothing of it stays."""
    with (
        effect("scratch", folder),
        tempfile.TemporaryFile(dir=folder, prefix=".llm-reconcile-") as file,
    ):
        yield file.fileno()


def copy_program(path: str | Path, target: Path) -> Path:
    """Copy a program to where it may be marked as one."""
    with effect("copy", target):
        shutil.copy(path, target)
        target.chmod(0o700)
    return target


def sweep(folder: str | Path, pattern: str = "**/.*.tmp") -> None:
    """Remove what writers that were killed left half-written, here and below."""
    for path in list(Path(folder).glob(pattern)):
        writer = _TEMPORARY.fullmatch(path.name)
        if not writer or Path("/proc", writer[1]).exists():
            continue
        if path.is_dir() and not path.is_symlink():
            remove_tree(path)
        else:
            unlink(path)


def spawn(
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: str,
    log: str,
    keep: tuple[int, ...] = (),
    streams: tuple[int, int] | None = None,
) -> subprocess.Popen[bytes]:
    """Start a process in its own session, with exactly this environment and a private umask.

    It logs to a file opened to append: a pipe of ours would break when we die. `keep`: the locks
    that it inherits; `streams`: its standard input and output, if not the log.
    """
    with effect("spawn", argv[0]):
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            return subprocess.Popen(
                argv,
                env=dict(env),
                cwd=cwd,
                stdin=streams[0] if streams else subprocess.DEVNULL,
                stdout=streams[1] if streams else descriptor,
                stderr=descriptor,
                pass_fds=keep,
                start_new_session=True,
                umask=0o077,
            )
        finally:
            os.close(descriptor)


def send(process: ProcessRef, number: signal.Signals, still: Callable[[ProcessRef], bool]) -> bool:
    """Signal this very process, or nobody."""
    return _reach(process, still, number.name, lambda at: signal.pidfd_send_signal(at, number))


def kill_group(process: ProcessRef, still: Callable[[ProcessRef], bool]) -> bool:
    """KILL the process group that this very process leads; one that leads none is killed alone."""
    try:
        leads = os.getpgid(process.pid) == process.pid
    except ProcessLookupError:
        return False
    if not leads:
        return send(process, signal.SIGKILL, still)
    return _reach(process, still, "KILL group", lambda at: _kill_group_of(at, process.pid))


def _reach(
    process: ProcessRef,
    still: Callable[[ProcessRef], bool],
    verb: str,
    act: Callable[[int], None],
) -> bool:
    """Act on an open pidfd of this very process; False when it is gone.

    The pidfd is opened first and the identity checked then: whoever gets the pid later on is not
    reached by it.
    """
    try:
        with named(process.pid):
            descriptor = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return False
    try:
        if not still(process):
            return False
        with effect(verb, process.pid):
            act(descriptor)
    except ProcessLookupError:
        return False
    finally:
        os.close(descriptor)
    return True


def _kill_group_of(descriptor: int, pid: int) -> None:
    try:
        signal.pidfd_send_signal(descriptor, signal.SIGKILL, None, _WHOLE_GROUP)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        # An older kernel: by its number, which was checked a moment ago.
        os.killpg(pid, signal.SIGKILL)


@contextlib.contextmanager
def beside(target: Path) -> Iterator[Path]:
    """A name for new content next to the old one, this thread's own; gone afterwards."""
    temporary = target.with_name(f".{target.name}.{threading.get_native_id()}.tmp")
    try:
        yield temporary
    except OSError as error:
        error.filename = str(target)
        raise
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _write_durably(path: Path, text: str | bytes, mode: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(text.encode() if isinstance(text, str) else text)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Let what was renamed in it outlive a loss of power."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
