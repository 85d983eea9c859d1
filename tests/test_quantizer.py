"""Raw integers to inputs: codings by hand, fitting on training values, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mip2mcu.errors import ModelError
from mip2mcu.quantizer import (
    Affine,
    Feature,
    OneHot,
    Quantizer,
    Thermometer,
    fit_affine,
    fit_one_hot,
    fit_thermometer,
    raw_type_for,
    text_fault,
)

WIDE = st.integers(-(2**31), 2**31 - 1)


def inputs(coding, *raw):
    return coding.apply(np.array(raw, dtype=np.int64)).tolist()


# ---- affine --------------------------------------------------------------------------------------------------------


def test_affine_one_to_one():
    assert inputs(Affine(-10, 20), -11, -10, 0, 20, 21) == [[0], [0], [10], [30], [30]]
    assert Affine(-10, 20).input_high == 30


def test_affine_rounds_halves_upwards():
    # t * 3 / 4: 0, 0.75, 1.5, 2.25, 3
    assert inputs(Affine(0, 4, 0, 3, 2), 0, 1, 2, 3, 4) == [[0], [1], [2], [2], [3]]


def test_affine_drops_low_bits_first():
    assert inputs(Affine(0, 1023, pre=2), 0, 3, 4, 1023) == [[0], [0], [1], [255]]


@given(WIDE, WIDE)
def test_a_fitted_affine_reaches_from_0_to_the_top_and_never_falls(a, b):
    low, high = min(a, b), max(a, b)
    coding = fit_affine(low, high)
    points = sorted({low, high, low + (high - low) // 3, (low + high) // 2, high - 1 if high > low else high})
    values = [value for (value,) in inputs(coding, *points)]
    assert values == sorted(values)
    assert values[0] == 0
    assert values[-1] == coding.input_high <= 255
    assert coding.input_high >= min(254, high - low)


def test_a_fitted_affine_keeps_up_to_256_values_apart():
    assert fit_affine(100, 355) == Affine(100, 355)
    assert fit_affine(7, 7).input_high == 0


@given(st.integers(256, 2**31 - 1))
def test_a_fitted_affine_is_within_two_of_the_exact_scale(span):
    coding = fit_affine(0, span)
    for raw in (0, 1, span // 7, span // 2, span):
        (value,) = inputs(coding, raw)[0:1][0]
        assert abs(value - 255 * raw / span) < 2


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"low": 5, "high": 4}, "from 5 to 4 is no range"),
        ({"low": -(2**31) - 1, "high": 0}, "no range of 32-bit integers"),
        ({"low": 0, "high": 2**31}, "no range of 32-bit integers"),
        ({"low": 0, "high": 9, "pre": 32}, "out of range"),
        ({"low": 0, "high": 9, "shift": 31}, "out of range"),
        ({"low": 0, "high": 9, "mult": 0, "shift": 1}, "out of range"),
        ({"low": 0, "high": 9, "mult": 65536, "shift": 16}, "out of range"),
        ({"low": 0, "high": 9, "mult": 2}, "multiplies by 1, not by 2"),
        ({"low": 0, "high": 256}, "leaves its 32-bit or 8-bit range"),
        ({"low": 0, "high": 65536, "mult": 1, "shift": 16}, "leaves its 32-bit or 8-bit range"),
    ],
)
def test_affine_codings_that_are_refused(fields, message):
    with pytest.raises(ModelError, match=message):
        Affine(**fields)


# ---- thermometer ---------------------------------------------------------------------------------------------------


def test_a_bit_is_set_from_its_threshold_on():
    coding = Thermometer(0, 100, (10, 50))
    assert inputs(coding, 9, 10, 49, 50, 1000) == [[0, 0], [1, 0], [1, 0], [1, 1], [1, 1]]
    assert coding.saturates(np.array([-1, 0, 100, 101])).tolist() == [True, False, False, True]


def test_few_values_get_a_threshold_each():
    assert fit_thermometer(np.array([5, 1, 5, 9]), bits=8) == Thermometer(1, 9, (5, 9))


def test_a_constant_column_gets_none():
    assert fit_thermometer(np.array([4, 4]), bits=8) == Thermometer(4, 4, ())


def test_thresholds_are_quantiles():
    assert fit_thermometer(np.arange(100), bits=3) == Thermometer(0, 99, (25, 50, 75))


def test_a_value_of_more_than_its_share_is_set_apart():
    mostly_zero = np.concatenate([np.zeros(900, dtype=np.int64), np.arange(1, 101)])
    assert fit_thermometer(mostly_zero, bits=4) == Thermometer(0, 100, (1, 26, 51, 76))


def test_the_heaviest_values_are_set_apart_first():
    raw = np.repeat([0, 10, 20, 30, 40, 50], [1, 20, 1, 30, 1, 20])
    # with three bits 10, 30 and 50 each hold more than a quarter: first both sides of 30, then the start of 10
    assert fit_thermometer(raw, bits=3) == Thermometer(0, 50, (10, 30, 40))


@given(st.lists(st.integers(-50, 50), min_size=1, max_size=60), st.integers(1, 12))
def test_a_fitted_thermometer_has_at_most_the_bits_and_a_bit_where_values_differ(values, bits):
    coding = fit_thermometer(np.array(values), bits)
    assert coding.width <= bits
    assert (coding.low, coding.high) == (min(values), max(values))
    assert (coding.width >= 1) == (min(values) < max(values))


@given(st.lists(st.integers(-50, 50), min_size=1, max_size=60), st.integers(1, 12))
def test_every_fitted_bit_is_0_and_1_somewhere_in_training(values, bits):
    rows = fit_thermometer(np.array(values), bits).apply(np.array(values))
    assert all({0, 1} == set(column) for column in rows.T.tolist())


@pytest.mark.parametrize(
    ("low", "high", "thresholds", "message"),
    [
        (0, 9, (3, 2), "must ascend strictly"),
        (0, 9, (2, 2), "must ascend strictly"),
        (0, 9, (0,), "must lie above 0 and at most at 9"),
        (0, 9, (10,), "must lie above 0 and at most at 9"),
        (9, 0, (), "no range of 32-bit integers"),
    ],
)
def test_thermometers_that_are_refused(low, high, thresholds, message):
    with pytest.raises(ModelError, match=message):
        Thermometer(low, high, thresholds)


# ---- one-hot -------------------------------------------------------------------------------------------------------


def test_an_unseen_category_gives_all_zeros():
    coding = OneHot(("a", "b"))
    assert inputs(coding, 0, 1, 2, -1, 99) == [[1, 0], [0, 1], [0, 0], [0, 0], [0, 0]]
    assert coding.saturates(np.array([0, 1, 2, -1])).tolist() == [False, False, True, True]


def test_categories_are_sorted():
    assert fit_one_hot(["b", "a", "b", "B"]) == OneHot(("B", "a", "b"))


@pytest.mark.parametrize(
    ("categories", "message"),
    [(("a", "a"), "listed twice"), ((1,), "is no text"), (("a\0",), "control character"), (("x" * 1001,), "1001")],
)
def test_categories_that_are_refused(categories, message):
    with pytest.raises(ModelError, match=message):
        OneHot(categories)


# ---- features and quantizers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"raw_type": "float"}, "raw type 'float' is not one of uint8_t, int8_t, int16_t, int32_t"),
        ({"decimals": 10}, r"10 decimal places, allowed are 0\.\.9"),
        ({"decimals": -1}, "-1 decimal places"),
        ({"raw_type": "uint8_t"}, r"reaches -5\.\.300, beyond its raw type uint8_t"),
        ({"missing": 2**15, "raw_type": "int16_t"}, "beyond its raw type int16_t"),
        ({"name": "a\tb"}, "holds a control character"),
        ({"name": 3}, "is no text"),
    ],
)
def test_features_that_are_refused(fields, message):
    with pytest.raises(ModelError, match=message):
        Feature(**{"name": "f", "coding": fit_affine(-5, 300), "missing": 0, **fields})


def test_the_index_of_an_unseen_category_fits_the_raw_type():
    categories = tuple(str(i) for i in range(256))
    Feature("k", OneHot(categories[:255]), 0, raw_type="uint8_t")
    with pytest.raises(ModelError, match=r"reaches 0\.\.256, beyond its raw type uint8_t"):
        Feature("k", OneHot(categories), 0, raw_type="uint8_t")


def mixed():
    return Quantizer(
        (
            Feature("t", Thermometer(0, 90, (10, 50)), 0, raw_type="int16_t"),
            Feature("k", OneHot(("x", "y")), 0, raw_type="uint8_t"),
            Feature("p", Affine(-5, 20), 0, raw_type="int8_t"),
        )
    )


def test_inputs_stand_in_the_order_of_the_features():
    assert mixed().width == 5
    assert mixed().input_high.tolist() == [1, 1, 1, 1, 25]
    assert mixed().quantize(np.array([[10, 1, 0], [99, 2, 30]])).tolist() == [[1, 0, 0, 1, 5], [1, 1, 0, 0, 25]]


def test_saturation_is_told_for_each_feature():
    assert mixed().saturated(np.array([[10, 1, 0], [91, 2, -6]])).tolist() == [[False] * 3, [True] * 3]


@pytest.mark.parametrize(
    ("types", "expected"),
    [
        (("uint8_t", "uint8_t"), "uint8_t"),
        (("uint8_t", "int8_t"), "int16_t"),
        (("int8_t",), "int8_t"),
        (("int16_t", "uint8_t"), "int16_t"),
        (("int32_t", "uint8_t"), "int32_t"),
    ],
)
def test_the_array_of_raw_features_takes_the_narrowest_type_that_holds_all(types, expected):
    features = tuple(Feature(f"f{i}", Affine(0, 9), 0, raw_type=name) for i, name in enumerate(types))
    assert Quantizer(features).raw_type == expected


def test_a_quantizer_needs_features_of_different_names():
    with pytest.raises(ModelError, match="at least one feature"):
        Quantizer(())
    with pytest.raises(ModelError, match="two raw features have the same name"):
        Quantizer((Feature("a", Affine(0, 1), 0), Feature("a", Affine(0, 1), 0)))


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0, 2**14 - 1, "int16_t"), (0, 2**14, "int32_t"), (-(2**14), 0, "int16_t"), (-(2**14) - 1, 0, "int32_t")],
)
def test_a_raw_type_leaves_twice_the_training_range(low, high, expected):
    assert raw_type_for(low, high) == expected


def test_text_that_can_be_a_name():
    assert text_fault("a b °C\xa0ß ☃") is None
    assert text_fault("") is None
    assert text_fault("x" * 1000) is None
