"""The formulations by name."""

from __future__ import annotations

from dataclasses import dataclass

from mip2mcu.train.bdnn import Bdnn
from mip2mcu.train.bemi import Bemi
from mip2mcu.train.formulation import Formulation
from mip2mcu.train.inn import Inn
from mip2mcu.train.linear import Linear
from mip2mcu.train.smooth import Smooth


@dataclass(frozen=True)
class Entry:
    """A formulation's options class, the ensemble it uses for several classes by default, and a line for people."""

    options: type[Formulation]
    ensemble: str
    summary: str


FORMULATIONS: dict[str, Entry] = {
    "linear": Entry(
        Linear,
        "pairs",
        "integer or binary weights, no hidden layer: soft margin, then fewest non-zero weights",
    ),
    "inn": Entry(
        Inn, "none", "hidden layers of sign units, integer or binary weights: five objectives, fewest errors by default"
    ),
    "bemi": Entry(
        Bemi,
        "pairs",
        "hidden layers of sign units: most confident samples, then widest margins, then fewest links",
    ),
    "bdnn": Entry(
        Bdnn, "pairs", "binary activations: exact, local search or data splitting; continuous weights; robust training"
    ),
    "smooth": Entry(
        Smooth,
        "pairs",
        "no hidden layer: few weights near a unit that learns from all classes' rows and from neighbouring inputs",
    ),
}
