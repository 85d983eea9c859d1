"""Columns become raw integers: exact decimals, fitted features, and texts that were no numbers."""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Context, Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mip2mcu.columns import (
    CATEGORY_LIMIT,
    fit_categories,
    fit_numbers,
    numeric_column,
    raw_column,
    whole_column,
)
from mip2mcu.errors import DatasetError
from mip2mcu.quantizer import Affine, Feature, OneHot, Thermometer
from mip2mcu.tables import is_number

WIDE = Context(prec=200, Emin=-99999, Emax=99999)
NUMBERS = st.decimals(-1000, 1000, allow_nan=False, allow_infinity=False, places=4).map(str)


def is_short(text):
    """A number that a cell may hold: at most 60 characters and four digits of exponent."""
    return is_number(text) and len(text) <= 60


def numbers(*texts):
    """Raw values and decimal places of a column of texts."""
    column = numeric_column("t", texts)
    return column.raw.tolist(), column.decimals


# ---- texts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("texts", "raw", "decimals"),
    [
        (("1", "-2", "+3"), [1, -2, 3], 0),
        (("1.5", "2"), [15, 20], 1),
        (("1.50", "2.000"), [15, 20], 1),
        (("0.1", "0.25", ".125"), [100, 250, 125], 3),
        (("1e2", "1.5e1", "2E-1"), [1000, 150, 2], 1),
        (("1500e-2", "3"), [15, 3], 0),
        (("0", "-0.0", "0e9", "0e-99"), [0, 0, 0, 0], 0),
        (("007", "1."), [7, 1], 0),
    ],
)
def test_decimals_are_parsed_exactly(texts, raw, decimals):
    assert numbers(*texts) == (raw, decimals)


def test_tenths_have_no_binary_residue():
    assert numbers(*(f"0.{i}" for i in range(10)), "1e-9")[0][:4] == [0, 10**8, 2 * 10**8, 3 * 10**8]


@given(st.lists(NUMBERS, min_size=1, max_size=20))
def test_raw_values_are_the_decimals_times_a_power_of_ten(texts):
    raw, decimals = numbers(*texts)
    assert [Decimal(value).scaleb(-decimals) for value in raw] == [Decimal(text) for text in texts]


@given(st.decimals(allow_nan=False, allow_infinity=False).map(str).filter(is_short), st.integers(0, 9))
def test_values_of_later_data_are_rounded_halves_to_even(text, decimals):
    (value,) = raw_column(Feature("t", Affine(0, 9), 0, decimals), (text,)).tolist()
    exact = max(Decimal(-(10**10)), min(Decimal(10**10), Decimal(text)))
    rounded = int(exact.scaleb(decimals, WIDE).quantize(Decimal(1), ROUND_HALF_EVEN, WIDE))
    assert value == max(-(2**31), min(2**31 - 1, rounded))


@pytest.mark.parametrize(("text", "raw"), [("0.5", 0), ("1.5", 2), ("2.5", 2), ("-0.5", 0), ("-1.5", -2), ("0.51", 1)])
def test_halves_round_to_even(text, raw):
    assert raw_column(Feature("t", Affine(0, 9), 0), (text,)).tolist() == [raw]


@pytest.mark.parametrize(
    ("text", "raw"), [("1e999", 32767), ("-1e999", -32768), ("1e-999", 0), ("-1e-999", 0), ("40000", 32767)]
)
def test_values_beyond_the_raw_type_are_clamped_to_it(text, raw):
    assert raw_column(Feature("t", Affine(0, 9), 0, raw_type="int16_t"), (text,)).tolist() == [raw]


def test_places_are_dropped_rather_than_exceed_thirty_bits():
    column = numeric_column("t", ("123456.123456789", "0.5"))
    assert (column.decimals, column.exact) == (3, False)
    assert column.raw.tolist() == [123456123, 500]
    assert fit_numbers("t", column, "affine", 8).notes == ("column 't' is rounded to 3 decimal places",)


@pytest.mark.parametrize("text", ["1e999", "-2000000000", "1073741825"])
def test_a_magnitude_beyond_thirty_bits_is_refused(text):
    with pytest.raises(DatasetError, match=f"column 't' holds {text}, beyond .-1073741824: give it in larger units"):
        numeric_column("t", ("1", text))


@pytest.mark.parametrize("text", ["nan", "NaN", "inf", "-Infinity"])
def test_nan_and_infinity_are_refused_with_their_row(text):
    with pytest.raises(DatasetError, match=f"holds '{text}' in data row 3: leave the cell empty if the value is mis"):
        numeric_column("t", ("1", "2", text, "?"))


def test_a_column_of_nan_only_is_refused():
    with pytest.raises(DatasetError, match="holds 'nan' in data row 1"):
        numeric_column("t", ("nan", "nan"))


def test_a_column_without_values_is_refused():
    with pytest.raises(DatasetError, match="column 't' has no values at all: remove it"):
        numeric_column("t", ("", "?"))


def test_a_number_of_thousands_of_digits_is_refused():
    with pytest.raises(DatasetError, match="in data row 2, a number of at most 60 characters was expected"):
        numeric_column("t", ("1", "9" * 5000))


@pytest.mark.parametrize("text", ["1_000", "１２", "0x10", "1,5", "12a", "-"])
def test_what_only_looks_like_a_number_makes_a_column_of_categories(text):
    assert numeric_column("t", ("1", text)) is None


@pytest.mark.parametrize("text", ["warm", "1_000", "nan", "9" * 61])
def test_text_in_a_numeric_column_of_later_data_is_refused_with_its_row(text):
    feature = Feature("t", Affine(0, 9), 0)
    with pytest.raises(DatasetError, match=f"column 't' holds '{text[:60]}.* in data row 2"):
        raw_column(feature, ("1", text))


# ---- fitting numbers -----------------------------------------------------------------------------------------------


def fitted(texts, coding="thermometer", bits=8, common=None):
    return fit_numbers("t", numeric_column("t", tuple(texts)), coding, bits, common)


def test_missing_values_take_the_lower_median():
    column = fitted(["1.5", "?", "2.5", "", "4", "9"])
    assert column.feature.missing == 25
    assert column.raw.tolist() == [15, 25, 25, 25, 40, 90]
    assert column.notes == ("column 't': 2 missing values take the median, 2.5",)


def test_missing_values_of_later_data_take_the_training_median():
    feature = fitted(["1", "2", "3"]).feature
    assert raw_column(feature, ("", "7", "?")).tolist() == [2, 7, 2]


def test_a_small_median_is_written_without_exponent():
    assert fitted(["0.00000001", "?"]).notes == ("column 't': 1 missing value takes the median, 0.00000001",)


def test_codings_of_numbers():
    assert fitted(["0", "1", "2"]).feature.coding == Thermometer(0, 2, (1, 2))
    assert fitted(["0", "1", "2"], "affine").feature.coding == Affine(0, 2)
    assert fitted(["0", "1", "2"], "raw", common=(-5, 9)).feature.coding == Affine(-5, 9)


def test_thresholds_count_the_imputed_rows():
    assert fitted(["1", "2", "3", "?", "?", "?"], bits=1).feature.coding == Thermometer(1, 3, (2,))


@pytest.mark.parametrize(("text", "expected"), [("16383", "int16_t"), ("16384", "int32_t"), ("1638.4", "int32_t")])
def test_raw_types_of_text_columns(text, expected):
    assert fitted(["0", text]).feature.raw_type == expected


# ---- categories ----------------------------------------------------------------------------------------------------


def test_categories_are_coded_by_their_index():
    column = fit_categories("k", ("red", "blue", "?", "red", ""))
    assert column.feature == Feature("k", OneHot(("blue", "red")), 1, 0, "int16_t")
    assert column.raw.tolist() == [1, 0, 1, 1, 1]
    assert column.notes == ("column 'k': 2 missing values take the most frequent category, 'red'",)


def test_the_first_of_equally_frequent_categories_replaces_missing_values():
    assert fit_categories("k", ("b", "a")).feature.missing == 0


def test_one_stray_text_among_numbers_is_told():
    column = fit_categories("k", ("1", "2", "n/a"))
    assert column.notes == ("column 'k' is one-hot with 3 categories, because 'n/a' is no number",)


def test_an_unseen_category_takes_the_index_behind_the_list():
    feature = fit_categories("k", ("a", "b")).feature
    assert raw_column(feature, ("b", "c", "?", "A")).tolist() == [1, 2, 0, 2]


def test_numbers_of_an_npz_are_categories_by_their_text():
    assert raw_column(Feature("k", OneHot(("1", "2")), 0), np.array([2, 1, 3])).tolist() == [1, 0, 2]


def test_an_identifier_is_no_category():
    texts = tuple(f"id{i}" for i in range(CATEGORY_LIMIT + 1))
    with pytest.raises(DatasetError, match=r"column 'k' holds text \('id0'\) with 257 different values, more than 256"):
        fit_categories("k", texts)
    assert fit_categories("k", texts[:-1]).feature.coding.width == 256


def test_a_number_column_with_one_text_and_many_values_names_the_text():
    texts = (*map(str, range(300)), "n/a")
    with pytest.raises(DatasetError, match=r"holds text \('n/a'\) with 301 different values"):
        fit_categories("k", texts)


@pytest.mark.parametrize(("text", "reason"), [("a\0b", "control character"), ("x" * 1001, "1001 characters")])
def test_categories_that_no_model_can_hold(text, reason):
    with pytest.raises(DatasetError, match=f"column 'k' holds a category .* {reason}.*: remove or replace it"):
        fit_categories("k", ("a", text))


# ---- arrays --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "dtype", "raw", "decimals", "raw_type"),
    [
        ([0, 255], np.uint8, [0, 255], 0, "uint8_t"),
        ([-128, 127], np.int8, [-128, 127], 0, "int8_t"),
        ([False, True], np.bool_, [0, 1], 0, "uint8_t"),
        ([0, 65535], np.uint16, [0, 65535], 0, "int32_t"),
        ([-5, 5], np.int64, [-5, 5], 0, "int16_t"),
        ([2**30], np.uint64, [2**30], 0, "int32_t"),
        ([1.0, 2.0], np.float64, [1, 2], 0, "int16_t"),
        ([0.1, 0.25], np.float64, [10, 25], 2, "int16_t"),
        ([0.1, 0.25], np.float32, [10, 25], 2, "int16_t"),
        ([0.5, 2.25], np.float16, [50, 225], 2, "int16_t"),
    ],
)
def test_raw_values_of_arrays(values, dtype, raw, decimals, raw_type):
    column = numeric_column("x", np.array(values, dtype=dtype))
    assert (column.raw.tolist(), column.decimals, column.raw_type, column.exact) == (raw, decimals, raw_type, True)
    assert column.present.all()


def test_floats_without_end_are_rounded_to_sixteen_bits():
    column = numeric_column("x", np.array([np.pi, 100 / 3]))
    assert (column.raw.tolist(), column.decimals, column.exact) == ([314, 3333], 2, False)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_large_floats_warn_nobody(dtype, recwarn):
    numeric_column("x", np.array([60000, 0.1], dtype=dtype))
    raw_column(Feature("x", Affine(0, 9), 0, 9), np.array([np.finfo(dtype).max], dtype=dtype))
    assert list(recwarn) == []


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_an_array_with_nan_or_infinity_is_refused(value):
    with pytest.raises(DatasetError, match=f"column 'x' holds {value} in row 2: remove the row or replace the value"):
        numeric_column("x", np.array([1.0, value]))
    with pytest.raises(DatasetError, match=f"holds {value} in row 1"):
        raw_column(Feature("x", Affine(0, 9), 0), np.array([value]))


@pytest.mark.parametrize(
    ("value", "shown"), [(np.array([2**64 - 1], dtype=np.uint64), "1.84467441e.19"), (np.array([1e300]), "1e.300")]
)
def test_an_array_beyond_thirty_bits_is_refused(value, shown):
    with pytest.raises(DatasetError, match=f"column 'x' holds {shown}, beyond"):
        numeric_column("x", value)


@pytest.mark.parametrize(
    "value", [np.array([2**64 - 1], dtype=np.uint64), np.array([1e300]), np.array([2**31]), np.array([40000])]
)
def test_later_arrays_are_clamped_to_the_raw_type(value):
    assert raw_column(Feature("x", Affine(0, 9), 0, raw_type="int16_t"), value).tolist() == [32767]


def test_later_arrays_take_the_places_of_training():
    feature = Feature("x", Affine(0, 100), 0, 2)
    assert raw_column(feature, np.array([0.125, 1.0])).tolist() == [12, 100]
    assert raw_column(feature, np.array([3], dtype=np.uint8)).tolist() == [300]


# ---- integers as they are ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("column", [("1", "-2", "3.0", "1e2"), np.array([1, -2, 3, 100]), np.array([1.0, -2, 3, 100])])
def test_whole_numbers(column):
    assert whole_column("x", column).tolist() == [1, -2, 3, 100]


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (("1", "1.5"), "column 'x' holds 1.5, an integer was expected: leave out --input-range"),
        (("20000.123456789",), "holds 20000.123456789, an integer was expected"),
        (np.array([1, 20000.123456789]), "holds 20000.123456789, an integer was expected"),
        (("1", "?"), "has no value in data row 2: leave out --input-range to have missing values imputed"),
        (("1", "cat"), "holds 'cat' in data row 2, a number of at most 60 characters was expected"),
        (("nan",), "holds 'nan' in data row 1"),
        (np.array([np.nan]), "holds nan in row 1"),
    ],
)
def test_what_is_no_whole_number(column, message):
    with pytest.raises(DatasetError) as error:
        whole_column("x", column)
    assert message in str(error.value)
