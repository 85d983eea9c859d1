"""How the size of a change of raw features is measured, and how people are told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mip2mcu.ranges import IntArray


@dataclass(frozen=True)
class Norm:
    """One measure.

    size     of a change (features,) in raw integers
    meaning  what a radius allows, as a sentence's end
    axis     what a picture's axis of radii says
    """

    size: Callable[[IntArray], int]
    meaning: str
    axis: str


NORMS: dict[str, Norm] = {
    "linf": Norm(
        lambda change: int(np.abs(change).max(initial=0)),
        "every feature moves by at most the radius, in raw integers",
        "radius: raw integers that each feature moves",
    ),
    "l1": Norm(
        lambda change: int(np.abs(change).sum()),
        "all features together move by at most the radius, in raw integers",
        "radius: raw integers that all features move",
    ),
    "l0": Norm(
        lambda change: int(np.count_nonzero(change)),
        "at most so many features take any other value",
        "radius: features that take any value",
    ),
}
