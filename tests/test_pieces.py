"""Shared constraints, each checked over all values of its variables."""

from itertools import product

import numpy as np
import pyomo.environ as pyo
import pytest

from mip2mcu.mip.pieces import (
    Total,
    count_links,
    declare_weights,
    dense_row,
    product_link,
    program_size,
    reaches_margin,
    sign_link,
    total_of,
    total_within,
)
from mip2mcu.mip.solver import Solver, solve


def lists(model, *names):
    for name in names:
        setattr(model, name, pyo.Constraint(pyo.Any))


def feasible(model):
    return all(
        (c.lb is None or pyo.value(c.body) >= c.lb) and (c.ub is None or pyo.value(c.body) <= c.ub)
        for c in model.component_data_objects(pyo.Constraint)
    )


def test_a_unit_fires_exactly_where_its_total_is_not_negative():
    model = pyo.ConcreteModel()
    model.x = pyo.Var(domain=pyo.Integers, bounds=(-5, 3))
    model.fired = pyo.Var(domain=pyo.Binary)
    lists(model, "fires", "rests")
    sign_link(model, 0, Total((model.x,), (1,), 0, -5, 3), model.fired)
    for x in range(-5, 4):
        for fired in (0, 1):
            model.x.value, model.fired.value = x, fired
            assert feasible(model) == (fired == (x >= 0))


def test_the_big_m_of_a_sign_is_tight_at_both_ends():
    model = pyo.ConcreteModel()
    model.x = pyo.Var()
    model.fired = pyo.Var()
    lists(model, "fires", "rests")
    sign_link(model, 0, Total((model.x,), (1,), 0, -5, 3), model.fired)
    model.x.value, model.fired.value = -5, 0
    assert pyo.value(model.fires[0].body) == model.fires[0].lb
    model.x.value, model.fired.value = 3, 1
    assert pyo.value(model.rests[0].body) == model.rests[0].ub


def test_the_size_of_a_program_counts_two_rows_a_sign_four_a_product_and_one_an_output():
    assert program_size(np.array([[1, 0], [2, 3]]), (3, 2, 1)) == (2 * (2 * 5 + 4 * 8 + 1), 2 * 3 * 3 + 14 * 2 * 8)


@pytest.mark.parametrize("high", [1, 3])
def test_a_product_is_the_weight_or_its_negative(high):
    model = pyo.ConcreteModel()
    model.product, model.weight, model.fired = pyo.Var(bounds=(-high, high)), pyo.Var(), pyo.Var()
    lists(model, "kept_below", "kept_above", "negated_below", "negated_above")
    product_link(model, 0, model.product, model.weight, model.fired, high=high)
    for weight in range(-high, high + 1):
        for fired in (0, 1):
            for value in range(-high, high + 1):
                model.product.value, model.weight.value, model.fired.value = value, weight, fired
                assert feasible(model) == (value == weight * (2 * fired - 1))


@pytest.mark.parametrize(("low", "high"), [(-1, 3), (1, 2), (-3, -2)])
def test_a_product_holds_its_weights_own_limits(low, high):
    reach = max(high, -low)
    model = pyo.ConcreteModel()
    model.product, model.weight, model.fired = pyo.Var(), pyo.Var(), pyo.Var()
    lists(model, "kept_below", "kept_above", "negated_below", "negated_above")
    product_link(model, 0, model.product, model.weight, model.fired, low=low, high=high)
    for weight, fired, value in product(range(low, high + 1), (0, 1), range(-reach, reach + 1)):
        model.product.value, model.weight.value, model.fired.value = value, weight, fired
        assert feasible(model) == (value == weight * (2 * fired - 1))


def test_a_total_within_limits_attains_both_ends():
    model = pyo.ConcreteModel()
    model.w, model.b = pyo.Var(range(2)), pyo.Var()
    limits = np.array([-1, 2]), np.array([3, 2])
    total = total_within(list(model.w.values()), np.array([2, -3]), limits, model.b, (-4, 1))
    assert (total.low, total.high) == (-2 - 6 - 4, 6 - 6 + 1)


def test_a_total_knows_its_attained_interval_and_leaves_zeros_out():
    model = pyo.ConcreteModel()
    model.w, model.b = pyo.Var(range(3)), pyo.Var()
    total = total_of(list(model.w.values()), np.array([2, 0, -3]), np.array([1, 5, 2]), model.b, 4)
    assert (total.low, total.high) == (-12, 12)
    assert [v.name for v in total.variables] == ["w[0]", "w[2]", "b"]
    assert total.coefficients == (2, -3, 1)


def test_the_difference_of_totals_has_the_difference_of_their_intervals():
    model = pyo.ConcreteModel()
    model.x, model.y = pyo.Var(), pyo.Var()
    lead = Total((model.x,), (2,), 1, -3, 5).minus(Total((model.y,), (4,), 2, 0, 7))
    assert (lead.coefficients, lead.constant, lead.low, lead.high) == ((2, -4), -1, -10, 5)


def test_dense_rows_keep_variables_and_coefficients_together():
    assert dense_row(["a", "b", "c"], [0, 2, -1]) == (("b", "c"), (2, -1))


@pytest.mark.parametrize(
    ("sign", "total", "missing"), [(1, 2, 1), (1, -4, 7), (1, 3, 0), (-1, -2, 1), (-1, 4, 7), (-1, -9, 0)]
)
def test_the_least_shortfall_is_the_hinge(sign, total, missing):
    model = pyo.ConcreteModel()
    model.x = pyo.Var(bounds=(total, total))
    model.shortfall = pyo.Var(domain=pyo.NonNegativeReals)
    model.reached = pyo.Constraint(
        expr=reaches_margin(Total((model.x,), (1,), 0, total, total), sign, 3, model.shortfall)
    )
    model.least = pyo.Objective(expr=model.shortfall)
    assert solve(model, Solver()).objective == missing


def test_binary_weights_are_odd_sums_of_plus_and_minus_ones():
    model = pyo.ConcreteModel()
    declare_weights(model, [0, 1], {0: 1, 1: 3}, binary=True)
    found = {}
    for i, choices in ((0, range(2)), (1, range(4))):
        for plus in choices:
            model.plus[i].value = plus
            for weight in range(-3, 4):
                model.weight[i].value = weight
                row = model.weight_is_plus_or_minus[i]
                if pyo.value(row.body) == row.ub:
                    found.setdefault(i, []).append(weight)
    assert found == {0: [-1, 1], 1: [-3, -1, 1, 3]}


@pytest.mark.parametrize(("weight", "links"), [(0, 0), (1, 1), (-2, 1), (3, 2), (-6, 3)])
def test_links_count_the_equal_inputs_that_a_weight_needs(weight, links):
    model = pyo.ConcreteModel()
    declare_weights(model, ["a"], {"a": 6}, binary=False)
    count_links(model, ["a"], {"a": 3}, bound=2)
    model.weight["a"].fix(weight)
    model.least = pyo.Objective(expr=model.links["a"])
    assert solve(model, Solver()).objective == links
