"""What runs leave to be read: the real files, and the fake of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from fake_records import FakeRecords

from reconciler.core.pending import Noted, Status
from reconciler.core.plan import ResourceType
from reconciler.core.site import Site
from reconciler.drivers.base_records import Records
from reconciler.drivers.records import RunRecords

PENDING = (Noted(ResourceType.INSTANCE, "a", "create", "it died"),)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(str(tmp_path / "root"), str(tmp_path / "state"), "desired/x.yaml")


@pytest.fixture(params=["real", "fake"])
def records(request: pytest.FixtureRequest, site: Site) -> Records:
    return RunRecords(site) if request.param == "real" else FakeRecords()


def test_what_is_published_is_read_again(records: Records) -> None:
    assert records.status() == Status()
    for status in (Status(1.5, "x.yaml", PENDING), Status(2.5, "x.yaml")):
        records.publish(status)
        assert records.status() == status


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe"])
def test_a_broken_file_is_as_none(site: Site, content: bytes) -> None:
    path = Path(site.gateway) / "status.json"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    assert RunRecords(site).status() == Status()
