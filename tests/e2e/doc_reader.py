"""A reader who types what a page of the documents says, from first to last, in one shell.

In: a page; a hub on this machine that has a tiny model under the names that the pages ask for. Out:
what each command printed, as if ann had typed it at a terminal, and said yes when she was asked.
Nothing is rewritten but ports and `places`. What happens besides what she types, and what does not
end with 0, is a `Turn`.
"""

from __future__ import annotations

import getpass
import hashlib
import json
import os
import platform
import pty
import re
import select
import subprocess
import termios
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from doc_pages import Command, File

from e2e import machine
from e2e.lab import COMMAND, MEASURED

_PORT = re.compile(r"(?:port: |listen: 127\.0\.0\.1:)([0-9]+)")
_VARIES = re.compile(
    r"""
    [0-9]{4}-[0-9]{2}-[0-9]{2}[T\ ][0-9:]{5,8}(?:[.0-9]*\+00:00)?|^[0-9:]{8}\b  # a time
    | \b(?:about\ )?(?:[0-9]+[hm])?[0-9]+(?:\.[0-9]+)?\ ?m?s\b | less\ than\ a\ second  # how long
    | \b(?:[0-9.]+/)?[0-9]+(?:\.[0-9]+)?\ (?:[KMGT]i)?B(?:/s)?\b | \b[0-9]+\ %   # how much
    | \[\#*\.*\]                                        # a bar
    | \b(?=[a-f]*[0-9])[0-9a-f]{12,64}\b                # a hash
    | \b[0-9]+\.[0-9]+\.[0-9]+[\w.-]*\b                  # a version, an address
    | \b[0-9]{4,5}\b                                    # a port
    | (?<=\ ready)\ +[0-9]+\b                           # a pid: in a container, a small one
    """,
    re.VERBOSE,
)
_MARK = "@@ this one ended with "
_END = "END OF THE FILE"
_ASKED = re.compile(r"\((yes)/no\) $|^Type (\S+) to go on: $", re.MULTILINE)
_CONTROL = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
"""What moves the cursor: another line follows."""
_LONGEST_S = 240.0
_UNTIL = """
until_it_says() {
  words=$1; shift
  set -m; "$@" > until.log 2>&1 & set +m
  until grep -qz "$words" until.log || ! kill -0 $! 2> /dev/null; do sleep 0.05; done
  kill -INT $!; wait $!; code=$?
  cat until.log
  return $code
}
"""


@dataclass(frozen=True)
class Turn:
    """What else is to be known of a command."""

    before: str = ""
    """Lines of a shell: what has happened when it is typed."""
    code: int = 0
    """How it ends."""
    until: str = ""
    """It goes on until Ctrl-C, which is pressed once it has said this."""
    is_loose: bool = False
    """Its numbers are as they come."""
    instead: str = ""
    """What is typed: the page names no model, or a place that everybody has elsewhere."""


NOTHING_MORE: Mapping[str, Turn] = {}


@dataclass
class Reader:
    """Somebody at an empty machine."""

    home: Path
    endpoint: str
    under: tuple[str, ...] = ()
    """What the shell is run by: a program that changes its world, with its arguments."""
    variables: dict[str, str] = field(default_factory=dict)
    ports: dict[str, str] = field(default_factory=dict)
    """The ports that a page names, and the free ones in their place."""
    places: dict[str, str] = field(default_factory=dict)
    """Names of the world outside that a page has, and what stands for them."""

    @property
    def environment(self) -> dict[str, str]:
        measured = {name: os.environ[name] for name in MEASURED if name in os.environ}
        who = {"NAME": "Ann", "EMAIL": "ann@example.org"}
        git = {f"GIT_{role}_{what}": who[what] for role in ("AUTHOR", "COMMITTER") for what in who}
        return {
            **measured,
            **git,
            "PATH": f"{self.home}/bin:{self.home}/.local/bin:{COMMAND.parent}:{os.environ['PATH']}",
            "HOME": str(self.home),
            "XDG_STATE_HOME": str(self.home / "s"),
            "XDG_CACHE_HOME": str(self.home / "c"),
            "HF_ENDPOINT": self.endpoint,
            "LANG": "C.UTF-8",
            "TERM": "dumb",
            "NO_COLOR": "1",
            **self.variables,
        }

    def pull_with_ollama(self, model: Path) -> None:
        """Leave in the home what `ollama pull smollm2:135m` leaves there."""
        folder = self.home / ".ollama" / "models"
        params = b'{"num_ctx":2048,"temperature":0.7}'
        layers = []
        (folder / "blobs").mkdir(parents=True)
        for kind, content in (("model", model.read_bytes()), ("params", params)):
            digest = hashlib.sha256(content).hexdigest()
            (folder / "blobs" / f"sha256-{digest}").write_bytes(content)
            media = f"application/vnd.ollama.image.{kind}"
            layers.append({"mediaType": media, "digest": f"sha256:{digest}", "size": len(content)})
        manifest = folder / "manifests" / "registry.ollama.ai" / "library" / "smollm2" / "135m"
        manifest.parent.mkdir(parents=True)
        manifest.write_text(json.dumps({"layers": layers}))

    def read(
        self, todo: Sequence[File | Command], turns: Mapping[str, Turn] = NOTHING_MORE
    ) -> list[tuple[Command, str]]:
        """Do all of it; each command and what it printed."""
        whole = "\n".join(one.text for one in todo)
        for port in _PORT.findall(whole):
            self.ports.setdefault(port, str(machine.free_port()))
        said = self._at_a_terminal(self._moved(_script(todo, turns)))
        said = _CONTROL.sub("\n", said).replace(str(self.home), "/home/ann")
        user = getpass.getuser()
        said = re.sub(rf"(?<=[0-9]  ){user}(?=  )|(?<=[0-9], ){user}(?=[,)])", "ann", said)
        said = re.sub(rf"(?<= on ){re.escape(platform.node())}(?= by )", "gpu1", said)
        printed = re.split(rf"\n{_MARK}[0-9]+\n", said)
        return list(zip([one for one in todo if isinstance(one, Command)], printed, strict=False))

    def end_all(self) -> list[str]:
        """End what still runs; the roots of it."""
        left = []
        for folder in (path.parent for path in self.home.glob("*/desired")):
            locks = self.home.glob("s/llm-reconcile/*/gateway.lock")
            if machine.labelled(folder) or any(map(machine.holders, locks)):
                left.append(folder.name)
                down = [str(COMMAND), "down", "-y", "-q", "--root", str(folder)]
                subprocess.run(down, env=self.environment, stdin=subprocess.DEVNULL, check=True)
        return left

    def _at_a_terminal(self, script: str) -> str:
        """Run a script with somebody there to say yes; what stands on the screen."""
        master, slave = pty.openpty()
        termios.tcsetwinsize(slave, (50, 400))
        shell = subprocess.Popen(
            [*self.under, "bash", "--norc", "-c", script],
            cwd=self.home,
            env=self.environment,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
        )
        said, deadline = "", time.monotonic() + _LONGEST_S
        try:
            while True:
                if select.select([master], [], [], 0.05)[0]:
                    said += os.read(master, 65536).decode(errors="replace").replace("\r", "")
                    if asked := _ASKED.search(said[-100:]):
                        os.write(master, f"{asked[1] or asked[2]}\n".encode())
                elif shell.poll() is not None:
                    break
                assert time.monotonic() < deadline, f"it does not end:\n{said}"
        finally:
            # What it left in the background ends too; a job may have a group of its own.
            machine.kill(
                one for one in machine.pids() if machine.stat(one)[3:4] == [f"{shell.pid}"]
            )
            shell.wait()
            os.close(master)
            os.close(slave)
        assert shell.returncode == 0, f"exit {shell.returncode}\n{said}"
        return said

    def _moved(self, text: str) -> str:
        for name, place in self.places.items():
            text = text.replace(name, place)
        return re.sub(r"\b[0-9]{4}\b", lambda match: self.ports.get(match[0], match[0]), text)


def _script(todo: Sequence[File | Command], turns: Mapping[str, Turn]) -> str:
    """One script; a command that ends otherwise than it should ends all.

    One that fails is right where the next one asks how it ended.
    """
    lines = [_UNTIL, "code=0"]
    for one, after in zip(todo, [*todo[1:], None], strict=True):
        if isinstance(one, File):
            folder = Path(one.path).parent
            lines += [f"mkdir -p '{folder}'", f"cat > '{one.path}' <<'{_END}'\n{one.text}{_END}"]
            continue
        turn = turns.get(one.text, Turn())
        if turn.before:
            lines += [
                f"( set -e\n{turn.before}\n) > before.log 2>&1 || {{ cat before.log; exit 99; }}"
            ]
        is_asked = isinstance(after, Command) and after.text == "echo $?"
        text = turn.instead or one.text
        text = f"until_it_says '{turn.until}' {text}" if turn.until else text
        lines += ["(exit $code)", text, "code=$?", f'printf "\\n{_MARK}%s\\n" $code']
        lines += [] if is_asked else [f"test $code = {turn.code} || exit 98", "code=0"]
    return "\n".join(lines)


def plain(line: str) -> str:
    """A line without what differs from run to run: sizes, times, hashes, ports, columns."""
    text = _VARIES.sub("#", line)
    return " ".join(text.split())


def missing(command: Command, printed: str, *, is_loose: bool = False) -> list[str]:
    """The lines that the page shows, in order, and the command did not print; `...` is any."""

    def like(line: str) -> str:
        return re.sub(r"(?<= )(?:[0-9.#]+|-)(?= )", "#", plain(line)) if is_loose else plain(line)

    said = iter([like(line) for line in printed.splitlines()])
    wanted = [like(line) for line in command.shown if line.strip() not in {"", "..."}]
    return [line for line in wanted if line not in said]
