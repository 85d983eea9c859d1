"""How many units stay: from a budget to units of each layer.

    0.6, "60 %"              this share of each layer's units, to the nearest
    "24,12"                  so many units of each layer
    "36"                     so many units in all
    "2000 bytes", "2k"       so many bytes of quantised parameters in all

Budgets for all layers give each the same share, the largest that fits. Kept units come in multiples of ``multiple``, as
vector kernels like them; a layer that is narrower stays whole.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import suppress

from mip2mcu.errors import UsageError
from mip2mcu.prune.float_network import FloatNetwork

STEPS = 1000
"""Shares that are tried for budgets of all layers together, evenly spread."""
_BYTES = re.compile(r"(\d{1,12})\s*(?:(k)(?:b|bytes)?|b|bytes)", re.IGNORECASE | re.ASCII)
_UNITS = re.compile(r"\d{1,9}(\s*,\s*\d{1,9})*", re.ASCII)

Cost = Callable[[Sequence[int]], int]
"""What units of each layer cost."""


def kept_units(network: FloatNetwork, keep: float | str, multiple: int = 1) -> tuple[int, ...]:
    """Units of each prunable layer that ``keep`` leaves; raises `UsageError` where it leaves a layer none."""
    if not isinstance(keep, str):
        return counts_for(network.widths, keep, multiple)
    text = keep.strip()
    if found := _BYTES.fullmatch(text):
        most = int(found[1]) * (1024 if found[2] else 1)
        return largest(network, multiple, most, lambda counts: bytes_for(network, counts), "bytes of parameters")
    if _UNITS.fullmatch(text):
        units = [int(part) for part in text.split(",")]
        return _units(network, units, multiple)
    return counts_for(network.widths, _share(text), multiple)


def _share(text: str) -> float:
    with suppress(ValueError):
        share = float(text.removesuffix("%")) / 100 if text.endswith("%") else float(text)
        if not share < 0:
            return share
    raise nothing_to_keep(text)


def nothing_to_keep(keep: object) -> UsageError:
    """For a budget that is none."""
    return UsageError(
        f"{keep!r} is nothing to keep: give a share such as 60%, units such as 36 or 24,12, or 2000 bytes"
    )


def _units(network: FloatNetwork, units: Sequence[int], multiple: int) -> tuple[int, ...]:
    widths = network.widths
    if len(units) == 1 and len(widths) > 1:
        if units[0] > sum(widths):
            raise UsageError(f"there are {sum(widths)} units, not {units[0]}: give fewer, or a share such as 60%")
        return largest(network, multiple, units[0], sum, "units")
    if len(units) != len(widths):
        raise UsageError(f"{len(units)} numbers of units for {len(widths)} hidden layers: give one each, or one in all")
    _check_multiple(widths, multiple)
    for count, width in zip(units, widths, strict=True):
        if not 1 <= count <= width:
            raise UsageError(f"{count} of {width} units cannot be kept: give a number from 1 to {width}")
        if count % min(multiple, width):
            raise UsageError(f"{count} units are no multiple of {multiple}: give one, or leave the multiple out")
    return tuple(units)


def largest(network: FloatNetwork, multiple: int, most: int, cost: Cost, what: str) -> tuple[int, ...]:
    """Units of each layer with the largest share, the same for all, whose cost is at most ``most``, by bisection.

    Raises `UsageError` with the least possible cost where that is more.
    """
    shares = _possible(network.widths, multiple)
    least = cost(shares[0])
    if least > most:
        raise UsageError(f"{most:,} {what} are too few: the smallest share possible takes {least:,}")
    fits, beyond = 0, len(shares)
    while beyond - fits > 1:
        middle = (fits + beyond) // 2
        fits, beyond = (middle, beyond) if cost(shares[middle]) <= most else (fits, middle)
    return shares[fits]


def _possible(widths: Sequence[int], multiple: int) -> list[tuple[int, ...]]:
    """What `counts_for` gives for all shares, ascending."""
    found = []
    for step in range(1, STEPS + 1):
        with suppress(UsageError):
            found.append(counts_for(widths, step / STEPS, multiple))
    return list(dict.fromkeys(found)) or [counts_for(widths, 1.0, multiple)]


def counts_for(widths: Sequence[int], share: float, multiple: int = 1) -> tuple[int, ...]:
    """Units to keep of layers of ``widths``, the same ``share`` of each, rounded to a ``multiple``.

    Raises `UsageError` where a layer would be left without any.
    """
    if not 0 < share <= 1:
        raise UsageError(f"a share of {100 * share:g} % cannot be kept: give one between 0 and 100 %")
    _check_multiple(widths, multiple)
    wide = [width for width in widths if width >= multiple]
    counts = [
        min(width, multiple * int(share * width / multiple + 0.5)) if width in wide else width for width in widths
    ]
    if min(counts, default=1) < 1:
        least = max(multiple / (2 * width) for width in wide)
        raise UsageError(
            f"keeping {100 * share:g} % empties a layer of {widths[counts.index(0)]} units: the smallest share "
            f"possible is {-(-1000 * least // 1) / 10:g} %"
        )
    return tuple(counts)


def _check_multiple(widths: Sequence[int], multiple: int) -> None:
    if multiple < 1:
        raise UsageError(f"units cannot come in multiples of {multiple}: give a number of at least 1")
    if widths and multiple > max(widths):
        raise UsageError(
            f"units cannot come in multiples of {multiple} where the widest of all hidden layers has {max(widths)}: "
            f"give a number of at most {max(widths)}"
        )


def too_narrow(widths: Sequence[int], multiple: int) -> list[str]:
    """What is to be said about layers with fewer units than ``multiple``."""
    narrow = [str(width) for width in widths if width < multiple]
    return [f"layers of {', '.join(narrow)} units are narrower than {multiple}: they stay whole"] if narrow else []


def bytes_for(network: FloatNetwork, counts: Sequence[int]) -> int:
    """Bytes of the quantised parameters with ``counts`` units: 1 a weight, 4 a bias, 4 a requantisation."""
    units = dict(zip(network.prunable, counts, strict=True))
    total, before = 0, 1.0
    for k in network.weighted:
        layer = network.at(k)
        own = units.get(k, layer.units)
        total += round(own * layer.matrix.shape[1] * before) + own * (8 if k in units else 4)
        before = own / layer.units
    return total
