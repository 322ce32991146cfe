"""`drift` tells what was done to the machine, and not what the file wishes by now."""

from __future__ import annotations

from e2e import machine
from e2e.lab import Lab


def test_what_was_done_by_hand(lab: Lab) -> None:
    """On the real engine: nothing at first, then each thing by its address."""
    lab.write({"a": {"params": {"ctx_size": 256}}, "b": {}})
    assert "was not applied here last" in lab.run("drift", code=1).err
    lab.apply()
    # A wish is no drift.
    lab.write({"a": {"params": {"ctx_size": 512}}, "new": {}})
    assert (
        "No drift: all is as it was applied from desired/x.yaml."
        in lab.run("drift", "--detailed-exitcode").out
    )
    machine.end([lab.pids()["b"]])
    generation = lab.status(code=3)["gateway"]["generation"]
    edited = lab.state / "gateway" / generation / "nginx.conf"
    edited.write_text(edited.read_text() + "# by hand\n")
    found = lab.run("drift", str(lab.file), "--json", "--detailed-exitcode", code=2).json
    assert found["applied"]["file"] == "desired/x.yaml"
    told = {one["address"]: one["reason"] for one in found["drift"]}
    assert told.keys() == {"gateway", "instance.b"}
    assert told["gateway"] == "edited by hand: nginx.conf; a reload would read that"
    assert told["instance.b"].startswith("exited: ")
    refreshed = lab.plan("--refresh-only", "--json", "--detailed-exitcode", code=2)
    assert refreshed.json == found
