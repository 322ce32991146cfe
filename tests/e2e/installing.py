"""What installs llm-reconcile where a page says so: pip's part of it, and nothing of the world.

In: the home of a reader. Out: a checkout there, as a repository too; a `pipx` that installs into
an environment of its own, as pipx does, what the tests run with already standing for an index.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from doc_pages import ROOT

CHECKOUT = "/path/to/llm-reconcile"
REPOSITORY = "https://HOST/PATH/llm-reconcile"
_PIPX = """#!/bin/sh
set -eu
test "$1" = install
venv="$HOME/.local/share/pipx/venvs/llm-reconcile"
{python} -m venv --without-pip --clear "$venv"
for site in "$venv"/lib/python*/site-packages; do echo "{packages}" > "$site/here.pth"; done
{python} -m pip --python "$venv/bin/python" install --quiet --disable-pip-version-check \\
    --no-index --no-build-isolation --no-warn-conflicts "$2"
mkdir -p "$HOME/.local/bin"
ln -sf "$venv/bin/llm-reconcile" "$HOME/.local/bin/"
"""


def prepare(home: Path) -> dict[str, str]:
    """Make all that in a home; the variables by which git finds the repository."""
    checkout = home / "checkout"
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file() and not name.startswith(("tests/", "docs/")):
            (checkout / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, checkout / name)
    who = ("-c", "user.name=Ann", "-c", "user.email=ann@example.org")
    for words in (("init", "-q"), ("add", "."), (*who, "commit", "-qm", "All")):
        subprocess.run(["git", *words], cwd=checkout, check=True)
    # Without the one that is installed here.
    packages = home / "packages"
    packages.mkdir()
    for one in Path(sysconfig.get_path("purelib")).iterdir():
        if "llm_reconcile" not in one.name:
            (packages / one.name).symlink_to(one)
    pipx = home / "bin" / "pipx"
    pipx.parent.mkdir(exist_ok=True)
    pipx.write_text(_PIPX.format(python=sys.executable, packages=packages))
    pipx.chmod(0o755)
    return {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.file://{checkout}.insteadOf",
        "GIT_CONFIG_VALUE_0": REPOSITORY,
    }
