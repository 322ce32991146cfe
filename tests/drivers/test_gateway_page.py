"""The status page as nginx serves it: its files, who may read them, what stands in them by itself.

What a browser makes of them is tested in test_page.py.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from gateway_rig import Answer, Rig, rig

from reconciler.drivers.templates import PAGE

FILES = [f"/page/{name}" for name in PAGE if not name.endswith(".j2")]
TYPES = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml", "/": "text/html"}
LARGEST = 150 * 1000
MARKUP = "<img/src=x/onerror=alert(1)>"


@pytest.fixture(scope="module")
def world() -> Iterator[Rig]:
    with rig() as made:
        made.apply(made.render({"alpha": {"quant": "Q8_0", "aliases": (MARKUP,)}, "zero": {}}))
        yield made


def get(world: Rig, path: str, **headers: str) -> Answer:
    return world.ask(
        "GET", path, headers={name.replace("_", "-"): headers[name] for name in headers}
    )


@pytest.mark.parametrize("path", ["/", *FILES])
def test_each_file_has_its_type_and_may_load_nothing_from_elsewhere(world: Rig, path: str) -> None:
    answer = get(world, path)
    assert answer.status == 200
    assert answer.headers["content-type"] == TYPES[path.rpartition(".")[2]]
    assert answer.headers["x-content-type-options"] == "nosniff"
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert set(re.findall(r"(?:script|style|connect|img)-src ([^;]*)", policy)) == {"'self'"}


@pytest.mark.parametrize("path", ["/", "/page/main.js"])
def test_a_browser_asks_whether_a_file_changed_and_gets_it_once(world: Rig, path: str) -> None:
    first = get(world, path)
    assert first.headers["cache-control"] == "no-cache"
    again = get(world, path, If_None_Match=first.headers["etag"])
    assert (again.status, again.body) == (304, b"")


def test_the_page_is_small_and_names_no_other_host(world: Rig) -> None:
    texts = [get(world, path).body for path in ("/", *FILES)]
    assert 10_000 < sum(map(len, texts)) < LARGEST
    allowed = {b"http://www.w3.org/2000/svg", b"http://127.0.0.1:%d/api/models" % world.listen}
    assert set(re.findall(rb"https?://[\w.:/-]+", b"".join(texts))) <= allowed


def test_every_file_that_a_script_names_is_served(world: Rig) -> None:
    scripts = [name for name in PAGE if name.endswith(".js")]
    named = {"main.js"}
    for name in scripts:
        named |= set(re.findall(r"from '\./([^']+)'", get(world, f"/page/{name}").body.decode()))
    assert named == set(scripts)


@pytest.mark.parametrize("path", ["/page/x.js", "/page/live.js", "/page/../live.js", "/page"])
def test_nothing_else_of_the_folder_is_served(world: Rig, path: str) -> None:
    assert get(world, path).status in {400, 404}


def test_without_scripts_it_is_a_table_of_what_is_wanted(world: Rig) -> None:
    page = get(world, "/").body.decode()
    assert "&lt;img/src=x/onerror=alert(1)&gt;" in page
    assert MARKUP not in page
    rows = re.findall(r"<tr>\s*(<th scope=\"row\">.*?)</tr>", page, re.DOTALL)
    cells = [re.findall(r"<t[hd][^>]*>(?:<code>)?([^<]*)", row) for row in rows]
    assert [row[0].strip() for row in cells] == ["alpha", "zero"]
    assert cells[0][1:] == ["running", "Q8_0", "-", "/api/alpha/v1"]


def test_with_keys_its_files_are_public_and_hold_nothing_of_the_models() -> None:
    with rig() as made:
        keys = Path(made.site.root) / "secrets" / "keys"
        keys.parent.mkdir(parents=True)
        keys.write_text("alice:alice-key-1\n")
        keys.chmod(0o600)
        models = {"alpha": {"quant": "Q8_0", "aliases": (MARKUP,)}}
        made.apply(made.render(models, keys_file="secrets/keys"))
        for path in ("/", *FILES):
            answer = get(made, path)
            assert answer.status == 200, path
            assert b"alpha" not in answer.body, path
            assert b"Q8_0" not in answer.body, path
        assert b"Authorization: Bearer" in get(made, "/").body
        assert get(made, "/page/x.css").status == 404
        assert get(made, "/page/index.html").status == 401
        assert get(made, "/page/").status == 401


def test_what_somebody_changed_in_the_served_files_is_put_right(world: Rig) -> None:
    rendered = world.render({"alpha": {"quant": "Q8_0", "aliases": (MARKUP,)}, "zero": {}})
    folder = Path(world.site.gateway, rendered.generation)
    (folder / "logs.js").write_text("something else")
    (folder / "live.js").unlink()
    shutil.rmtree(folder / "page")
    assert get(world, "/page/main.js").status == 404
    world.apply(rendered)
    assert get(world, "/page/main.js").status == 200
    for name, text in rendered.files.items():
        assert (folder / name).read_text(encoding="utf-8") == text
