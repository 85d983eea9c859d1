"""Made by `python -m benchmarks.fit_costs`; see `mip2mcu.export.costs`. Do not edit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

Parts: TypeAlias = Mapping[str, float]

COSTS: Mapping[str, Mapping[str, tuple[Parts, Parts, int]]] = {}
"""By core and item: instructions a turn of each part, bytes a statement of each part, bytes of stack."""
