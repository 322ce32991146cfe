"""list: what the file names, and what of it is on disk."""

from __future__ import annotations

from e2e.lab import Lab


def test_list_shows_every_model_and_its_files(lab: Lab) -> None:
    lab.write(
        {
            "here": {"aliases": ["h"]},
            "gone": {"source": {"path": "models/gone.gguf"}},
            "off": {"state": "absent"},
        }
    )
    done = lab.run("list", "--json")
    rows = {row["name"]: row for row in done.json["models"]}
    assert {name: row["on_disk"] for name, row in rows.items()} == {
        "here": "present",
        "gone": "bad",
        "off": "unknown",
    }
    assert rows["here"]["size_bytes"] == lab.weights.stat().st_size
    assert rows["here"]["path"] == str(lab.weights)
    lines = lab.run("list").out.splitlines()
    assert [line.split()[0] for line in lines] == ["NAME", "gone", "here", "off", "gone:"]
    assert "No such file" in lines[-1]
