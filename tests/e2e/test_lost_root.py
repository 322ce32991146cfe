"""A root that is moved, or removed, while its servers run: nothing is doubled, nothing is lost."""

from __future__ import annotations

from e2e import machine
from e2e.lab import Lab


def test_a_moved_root_says_where_its_servers_are(fakes: Lab) -> None:
    port = machine.free_port()
    fakes.write({"a": {"port": port}, "b": {}})
    fakes.apply()
    before = fakes.servers()
    moved = fakes.folder / "moved"
    fakes.root.rename(moved)
    hint = f"`llm-reconcile down --root {fakes.root}` stops them"

    def here(*words: str, code: int) -> str:
        return fakes.run(*words, "--root", str(moved), cwd=moved, code=code).all

    plan = here("plan", "desired/x.yaml", code=0)
    assert f"servers of {fakes.root} still run" in plan
    assert hint in plan
    assert f"port {port} is held by the gateway of {fakes.root} (nginx, pid" in plan
    assert hint in here("status", code=3)
    # Nobody could stop them from another state home.
    elsewhere = {"XDG_STATE_HOME": str(fakes.folder / "s2")}
    told = fakes.run("status", "--root", str(moved), cwd=moved, env=elsewhere, code=3)
    assert "still run" not in told.all
    nothing = here("down", "-y", code=0)
    assert "Nothing of this root runs." in nothing
    assert hint in nothing
    assert fakes.servers() == before
    # As the hint says, from wherever the user stands.
    fakes.run("down", "-y", "--root", str(fakes.root), cwd=moved)
    assert fakes.servers() == {}
    assert fakes.nginx().master is None
    assert not fakes.root.exists()
    assert "still run" not in here("plan", "desired/x.yaml", code=0)
    moved.rename(fakes.root)
    fakes.apply()
    assert set(fakes.servers()) == {"a", "b"}


def test_a_folder_that_never_was_a_root_is_none(fakes: Lab) -> None:
    fakes.write({})
    missing = fakes.folder / "missing"
    wrong = fakes.run("down", "-y", "--root", str(missing), code=1)
    assert f"--root {missing} is not a folder" in wrong.err
