"""From the columns of a `Table` to raw integers, and the fitting of a `Feature` to a training column.

A CSV number with d decimal places is parsed exactly and becomes its value times 10**d; NPZ floats are rounded to d
places. A column is numeric if every non-missing training value parses as a number, else it is a category.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from decimal import Context, Decimal

import numpy as np
from numpy.typing import NDArray

from mip2mcu.errors import DatasetError
from mip2mcu.quantizer import (
    DECIMALS_LIMIT,
    RAW_TYPES,
    Affine,
    Feature,
    OneHot,
    fit_affine,
    fit_one_hot,
    fit_thermometer,
    raw_type_for,
)
from mip2mcu.ranges import IntArray
from mip2mcu.tables import MISSING, Column, is_not_finite, is_number

RAW_LIMIT = 2**30
"""Decimal places are dropped rather than let a raw training value exceed this."""
SENSOR_LIMIT = 2**14
"""Floats of unlimited decimal places are rounded to stay below this: 16-bit raw values with a spare bit."""
CATEGORY_LIMIT = 256
"""Most categories of one column; more is free text or an identifier."""

_EXACT = Context(prec=80, Emin=-99999, Emax=99999)


@dataclass(frozen=True)
class FittedColumn:
    """A training column's feature, and what a person should know about it."""

    feature: Feature
    notes: tuple[str, ...]


def fit_column(name: str, column: Column, coding: str, bits: int, common: tuple[int, int] | None) -> FittedColumn:
    """Fit the feature ``name`` on its training column.

    coding    "thermometer", "affine" or "raw" for numbers; categories are always one-hot
    bits      most thermometer bits
    common    for "raw": the range shared by all columns
    """
    if isinstance(column, tuple) and not _is_numeric(name, column):
        return _fit_categories(name, column)
    decimals, exact = _decimals(name, column)
    notes = [] if exact else [f"column {name!r} is rounded to {decimals} decimal places"]
    known = _numbers(name, column, decimals)
    missing = int(np.sort(known)[(len(known) - 1) // 2])
    absent = len(column) - len(known)
    if absent:
        notes.append(f"column {name!r}: {absent} missing values take the median, {_as_decimal(missing, decimals)}")
    low, high = int(known.min()), int(known.max())
    raw_type = _raw_type(column, low, high)
    if coding == "thermometer":
        raw = np.concatenate([known, np.full(absent, missing)])
        return FittedColumn(Feature(name, fit_thermometer(raw, bits), missing, decimals, raw_type), tuple(notes))
    ends = common if coding == "raw" and common is not None else (low, high)
    if coding == "raw" and ends[1] - ends[0] > 255:
        raise DatasetError(
            f"values reach {ends[0]}..{ends[1]}, too wide for raw 8-bit inputs: choose --coding affine or thermometer"
        )
    affine = Affine(*ends) if coding == "raw" else fit_affine(*ends)
    return FittedColumn(Feature(name, affine, missing, decimals, raw_type), tuple(notes))


def raw_column(feature: Feature, column: Column) -> IntArray:
    """Raw integers (rows,) of a column for a fitted feature; text in a numeric column is a `DatasetError`.

    Values beyond the feature's C type are clamped to it (its coding saturates earlier); unseen categories take the
    first index behind the list.
    """
    if isinstance(feature.coding, OneHot):
        index = {category: i for i, category in enumerate(feature.coding.categories)}
        texts = column if isinstance(column, tuple) else tuple(str(v) for v in column.tolist())
        unseen = len(index)
        return np.array([feature.missing if t in MISSING else index.get(t, unseen) for t in texts], dtype=np.int64)
    low, high = RAW_TYPES[feature.raw_type]
    if not isinstance(column, tuple):
        _check_finite(feature.name, column)
        return _round_floats(column, feature.decimals, low, high)
    cache: dict[str, int] = dict.fromkeys(MISSING, feature.missing)
    for k, text in enumerate(column):
        if text not in cache:
            _check_number(feature.name, k, text)
            cache[text] = min(high, max(low, _scaled(text, feature.decimals)))
    return np.array([cache[text] for text in column], dtype=np.int64)


# ---- numbers -------------------------------------------------------------------------------------------------------


def _is_numeric(name: str, column: tuple[str, ...]) -> bool:
    present = {text for text in column if text not in MISSING}
    if not present:
        raise DatasetError(f"column {name!r} has no values at all: remove it")
    if not all(is_number(text) or is_not_finite(text) for text in present):
        return False
    for k, text in enumerate(column):
        if text not in MISSING:
            _check_number(name, k, text)
    return True


def _check_number(name: str, k: int, text: str) -> None:
    if is_not_finite(text):
        raise DatasetError(
            f"column {name!r} holds {text!r} in data row {k + 1}: leave the cell empty if the value is missing"
        )
    if not is_number(text) or len(text) > 60:
        raise DatasetError(f"column {name!r} holds {text[:60]!r} in data row {k + 1}, a number was expected")


def _check_finite(name: str, column: NDArray[np.generic]) -> None:
    if column.dtype.kind == "f" and not np.isfinite(column).all():
        k = int(np.flatnonzero(~np.isfinite(column))[0])
        raise DatasetError(f"feature {name!r} holds {column[k]} in row {k}: remove the row or replace the value")


def _places(text: str) -> int:
    number = Decimal(text).normalize(_EXACT)
    exponent = number.as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0


def _scaled(text: str, decimals: int) -> int:
    """``text`` times 10**decimals as an integer, halves to even; far too large values are cut at 2**40."""
    number = Decimal(text)
    if not number or number.adjusted() + decimals < -2:
        return 0
    if number.adjusted() + decimals > 11:
        return -(2**40) if number < 0 else 2**40
    return int(number.scaleb(decimals, _EXACT).to_integral_value(context=_EXACT))


def _decimals(name: str, column: Column) -> tuple[int, bool]:
    """Decimal places of a training column, and whether they keep every value exactly."""
    if isinstance(column, tuple):
        texts = {text for text in column if text not in MISSING}
        wanted = max(_places(text) for text in texts)
        magnitude = max(abs(_scaled(text, 0)) for text in texts) + 1
        allowed = _allowed_decimals(name, magnitude, RAW_LIMIT)
        return min(wanted, allowed), wanted <= allowed
    _check_finite(name, column)
    if column.dtype.kind != "f":
        _allowed_decimals(name, int(max(abs(int(column.min())), abs(int(column.max())))), RAW_LIMIT)
        return 0, True
    values = column.astype(np.float64)
    magnitude = int(np.ceil(np.abs(values).max()))
    for decimals in range(_allowed_decimals(name, magnitude, RAW_LIMIT) + 1):
        if np.array_equal(np.round(column, decimals), column):
            return decimals, True
    largest = float(np.abs(values).max())
    decimals = DECIMALS_LIMIT
    while decimals > 0 and largest * 10**decimals >= SENSOR_LIMIT:
        decimals -= 1
    return decimals, False


def _allowed_decimals(name: str, magnitude: int, limit: int) -> int:
    if magnitude > limit:
        raise DatasetError(
            f"column {name!r} reaches a magnitude of {magnitude}, beyond {limit}: give it in larger units"
        )
    decimals = 0
    while decimals < DECIMALS_LIMIT and magnitude * 10 ** (decimals + 1) <= limit:
        decimals += 1
    return decimals


def _round_floats(column: NDArray[np.generic], decimals: int, low: int, high: int) -> IntArray:
    if column.dtype.kind != "f":
        scaled = column.astype(np.float64) if column.dtype.itemsize == 8 else column.astype(np.int64)
        return np.clip(scaled * 10**decimals, low, high).astype(np.int64)
    return np.clip(np.rint(column.astype(np.float64) * 10.0**decimals), low, high).astype(np.int64)


def _numbers(name: str, column: Column, decimals: int) -> IntArray:
    """The present values of a training column as raw integers."""
    if isinstance(column, tuple):
        return np.array([_scaled(text, decimals) for text in column if text not in MISSING], dtype=np.int64)
    return _round_floats(column, decimals, -(2**31), 2**31 - 1)


def _raw_type(column: Column, low: int, high: int) -> str:
    if not isinstance(column, tuple) and column.dtype in (np.uint8, np.int8, np.bool_):
        return "int8_t" if column.dtype == np.int8 else "uint8_t"
    return raw_type_for(low, high)


def _as_decimal(raw: int, decimals: int) -> str:
    return str(Decimal(raw).scaleb(-decimals))


# ---- categories ----------------------------------------------------------------------------------------------------


def _fit_categories(name: str, column: tuple[str, ...]) -> FittedColumn:
    present = [text for text in column if text not in MISSING]
    coding = fit_one_hot(present)
    if coding.width > CATEGORY_LIMIT:
        text = next(t for t in present if not is_number(t))
        raise DatasetError(
            f"column {name!r} holds text ({text[:40]!r}) with {coding.width} different values, more than "
            f"{CATEGORY_LIMIT} categories: remove the column, or clean it if it was meant to be numeric"
        )
    if max(len(category) for category in coding.categories) > 1000:
        raise DatasetError(f"column {name!r} holds a category of more than 1000 characters: remove or shorten it")
    most_common = Counter(present).most_common()
    mode = min(t for t, n in most_common if n == most_common[0][1])
    notes = []
    numbers = sum(is_number(text) for text in present)
    if numbers:
        text = next(t for t in present if not is_number(t))
        notes.append(f"column {name!r} is one-hot with {coding.width} categories, because {text[:40]!r} is no number")
    absent = len(column) - len(present)
    if absent:
        notes.append(f"column {name!r}: {absent} missing values take the most frequent category, {mode!r}")
    raw_type = "int16_t"
    return FittedColumn(Feature(name, coding, coding.categories.index(mode), 0, raw_type), tuple(notes))
