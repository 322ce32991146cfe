"""What the machine refused, in plain words."""

from __future__ import annotations

import errno
import os

import pytest

from reconciler.core.os_errors import explain_os, in_one_line
from reconciler.errors import StateFolderError


@pytest.mark.parametrize(
    ("number", "reason", "hint"),
    [
        (errno.ENOSPC, "No space left on device", "make room"),
        (errno.EACCES, "Permission denied", "let this user"),
        (errno.EIO, "Input/output error", "dmesg"),
        (errno.EMFILE, "Too many open files", "ulimit -n"),
        (errno.ENOEXEC, "Exec format error", "try it by hand"),
    ],
)
def test_an_error_names_its_file_its_reason_and_what_to_do(
    number: int, reason: str, hint: str
) -> None:
    message, advice = explain_os(OSError(number, os.strerror(number), "/x/y"))
    assert message == f"/x/y: {reason}"
    assert hint in advice


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(errno.EIO, "Input/output error"), "Input/output error"),
        (OSError("its --help died of SIGSEGV"), "its --help died of SIGSEGV"),
        (OSError(), "OSError"),
    ],
)
def test_an_error_that_knows_less_says_what_it_knows(error: OSError, message: str) -> None:
    assert explain_os(error)[0] == message


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError(errno.ENOSPC, "full", "/x"), "/x: full; make room on that disk, then do it again"),
        (StateFolderError("it is gone", hint="make it"), "it is gone; make it"),
        (StateFolderError("it is gone"), "it is gone"),
    ],
)
def test_an_error_has_its_hint_beside_it(error: OSError | StateFolderError, line: str) -> None:
    assert in_one_line(error) == line
