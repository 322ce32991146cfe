"""A verb under strace: what it did to the machine, as the kernel saw it (BARS 1, 2).

In: a lab, a verb's words. Out: its result and its calls: writes, signals, listeners, programs.
An attempt counts as the deed. What an engine does that is asked for its --help is not ours.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from e2e.lab import Lab, Result

CHANGES = (
    "creat,rename,renameat,renameat2,unlink,unlinkat,rmdir,mkdir,mkdirat,mknod,mknodat,link,linkat,"
    "symlink,symlinkat,truncate,ftruncate,fallocate,chmod,fchmod,fchmodat,chown,fchown,lchown,"
    "fchownat,utime,utimes,utimensat,futimesat,setxattr,lsetxattr,fsetxattr,removexattr,"
    "lremovexattr,fremovexattr,mount,umount2"
)
SIGNALS = "kill,tkill,tgkill,rt_sigqueueinfo,rt_tgsigqueueinfo,pidfd_send_signal"
LISTENERS = "bind,listen"
OPENS = "open,openat,openat2"
READS = "read,pread64,readv,preadv,preadv2,mmap,sendfile,copy_file_range"
OTHERS = "execve,execveat,connect"

_CALL = re.compile(r"(\d+) +(\w+)\((.*)")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')
_TERMINALS = ("/dev/null", "/dev/tty", "/dev/pts/")


@dataclass(frozen=True)
class Call:
    """One system call of ours, with its arguments as strace writes them."""

    name: str
    arguments: str

    def is_one_of(self, names: str) -> bool:
        return self.name in names.split(",")

    @property
    def path(self) -> str:
        """The first path among the arguments; an open descriptor's where there is no other."""
        quoted = _QUOTED.search(self.arguments)
        opened = re.match(r"\w+<([^>]*)>", self.arguments)
        folder = opened[1] if opened else ""
        if quoted and folder.startswith("/"):
            # A name in an open folder; one that begins with a slash stays itself.
            return str(Path(folder, quoted[1]))
        return quoted[1] if quoted else folder

    @property
    def writes(self) -> bool:
        """Whether it changes the file system, or opens something in order to."""
        if self.is_one_of(OPENS):
            wants = re.search(r"O_WRONLY|O_RDWR|O_CREAT|O_TRUNC", self.arguments)
            # A file without a name is in no folder; giving it one (linkat) would be seen.
            nameless = "O_TMPFILE" in self.arguments or "(deleted)" in self.arguments
            return bool(wants) and not nameless and not self.path.startswith(_TERMINALS)
        return self.is_one_of(CHANGES)


@dataclass(frozen=True)
class Trace:
    """All that a verb did."""

    result: Result
    calls: tuple[Call, ...]
    scratch: Path
    """Its folder for temporary files: what it does there is nothing to anybody."""

    def deeds(self, *, but: tuple[Path, ...] = ()) -> list[str]:
        """All that is more than looking; files may be written in some places."""
        return [*self.writes(but=but), *self.signals, *self.listeners, *self.programs]

    def writes(self, *, but: tuple[Path, ...] = ()) -> list[str]:
        """What it wrote, renamed, removed, or opened for that, outside some places."""
        apart = tuple(map(str, (*but, self.scratch)))
        found = (one for one in self.calls if one.writes and not one.path.startswith(apart))
        return [f"{one.name} {one.path}" for one in found]

    @property
    def signals(self) -> list[str]:
        """The signals that it sent; number 0 only asks whether somebody is there."""
        sent = (one for one in self.calls if one.is_one_of(SIGNALS))
        return [f"{one.name} {one.arguments}" for one in sent if ", 0" not in one.arguments[:24]]

    @property
    def listeners(self) -> list[str]:
        """Where it listened. A netlink socket is how libc asks the kernel for its interfaces."""
        found = (one for one in self.calls if one.is_one_of(LISTENERS))
        return [one.arguments for one in found if "AF_NETLINK" not in one.arguments]

    @property
    def connections(self) -> list[str]:
        return [one.arguments for one in self.calls if one.name == "connect"]

    @property
    def programs(self) -> list[str]:
        """The programs that it executed, itself and engines' --help left out."""
        found = [one for one in self.calls if one.name.startswith("exec")]
        return [one.arguments for one in found[1:] if not _asks_for_help(one)]

    def reads_of(self, path: Path) -> list[str]:
        """Its looks into a file."""
        wanted = f"<{path}>"
        return [one.name for one in self.calls if one.is_one_of(READS) and wanted in one.arguments]


def _asks_for_help(call: Call) -> bool:
    return call.name.startswith("exec") and '"--help"]' in call.arguments


def traced(lab: Lab, *words: str, **options: Any) -> Trace:
    """Run a verb under strace, without what only measures or caches for the interpreter."""
    record, scratch = lab.folder / "trace", lab.folder / "tmp"
    scratch.mkdir(exist_ok=True)
    names = ",".join((CHANGES, SIGNALS, LISTENERS, OPENS, READS, OTHERS))
    # `?`: not every machine has every call. --seccomp-bpf: only these cost time.
    wanted = "trace=" + ",".join(f"?{name}" for name in names.split(","))
    how = ("--seccomp-bpf", "-f", "-y", "-qq", "-s", "4096", "-e", "signal=none", "-e", wanted)
    quiet = {"COVERAGE_PROCESS_START": "", "PYTHONDONTWRITEBYTECODE": "1", "TMPDIR": str(scratch)}
    child = lab.popen(*words, under=("strace", *how, "-o", str(record)), env=quiet, **options)
    result = lab.end(child)
    return Trace(result, tuple(_ours(record.read_text(errors="replace"))), scratch)


def _ours(record: str) -> list[Call]:
    calls: list[Call] = []
    engines: set[str] = set()
    for line in record.splitlines():
        # The second half of an interrupted call says nothing that the first did not.
        match = _CALL.match(line)
        if match and match[1] not in engines:
            calls.append(Call(match[2], match[3]))
            if _asks_for_help(calls[-1]):
                engines.add(match[1])
    return calls
