"""Variables of a server's environment, as another program sets them, as `env` of a model.

In: names and values. Out: `env` of a `Carried`. A variable whose name sounds like a secret, or
whose value has a URL with a password, is named and never shown nor written. What is not the
user's to set is found by `settle`.
"""

from __future__ import annotations

from collections.abc import Iterable

from reconciler.core.engine import sounds_secret
from reconciler.core.importing.carried import HIDDEN, NOT_SHOWN, Carried
from reconciler.core.text import PASSWORD
from reconciler.core.yaml_text import Raw


def take_variables(model: Carried, pairs: Iterable[tuple[str, str, str]]) -> None:
    """Let a model have these variables: name, value, place."""
    for name, value, where in pairs:
        if sounds_secret(name) or HIDDEN in value or PASSWORD.search(value):
            hint = "set it in the environment of what needs it, or in `env` by hand"
            model.remark(where, f"the variable `{name}` is {NOT_SHOWN}", hint)
        else:
            model.put(("env", name), Raw(value), where)
