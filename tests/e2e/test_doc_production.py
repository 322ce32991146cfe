"""What the documents tell to type on a machine in production, typed there.

In: docs/how-to/production.md from first to last, then all that the text of the other pages has in
backticks, with a model's name where they say NAME; a user's own systemd, a hub with tiny models
under the names of the large ones. Out: how each command ended. `NO_COMMANDS` are left out.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from doc_pages import PAGES, ROOT, Command, commands, inline_commands, steps
from engine_programs import llama_server
from hub_server import hub_server
from tiny_gguf import write_tiny_gguf

from e2e.doc_reader import Reader, Turn
from e2e.systemd import Systemd

PAGE = ROOT / "docs" / "how-to" / "production.md"
ALERTS = "https://alerts.example.org"
NO_COMMANDS = {
    "llm-reconcile apply": "the name of a verb",
    "llm-reconcile stop": "the name of a verb",
    "llm-reconcile events [-f] [NAME]": "its usage",
}
"""What stands in backticks and is not to be typed so."""
IN_ITS_PLACE = {
    "NAME": "qwen3.5",
    "KEY=VALUE": "params.temp=0.4",
    "desired/models.yaml": "desired/prod.yaml",
    "/path/to/models": "~/.ollama/models",
}
TURNS = {
    "llm-reconcile schema --plan > schema/plan.schema.json": Turn("mkdir schema"),
    "llm-reconcile plan desired/models.yaml --out next.plan": Turn(
        # It would do at once what is to be reviewed.
        "llm-reconcile service uninstall desired/prod.yaml\n"
        "sed -i 's/temp: 0.6/temp: 0.5/' desired/prod.yaml"
    ),
    "llm-reconcile restart NAME": Turn("llm-reconcile start qwen3.5"),
    "llm-reconcile watch desired/prod.yaml": Turn(until="all is as wanted"),
    "llm-reconcile logs NAME -f": Turn(code=130, until="listening"),
    "llm-reconcile import processes": Turn(code=1),
    "llm-reconcile stop --all": Turn(
        "sed -i '/protect: true/d' desired/prod.yaml\n"
        "llm-reconcile apply -y desired/prod.yaml --allow-protected glm-5"
    ),
    "llm-reconcile set NAME KEY=VALUE --push": Turn(
        "git init -q --bare -b main ~/origin.git\n"
        "git init -q -b main\n"
        "git add desired && git commit -qm One\n"
        "git remote add origin ~/origin.git && git push -qu origin main"
    ),
    "llm-reconcile down --root OLD": Turn(
        "mkdir -p ~/old/desired\n"
        'printf "version: 1\\ngateway: false\\nmodels: {}\\n" > ~/old/desired/none.yaml\n'
        "llm-reconcile apply -y ~/old/desired/none.yaml\n"
        "mv ~/old ~/new",
        instead="llm-reconcile down --root ~/old",
    ),
}


HELD = {
    # Who reads takes his time: the watch has met the change of a protected model by then.
    "llm-reconcile apply desired/prod.yaml --allow-protected glm-5": Turn(
        "until llm-reconcile events | grep 'held back'; do sleep 0.1; done"
    )
}


def typed() -> list[Command]:
    """All that is in backticks and in no block of a page that is run."""
    found = {one.text: one for page in [PAGE, *PAGES] for one in inline_commands(page)}
    known = {one.text for page in PAGES for one in commands(page)}
    return [one for text, one in found.items() if text not in known | NO_COMMANDS.keys()]


def turn(text: str) -> Turn:
    known = TURNS.get(text, Turn())
    instead = known.instead or text
    for word, place in IN_ITS_PLACE.items():
        instead = instead.replace(word, place)
    return replace(known, instead=instead)


@pytest.fixture
def hub(tiny_model: Path, tmp_path: Path) -> Iterator[str]:
    other = write_tiny_gguf(tmp_path / "other.gguf", seed=1, context=65536).read_bytes()
    first = tiny_model.read_bytes()
    large = {
        "GLM-5": {"UD-IQ2_XXS": first, "UD-TQ1_0": other},
        "Qwen3.5-397B-A17B": {"MXFP4_MOE": first, "UD-Q2_K_XL": other},
    }
    with hub_server() as server:
        for name, quants in large.items():
            files = {f"{name}-{quant}.gguf": content for quant, content in quants.items()}
            server.add(f"unsloth/{name}-GGUF", files)
        yield server.endpoint


class _Alerts(BaseHTTPRequestHandler):
    told: list[bytes]

    def do_POST(self) -> None:
        self.told.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(204)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def alerts() -> Iterator[tuple[str, list[bytes]]]:
    """Somebody who is told, and what."""
    told: list[bytes] = []
    with HTTPServer(("127.0.0.1", 0), type("_Bound", (_Alerts,), {"told": told})) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", told
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.timeout(300)
@pytest.mark.needs("systemd")
def test_all_that_is_typed_in_production(short_folder: Path, hub: str, tiny_model: Path) -> None:
    todo = typed()
    turns = HELD | {one.text: turn(one.text) for one in todo}
    if engine := llama_server():
        (short_folder / "bin").mkdir()
        (short_folder / "bin" / "llama-server").symlink_to(engine)
    with Systemd(short_folder / "systemd") as systemd, alerts() as (place, told):
        reader = Reader(short_folder, hub, places={ALERTS: place})
        reader.variables = systemd.start_for_a_user(short_folder)
        reader.under = (*systemd.under, "env", f"--chdir={short_folder}")
        reader.pull_with_ollama(tiny_model)
        done = reader.read([*steps(PAGE), *todo, Command("llm-reconcile down")], turns)
    assert len(done) == len(commands(PAGE)) + len(todo) + 1
    assert any(b"held back" in one for one in told), told


def test_each_word_of_these_tables_is_needed() -> None:
    text = "\n".join(one.text for page in PAGES for one in inline_commands(page))
    assert [one for one in NO_COMMANDS if one not in text.splitlines()] == []
    assert [one for one in IN_ITS_PLACE if one not in text] == []
    assert TURNS.keys() <= {one.text for one in typed()}
