"""From the columns of a `Table` to raw integers, and the fitting of a `Feature` to a training column.

A CSV number with d decimal places is parsed exactly and becomes its value times 10**d; NPZ floats are rounded to d
places. A column is numeric if every non-missing training value parses as a number, else it is a category. A `Number`
is exact: its digits as one integer, and a power of ten.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from mip2mcu.errors import DatasetError
from mip2mcu.quantizer import (
    DECIMALS_LIMIT,
    RAW_TYPES,
    Affine,
    Coding,
    Feature,
    OneHot,
    fit_affine,
    fit_one_hot,
    fit_thermometer,
    raw_type_for,
    text_fault,
)
from mip2mcu.ranges import BoolArray, IntArray
from mip2mcu.tables import MISSING, NUMBER, Column, is_not_finite, is_number

RAW_LIMIT = 2**30
"""Decimal places are dropped rather than let a raw training value exceed this."""
SENSOR_LIMIT = 2**14
"""Floats of unlimited decimal places are rounded to stay below this: 16-bit raw values with a spare bit."""
CATEGORY_LIMIT = 256
"""Most categories of one column; more is free text or an identifier."""
DIGIT_LIMIT = 60
"""Longest number in characters."""

_FAR = 2**40
"""Stands for every raw value that is larger still; beyond any C type."""

Number: TypeAlias = tuple[int, int]
"""(digits, power): the value digits * 10**power."""
RowNumber: TypeAlias = Callable[[int], int]
"""Which row of its file a row of a column is, from 1 on; errors name it."""


def in_order(k: int) -> int:
    """The number of row ``k`` where a column has all rows of its file."""
    return k + 1


@dataclass(frozen=True, eq=False)
class NumericColumn:
    """A training column of numbers as raw integers.

    raw        int64 (rows,): value times 10**decimals, 0 where missing
    present    bool (rows,): False where missing
    exact      False where decimal places were dropped
    raw_type   C type of a raw value
    """

    raw: IntArray
    present: BoolArray
    decimals: int
    exact: bool
    raw_type: str

    @property
    def known(self) -> IntArray:
        """The values that are present."""
        return self.raw[self.present]


@dataclass(frozen=True, eq=False)
class FittedColumn:
    """A training column's feature, its raw integers (rows,), and what a person should know about it."""

    feature: Feature
    raw: IntArray
    notes: tuple[str, ...]


def _missing(count: int) -> str:
    return "1 missing value takes" if count == 1 else f"{count} missing values take"


def numeric_column(name: str, column: Column, number: RowNumber = in_order) -> NumericColumn | None:
    """The raw integers of a training column, or None where it holds categories."""
    if not isinstance(column, tuple):
        return _numeric_array(name, column, number)
    numbers = _training_numbers(name, column, number)
    return None if numbers is None else _numeric_texts(name, column, numbers)


def fit_numbers(
    name: str, column: NumericColumn, coding: str, bits: int, common: tuple[int, int] | None = None
) -> FittedColumn:
    """Fit the numeric feature ``name``.

    coding    "thermometer", "affine" or "raw"
    bits      most thermometer bits
    common    for "raw": the range shared by all columns
    """
    known = column.known
    missing = int(np.sort(known)[(len(known) - 1) // 2])
    absent = len(column.raw) - len(known)
    low, high = int(known.min()), int(known.max())
    notes = [] if column.exact else [f"column {name!r} is rounded to {column.decimals} decimal places"]
    if absent:
        median = f"{Decimal(missing).scaleb(-column.decimals):f}"
        notes.append(f"column {name!r}: {_missing(absent)} the median, {median}")
    raw = np.where(column.present, column.raw, missing)
    coded: Coding
    if coding == "thermometer":
        coded = fit_thermometer(raw, bits)
    elif coding == "raw" and common is not None:
        coded = Affine(*common)
    else:
        coded = fit_affine(low, high)
    return FittedColumn(Feature(name, coded, missing, column.decimals, column.raw_type), raw, tuple(notes))


def fit_categories(name: str, column: tuple[str, ...]) -> FittedColumn:
    """Fit the one-hot feature ``name`` on its training column of texts."""
    counts = Counter(text for text in column if text not in MISSING)
    if len(counts) > CATEGORY_LIMIT:
        text = next(t for t in counts if not is_number(t))
        raise DatasetError(
            f"column {name!r} holds text ({text[:40]!r}) with {len(counts)} different values, more than "
            f"{CATEGORY_LIMIT} categories: remove the column, or clean it if it was meant to be numeric"
        )
    for text in counts:
        if fault := text_fault(text):
            raise DatasetError(f"column {name!r} holds a category {text[:40]!r} that {fault}: remove or replace it")
    coding = fit_one_hot(list(counts))
    most = max(counts.values())
    mode = min(text for text, count in counts.items() if count == most)
    notes = []
    if any(is_number(text) for text in counts):
        text = next(t for t in counts if not is_number(t))
        notes.append(f"column {name!r} is one-hot with {coding.width} categories, because {text[:40]!r} is no number")
    absent = len(column) - counts.total()
    if absent:
        notes.append(f"column {name!r}: {_missing(absent)} the most frequent category, {mode!r}")
    feature = Feature(name, coding, coding.categories.index(mode), 0, "int16_t")
    return FittedColumn(feature, raw_column(feature, column), tuple(notes))


def raw_column(feature: Feature, column: Column, number: RowNumber = in_order) -> IntArray:
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
        _check_finite(feature.name, column, number)
        return _round_floats(column, feature.decimals, low, high)
    raw: dict[str, int] = dict.fromkeys(MISSING, feature.missing)
    for text in dict.fromkeys(column):
        if text not in MISSING:
            value = _number(text)
            if value is None:
                raise _no_number(feature.name, column, text, number)
            raw[text] = min(high, max(low, _scaled(value, feature.decimals)))
    return np.array([raw[text] for text in column], dtype=np.int64)


def whole_column(name: str, column: Column, number: RowNumber = in_order) -> IntArray:
    """The integers (rows,) of a column that is taken as it is; anything else is a `DatasetError`."""
    if not isinstance(column, tuple):
        _check_finite(name, column, number)
        if column.dtype.kind == "f" and (column != np.trunc(column)).any():
            value = column[np.flatnonzero(column != np.trunc(column))[0]]
            raise DatasetError(f"column {name!r} holds {value}, an integer was expected: leave out --input-range")
        return _round_floats(column, 0, -_FAR, _FAR)
    values: dict[str, int] = {}
    for text in dict.fromkeys(column):
        if text in MISSING:
            raise DatasetError(
                f"column {name!r} has no value in data row {_first(column, text, number)}: "
                "leave out --input-range to have missing values imputed"
            )
        value = _number(text)
        if value is None:
            raise _no_number(name, column, text, number)
        if _places(value):
            raise DatasetError(f"column {name!r} holds {text}, an integer was expected: leave out --input-range")
        values[text] = _scaled(value, 0)
    return np.array([values[text] for text in column], dtype=np.int64)


# ---- numbers as text -----------------------------------------------------------------------------------------------


def _number(text: str) -> Number | None:
    match = NUMBER.fullmatch(text) if len(text) <= DIGIT_LIMIT else None
    if match is None:
        return None
    sign, whole, fraction, power = match.groups(default="")
    return int(f"{sign}0{whole}{fraction}"), int(power or 0) - len(fraction)


def _first(column: tuple[str, ...], text: str, number: RowNumber) -> int:
    """Number of the first row of the file, among those of ``column``, that holds ``text``."""
    return min(number(k) for k, entry in enumerate(column) if entry == text)


def _no_number(name: str, column: tuple[str, ...], text: str, number: RowNumber) -> DatasetError:
    row = _first(column, text, number)
    if is_not_finite(text):
        return DatasetError(
            f"column {name!r} holds {text!r} in data row {row}: leave the cell empty if the value is missing"
        )
    expected = f"a number of at most {DIGIT_LIMIT} characters"
    return DatasetError(f"column {name!r} holds {text[:60]!r} in data row {row}, {expected} was expected")


def _training_numbers(name: str, column: tuple[str, ...], number: RowNumber) -> dict[str, Number] | None:
    """The number of each distinct text that is present; None where one of them is a category."""
    numbers: dict[str, Number] = {}
    wrong: str | None = None
    present = [text for text in dict.fromkeys(column) if text not in MISSING]
    for text in present:
        value = _number(text)
        if value is not None:
            numbers[text] = value
        elif is_number(text) or is_not_finite(text):
            wrong = wrong or text
        else:
            return None
    if not present:
        raise DatasetError(f"column {name!r} has no values at all: remove it")
    if wrong is not None:
        raise _no_number(name, column, wrong, number)
    return numbers


def _numeric_texts(name: str, column: tuple[str, ...], numbers: dict[str, Number]) -> NumericColumn:
    wanted = max(_places(number) for number in numbers.values())
    largest = max(numbers, key=lambda text: abs(float(text)))
    allowed = _allowed_decimals(name, abs(float(largest)), largest)
    decimals = min(wanted, allowed)
    raw = {text: _scaled(number, decimals) for text, number in numbers.items()}
    return NumericColumn(
        raw=np.array([raw.get(text, 0) for text in column], dtype=np.int64),
        present=np.array([text in raw for text in column]),
        decimals=decimals,
        exact=wanted <= allowed,
        raw_type=raw_type_for(min(raw.values()), max(raw.values())),
    )


def _places(number: Number) -> int:
    """Decimal places that keep ``number`` exactly."""
    digits, power = number
    while digits and power < 0 and digits % 10 == 0:
        digits, power = digits // 10, power + 1
    return max(0, -power) if digits else 0


def _scaled(number: Number, decimals: int) -> int:
    """``number`` times 10**decimals as an integer, halves to even, cut at +-`_FAR`."""
    digits, power = number[0], number[1] + decimals
    if power >= 0:
        return max(-_FAR, min(_FAR, digits * 10 ** min(power, 13)))
    divisor = 10 ** min(-power, DIGIT_LIMIT + 2)
    quotient, rest = divmod(digits, divisor)
    if 2 * rest > divisor or (2 * rest == divisor and quotient % 2):
        quotient += 1
    return max(-_FAR, min(_FAR, quotient))


def _allowed_decimals(name: str, largest: float, shown: str) -> int:
    """Decimal places for which values up to ``largest`` stay within `RAW_LIMIT`."""
    if largest > RAW_LIMIT:
        raise DatasetError(f"column {name!r} holds {shown}, beyond +-{RAW_LIMIT}: give it in larger units")
    decimals = 0
    while decimals < DECIMALS_LIMIT and largest * 10 ** (decimals + 1) <= RAW_LIMIT:
        decimals += 1
    return decimals


# ---- numbers of an NPZ ---------------------------------------------------------------------------------------------


def _check_finite(name: str, column: NDArray[np.generic], number: RowNumber) -> None:
    if column.dtype.kind == "f" and not np.isfinite(column).all():
        k = min(np.flatnonzero(~np.isfinite(column)).tolist(), key=number)
        raise DatasetError(f"column {name!r} holds {column[k]} in row {number(k)}: remove the row or replace the value")


def _numeric_array(name: str, column: NDArray[np.generic], number: RowNumber) -> NumericColumn:
    _check_finite(name, column, number)
    low, high = column.min(), column.max()
    largest = max(-float(low), float(high))
    allowed = _allowed_decimals(name, largest, f"{largest:.9g}")
    decimals, exact = 0, True
    if column.dtype.kind == "f":
        decimals, exact = _float_decimals(column, largest, allowed)
    raw = _round_floats(column, decimals, -_FAR, _FAR)
    if column.dtype in (np.uint8, np.int8, np.bool_):
        raw_type = "int8_t" if column.dtype == np.int8 else "uint8_t"
    else:
        raw_type = raw_type_for(int(raw.min()), int(raw.max()))
    return NumericColumn(raw, np.ones(len(raw), dtype=np.bool_), decimals, exact, raw_type)


def _float_decimals(column: NDArray[np.generic], largest: float, allowed: int) -> tuple[int, bool]:
    """Decimal places of floats, and whether they keep every value; floats without end keep 16-bit raw values."""
    with np.errstate(over="ignore", invalid="ignore"):
        for decimals in range(allowed + 1):
            if np.array_equal(np.round(column, decimals), column):
                return decimals, True
    decimals = DECIMALS_LIMIT
    while decimals > 0 and largest * 10**decimals >= SENSOR_LIMIT:
        decimals -= 1
    return decimals, False


def _round_floats(column: NDArray[np.generic], decimals: int, low: int, high: int) -> IntArray:
    if column.dtype.kind == "f" or column.dtype.itemsize == 8:
        with np.errstate(over="ignore"):
            scaled = column.astype(np.float64) * 10.0**decimals
        return np.clip(np.rint(scaled), low, high).astype(np.int64)
    return np.clip(column.astype(np.int64) * 10**decimals, low, high)
