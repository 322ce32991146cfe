"""The gateway's templates: the shipped ones, a root's own in their place."""

from __future__ import annotations

from pathlib import Path

import pytest

import reconciler
from reconciler.drivers.templates import NAMES, load_templates, shipped_folder
from reconciler.errors import GatewayError


def test_the_shipped_templates_are_all_there(tmp_path: Path) -> None:
    templates = load_templates(tmp_path)
    assert set(templates) == set(NAMES)
    assert all(templates.values())
    files = {path for path in shipped_folder().rglob("*") if path.is_file()}
    # What is not the gateway's is read by who needs it.
    apart = ("service/", "renders/")
    found = {str(path.relative_to(shipped_folder())) for path in files}
    assert {name for name in found if not name.startswith(apart)} == set(NAMES)


def test_a_roots_own_template_wins_file_by_file(tmp_path: Path) -> None:
    shipped = load_templates(tmp_path)
    (tmp_path / "templates" / "page").mkdir(parents=True)
    (tmp_path / "templates" / "page" / "page.css").write_text("mine")
    (tmp_path / "templates" / "litellm.yaml.j2").write_text("not the gateway's")
    assert load_templates(tmp_path) == {**shipped, "page/page.css": "mine"}


def test_an_unreadable_template_is_an_error_of_the_gateway(tmp_path: Path) -> None:
    (tmp_path / "templates").mkdir()
    (tmp_path / "templates" / "live.js").write_bytes(b"\xff\xfe")
    with pytest.raises(GatewayError, match=r"live\.js cannot be read"):
        load_templates(tmp_path)


def test_a_wheel_carries_them_inside_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkout = shipped_folder()
    package = tmp_path / "reconciler"
    (package / "templates").mkdir(parents=True)
    monkeypatch.setattr(reconciler, "__file__", str(package / "__init__.py"))
    assert shipped_folder() == package / "templates"
    assert checkout.name == "templates"
