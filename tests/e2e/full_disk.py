"""A root whose state folder lies on a small disk of its own that is full: for test_errno.

In: the lab's folder, a model, which of the disk's two resources runs out. Out: exit 0, or a failed
assertion. It runs in a mount namespace: nobody else sees the disk, and it goes with the process.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from e2e.lab import FAKE_ENGINE, Lab
from e2e.matrix import EDIT
from e2e.rest import assert_at_rest, assert_no_file_is_torn


def fill_blocks(disk: Path) -> None:
    with (disk / "ballast").open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            return


def fill_inodes(disk: Path) -> None:
    (disk / "ballast").touch()
    for number in range(10**6):
        try:
            (disk / f"ballast-{number}").symlink_to("ballast")
        except OSError:
            return


FILL: dict[str, Callable[[Path], None]] = {"blocks": fill_blocks, "inodes": fill_inodes}


def main() -> None:
    folder, weights, resource = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    lab = Lab(folder, weights, engine=dict(FAKE_ENGINE))
    disk = folder / "s"
    EDIT.there.prepare(lab, 1)
    lab.apply()
    before, nginx = lab.pids(), lab.nginx()
    FILL[resource](disk)
    EDIT.back.prepare(lab, 2)
    said = lab.run(*EDIT.back.words, code=3).err
    assert "No space left on device" in said, said
    assert "make room on that disk" in said, said
    assert "Errno" not in said, said
    assert_no_file_is_torn(lab)
    assert lab.nginx().master == nginx.master
    assert lab.servers()["keep"] == [before["keep"]]
    for name in ("keep", "sur"):
        assert lab.complete(name).status == 200, name
    # Stopping must work, of all things.
    lab.run("stop", "keep")
    assert "keep" not in lab.servers()
    for path in disk.glob("ballast*"):
        path.unlink()
    lab.run("start", "keep")
    lab.run(*EDIT.back.words)
    assert lab.apply().out.startswith("No changes.")
    # While there was no room nothing could be noted; what was noted is whole.
    found = lab.run("history", "--json").json["records"]
    assert {one["outcome"] for one in found if one["verb"] == "start"} == {"applied"}, found
    assert found[-1]["outcome"] == "applied", found
    assert_at_rest(lab, EDIT.back.after)
    assert lab.close() == []


if __name__ == "__main__":
    main()
