"""Graphics cards in words, and what a model says of them, also what cannot be.

In: cards, a model, flags. Out: text. What they can hold is judged in `core.capacity`.
It must not guess: a card that is named by its UUID may well be there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from reconciler.core.desired import Model
from reconciler.core.engine import Flag
from reconciler.core.present import human_bytes
from reconciler.core.resources import ObservedGpu

VISIBLE = "CUDA_VISIBLE_DEVICES"
_LAYERS = ("n-gpu-layers", "gpu-layers", "ngl")


def cards_text(cards: Iterable[ObservedGpu]) -> str:
    """What there is, equal ones once: `2 x NVIDIA H100 80GB HBM3 (79.6 GiB)`."""
    counted = Counter(_card(card) for card in cards)
    return ", ".join(f"{count} x {name}" if count > 1 else name for name, count in counted.items())


def asks_for_cards(flags: Iterable[Flag]) -> bool:
    """Whether these flags say that layers are to be on a card, not only that they may be."""
    said = [(flag.values or ("",))[-1] for flag in flags if flag.name in _LAYERS]
    return bool(said) and said[-1] not in {"0", "auto"}


def number_of_no_card(model: Model, count: int) -> str:
    """What is wrong with the numbers by which a model chooses its cards; empty: nothing is."""
    words = [word.strip() for word in model.env.get(VISIBLE, "").split(",")]
    wrong = [word for word in words if word.isdigit() and int(word) >= count]
    if not count or not wrong:
        return ""
    return f"there is no card {wrong[0]} as its {VISIBLE} says; the last one is {count - 1}"


def _card(card: ObservedGpu) -> str:
    return f"{card.name} ({human_bytes(card.memory_bytes)})" if card.memory_bytes else card.name
