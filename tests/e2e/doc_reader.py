"""A reader who types what a page of the documents says, from first to last, in one shell.

In: a page; a hub on this machine that has a tiny model under the names that the pages ask for. Out:
what each command printed, as if ann had typed it. Nothing else is rewritten but ports. What
installs software, or is for a program that this machine has not, is left out (`ELSEWHERE`).
"""

from __future__ import annotations

import contextlib
import getpass
import hashlib
import json
import os
import re
import signal
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from doc_pages import Command, File, steps

from e2e import machine
from e2e.lab import COMMAND, MEASURED

ELSEWHERE = ("pipx ", "pip ", "uv ", "sudo ", "systemctl ", "loginctl ", "ollama ", "docker ")
"""Commands that are only read."""
_PORT = re.compile(r"(?:port: |listen: 127\.0\.0\.1:)([0-9]+)")
_VARIES = re.compile(
    r"""
    [0-9]{4}-[0-9]{2}-[0-9]{2}\ [0-9:]{8}                # a time
    | \b(?:about\ )?(?:[0-9]+[hm])?[0-9]+(?:\.[0-9]+)?\ ?m?s\b | less\ than\ a\ second  # how long
    | \b[0-9]+(?:\.[0-9]+)?\ (?:[KMGT]i)?B\b            # how much
    | \b(?=[a-f]*[0-9])[0-9a-f]{12,64}\b                # a hash
    | \b[0-9]{4,5}\b                                    # a port
    """,
    re.VERBOSE,
)
_MARK = "@@ this one ended with "
_END = "END OF THE FILE"


@dataclass
class Reader:
    """Somebody at an empty machine."""

    home: Path
    endpoint: str
    ports: dict[str, str] = field(default_factory=dict)
    """The ports that a page names, and the free ones in their place."""

    @property
    def environment(self) -> dict[str, str]:
        measured = {name: os.environ[name] for name in MEASURED if name in os.environ}
        who = {"NAME": "Ann", "EMAIL": "ann@example.org"}
        git = {f"GIT_{role}_{what}": who[what] for role in ("AUTHOR", "COMMITTER") for what in who}
        return {
            **measured,
            **git,
            "PATH": f"{COMMAND.parent}:{os.environ['PATH']}",
            "HOME": str(self.home),
            "XDG_STATE_HOME": str(self.home / "s"),
            "XDG_CACHE_HOME": str(self.home / "c"),
            "HF_ENDPOINT": self.endpoint,
            "LANG": "C.UTF-8",
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

    def read(self, page: Path) -> list[tuple[Command, str]]:
        """Do all of it; each command and what it printed."""
        todo = list(steps(page))
        whole = "\n".join(one.text for one in todo)
        for port in _PORT.findall(whole):
            self.ports.setdefault(port, str(machine.free_port()))
        typed = [one for one in todo if isinstance(one, File) or not one.text.startswith(ELSEWHERE)]
        log = self.home / "typed.log"
        with log.open("w") as out:
            shell = subprocess.Popen(
                ["bash", "--norc", "-c", self._moved(_script(typed))],
                cwd=self.home,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                code = shell.wait(timeout=240)
            finally:
                # What it left in the background ends too.
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(shell.pid, signal.SIGKILL)
        said = log.read_text(errors="replace").replace(str(self.home), "/home/ann")
        said = re.sub(rf"(?<=  ){getpass.getuser()}(?= )", "ann", said)
        assert code == 0, f"{page.name}: exit {code}\n{said}"
        printed = re.split(rf"\n{_MARK}[0-9]+\n", said)
        return list(zip([one for one in typed if isinstance(one, Command)], printed, strict=False))

    def _moved(self, text: str) -> str:
        return re.sub(r"\b[0-9]{4}\b", lambda match: self.ports.get(match[0], match[0]), text)


def _script(todo: list[File | Command]) -> str:
    """One script; a command that fails ends it, unless the next one asks how it ended."""
    lines = ["code=0"]
    for one, after in zip(todo, [*todo[1:], None], strict=True):
        if isinstance(one, File):
            folder = Path(one.path).parent
            lines += [f"mkdir -p '{folder}'", f"cat > '{one.path}' <<'{_END}'\n{one.text}{_END}"]
            continue
        is_asked = isinstance(after, Command) and after.text == "echo $?"
        lines += ["(exit $code)", one.text, "code=$?", f'printf "\\n{_MARK}%s\\n" $code']
        lines += [] if is_asked else ["test $code = 0 || exit $code"]
    return "\n".join(lines)


def plain(line: str) -> str:
    """A line without what differs from run to run: sizes, times, hashes, ports, columns."""
    text = _VARIES.sub("#", line)
    return " ".join(text.split())


def missing(command: Command, printed: str) -> list[str]:
    """The lines that the page shows, in order, and the command did not print; `...` is any."""
    said = iter([plain(line) for line in printed.splitlines()])
    wanted = [plain(line) for line in command.shown if line.strip() not in {"", "..."}]
    return [line for line in wanted if line not in said]
