"""Pools: exact division without dividing, refusals, decisions."""

from __future__ import annotations

import numpy as np
import pytest

from mip2mcu.decisions import Argmax
from mip2mcu.export import generate
from mip2mcu.export.layouts.pool import Division, exact_division
from mip2mcu.layers import AveragePool, Dense, MaxPool
from mip2mcu.network import Network
from tests.export_support import assert_equal_to_network, compile_host, random_rows


def pooled(pool, shape, low=0, high=255):
    size = int(np.prod(pool.output_shape(shape)))
    last = Dense(np.arange(2 * size).reshape(2, size) % 7 - 3, [0, 1])
    elements = int(np.prod(shape))
    return Network(np.full(elements, low), np.full(elements, high), (pool, last), Argmax(2), ("a", "b"), shape)


def divided(n, division):
    if not division.steps:
        product = n * division.factor
        assert product.max() < 2**32
        return product >> division.shift
    rest, quotient = n.copy(), np.zeros_like(n)
    for step in range(division.steps - 1, -1, -1):
        part = division.divisor << step
        assert part < 2**32
        quotient = 2 * quotient + (rest >= part)
        rest = rest - part * (rest >= part)
    return quotient


@pytest.mark.parametrize("divisor", [1, 2, 3, 4, 6, 7, 9, 12, 25, 49, 64, 100, 169, 196, 255])
def test_division_is_exact_up_to_its_limit(divisor):
    most = 255 * divisor + divisor // 2
    n = np.arange(most + 1)
    np.testing.assert_array_equal(divided(n, exact_division(divisor, most)), n // divisor)


def test_division_by_a_power_of_two_is_a_shift():
    assert exact_division(4, 1022) == Division(4, 1022, 1, 2)


def test_division_by_a_small_area_is_one_product():
    assert exact_division(9, 2299) == Division(9, 2299, 1821, 14)


def test_division_of_wide_sums_is_long():
    division = exact_division(7, 2**31 - 1)
    assert division == Division(7, 2**31 - 1, 0, 0, steps=29)
    n = np.array([0, 1, 6, 7, 8, 2**31 - 1, 2**31 - 2, 2**30])
    np.testing.assert_array_equal(divided(n, division), n // 7)


@pytest.mark.parametrize(
    "network",
    [
        pooled(MaxPool((2, 2), (2, 2)), (2, 5, 7)),
        pooled(MaxPool((3, 2), (1, 2)), (1, 6, 6), low=-128, high=127),
        pooled(MaxPool((5, 5), (5, 5)), (1, 11, 10), low=-1000, high=-999),
        pooled(AveragePool((2, 2), (2, 2)), (3, 4, 4)),
        pooled(AveragePool((3, 3), (2, 1)), (1, 7, 7)),
        pooled(AveragePool((7, 7), (7, 7)), (2, 7, 7)),
        pooled(AveragePool((13, 7), (1, 1)), (1, 14, 9), high=32767),
        pooled(AveragePool((1, 1), (2, 3)), (1, 5, 5), low=3, high=3),
    ],
)
@pytest.mark.parametrize("target", ["cortex-m4", "generic"])
def test_pools_of_inputs_are_exact(network, target, tmp_path):
    (compiled,) = compile_host([generate(network, target)], tmp_path)
    assert_equal_to_network(compiled, network, random_rows(network, 60, np.random.default_rng(0)))


def test_no_generated_average_divides():
    for window in ((2, 2), (3, 3), (7, 7), (13, 7)):
        text = generate(pooled(AveragePool(window, window), (1, 14, 9), high=32767)).files["model.c"]
        body = text[text.index("layer0_apply(") : text.index("layer1")]
        assert " / " not in body.replace("output[j / 32]", "")
