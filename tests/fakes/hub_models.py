"""Models of the desired file that come from a hub, for the tests of its driver.

In: what the file says of one. Out: a `Model`.
"""

from __future__ import annotations

from typing import Any

from reconciler.core.desired import Model


def asked(repo: str, revision: str, quant: str, **source: Any) -> Model:
    """One model, as the file asks for it."""
    whole = {"repo": repo, "revision": revision, **source}
    return Model.model_validate({"source": whole, "quant": quant})
