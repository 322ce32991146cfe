"""The composition root: which drivers a root and an environment lead to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import pytest
from hub_server import TOKEN, HubServer, hub_server
from typer.testing import CliRunner

from reconciler.app import cache_folder, hub_caches, hub_token_file, open_file, open_root
from reconciler.cli.apply import BESIDE_WATCH_S, waits_s
from reconciler.cli.main import command_line
from reconciler.core.observed import FileStatus, Journal
from reconciler.drivers.state import StateFolder
from reconciler.drivers.watch_socket import WatchSocket
from reconciler.errors import StateFolderError, UsageError

FILES = {"model-Q4_K_M.gguf": b"GGUF weights"}
DESIRED = "version: 1\nmodels:\n  m: {source: {repo: org/private}, quant: Q4_K_M, port: 8001}\n"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    with hub_server() as running:
        yield running
    huggingface_hub.close_session()


@pytest.fixture
def root(short_folder: Path) -> Path:
    (short_folder / "desired").mkdir()
    (short_folder / "desired" / "x.yaml").write_text(DESIRED, encoding="utf-8")
    return short_folder


def environment(root: Path) -> dict[str, str]:
    return {"XDG_STATE_HOME": f"{root}/st", "XDG_CACHE_HOME": f"{root}/cache"}


def test_a_file_names_its_root_and_its_state(root: Path) -> None:
    workspace = open_file(root / "desired" / "x.yaml", None, environment(root))
    assert workspace.root == root
    assert (workspace.site.root, workspace.site.desired) == (str(root), "desired/x.yaml")
    assert workspace.site.state.startswith(f"{root}/st/llm-reconcile/")


def test_a_given_root_counts(root: Path) -> None:
    (root / "other").mkdir()
    workspace = open_file(root / "desired" / "x.yaml", root / "other", environment(root))
    assert workspace.site.root == str(root / "other")
    assert workspace.site.desired == str(root / "desired" / "x.yaml")


def test_a_root_finds_the_file_last_applied(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root)
    (root / "desired" / "y.yaml").write_text(DESIRED, encoding="utf-8")
    with pytest.raises(UsageError, match="nothing was applied"):
        open_root(None, environment(root))
    state = open_root_state(root)
    state.write(Journal(desired="desired/y.yaml"))
    assert open_root(None, environment(root)).desired_path == root / "desired" / "y.yaml"
    assert open_root(root, environment(root)).site.desired == "desired/y.yaml"


def open_root_state(root: Path) -> StateFolder:
    workspace = open_file(root / "desired" / "x.yaml", root, environment(root))
    return StateFolder(workspace.site.state)


def test_a_root_that_is_no_folder_is_said(root: Path) -> None:
    with pytest.raises(UsageError, match="none is not a folder"):
        open_file(root / "desired" / "x.yaml", root / "none", {})
    with pytest.raises(UsageError, match="none is not a folder"):
        open_root(root / "none", {})


def test_a_foreign_state_folder_gives_no_drivers(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = open_file(root / "desired" / "x.yaml", None, environment(root))
    Path(workspace.site.state).mkdir(parents=True)
    monkeypatch.setattr("os.geteuid", lambda: 4711)
    with pytest.raises(StateFolderError, match="belongs to another user"):
        workspace.drivers(workspace.parse().desired)


@pytest.mark.parametrize(
    ("given", "cache"),
    [
        ({}, "{home}/.cache/huggingface/hub"),
        ({"XDG_CACHE_HOME": "/x"}, "/x/huggingface/hub"),
        ({"XDG_CACHE_HOME": "/x", "HF_HOME": "/h"}, "/h/hub"),
        ({"HF_HOME": "~/h"}, "{home}/h/hub"),
        ({"HF_HOME": "/h", "HF_HUB_CACHE": "/c"}, "/c"),
        ({"HF_HOME": "/h", "HUGGINGFACE_HUB_CACHE": "/old"}, "/old"),
        ({"HF_HUB_CACHE": ""}, "{home}/.cache/huggingface/hub"),
    ],
)
def test_other_tools_files_are_looked_for_where_they_put_them(
    given: dict[str, str], cache: str
) -> None:
    assert hub_caches(given) == (cache.format(home=Path.home()),)


def test_the_token_of_the_hubs_client_is_where_it_keeps_it() -> None:
    assert hub_token_file({"HF_HOME": "/h"}) == "/h/token"
    assert hub_token_file({"HF_HOME": "/h", "HF_TOKEN_PATH": "/t"}) == "/t"


def test_our_own_cache_follows_the_environment() -> None:
    assert cache_folder({"XDG_CACHE_HOME": "/x"}) == Path("/x/llm-reconcile")
    assert cache_folder({}) == Path.home() / ".cache" / "llm-reconcile"


def test_endpoint_token_and_caches_come_from_the_environment(hub: HubServer, root: Path) -> None:
    hub.add("org/private", FILES, private=True)
    given = {"HF_ENDPOINT": f"{hub.endpoint}/", "HF_TOKEN": TOKEN, "HF_HOME": f"{root}/hf"}
    workspace = open_file(root / "desired" / "x.yaml", root, environment(root) | given)
    desired = workspace.parse().desired
    files = workspace.drivers(desired).files
    assert files.inspect(desired.models["m"], deep=True).status is FileStatus.MISSING
    huggingface_hub.hf_hub_download(
        "org/private",
        "model-Q4_K_M.gguf",
        cache_dir=f"{root}/hf/hub",
        endpoint=hub.endpoint,
        token=TOKEN,
    )
    assert files.inspect(desired.models["m"], deep=False).status is FileStatus.PRESENT


def test_a_watch_is_waited_for_and_another_run_is_not(root: Path) -> None:
    workspace = open_file(root / "desired" / "x.yaml", None, environment(root))
    assert waits_s(workspace, None) == 0.0
    Path(workspace.site.state).mkdir(parents=True)
    watch = WatchSocket(workspace.site.watch_socket, lambda: {"pid": 1})
    watch.open()
    try:
        assert (waits_s(workspace, None), waits_s(workspace, 3.0)) == (BESIDE_WATCH_S, 3.0)
    finally:
        watch.close()


@pytest.mark.parametrize("verb", ["apply", "update"])
def test_these_verbs_do_so(verb: str) -> None:
    said = CliRunner().invoke(command_line(verb), [verb, "--help"], env={"COLUMNS": "200"}).output
    assert "(default: 0s, beside a watch 10s)" in " ".join(said.split())
