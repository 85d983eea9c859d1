"""Best responses: what one unit costs, what the programs answer, and that the goal's value only falls."""

from itertools import product

import numpy as np
import pytest

from mip2mcu.dataset import Dataset
from mip2mcu.mip.solver import Solver, solve_matrix
from mip2mcu.progress import never, silent
from mip2mcu.train.best_response import (
    UNIT_LOW,
    Engine,
    best_threshold,
    climb,
    cost_of_firing,
    guided,
    response_program,
    roundings,
    within_intervals,
)
from mip2mcu.train.box import UnitBox
from mip2mcu.train.goal import Goal
from mip2mcu.train.objectives import OBJECTIVES
from mip2mcu.train.reduction import WeightDomain, reduce
from mip2mcu.train.sign_network import SignNetwork
from tests.test_train_sign import random_units
from tests.training import random_data, separated_data


def engine_for(reduction, goal, **options):
    return Engine(reduction, goal, Solver(**options), silent, never)


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("classes", [2, 3])
def test_the_cost_of_firing_is_the_difference_of_forced_outcomes(objective, classes):
    reduction = reduce(random_data(4, rows=12, inputs=4, classes=classes), WeightDomain(2))
    widths = (len(reduction.groups), 3, 2, 1 if classes == 2 else classes)
    units, goal = random_units(np.random.default_rng(2), widths), Goal(objective, 2)
    for layer in (0, 1):
        for unit in range((3, 2)[layer]):
            always = units.with_unit(layer, unit, np.zeros_like(units.weights[layer][unit]), 0)
            resting = units.with_unit(layer, unit, np.zeros_like(units.weights[layer][unit]), -1)
            cost = cost_of_firing(units, reduction, goal, layer, unit)
            assert cost.sum() == goal.loss(always, reduction) - goal.loss(resting, reduction)


@pytest.mark.parametrize("step", [1, 2])
@pytest.mark.parametrize("seed", range(4))
def test_the_program_of_a_response_is_solved_by_what_brute_force_finds(seed, step):
    rng = np.random.default_rng(seed)
    rows, cost, high = rng.integers(0, 4, (9, 3)), rng.integers(-3, 4, 9), np.array([1, 2, 1])
    rows, cost = rows[cost != 0], cost[cost != 0]
    choices = [range(-h, h + 1, step) for h in high.tolist()]
    least = min(best_threshold(rows @ np.array(w), cost)[0] for w in product(*choices))
    start = np.array([choice[0] for choice in choices])
    matrix, values = response_program(rows, cost, high, step, start, 0)
    found, record = solve_matrix(matrix, Solver(), start=values)
    assert (record.status, round(record.objective)) == ("optimal", least)
    weights = np.rint(found[:3]).astype(int) * step - (high if step == 2 else 0)
    assert best_threshold(rows @ weights, cost)[0] == least
    assert climb(rows, cost, start, UnitBox(-high, high), step, never)[0] >= least


@pytest.mark.parametrize("step", [1, 2])
@pytest.mark.parametrize("margin", [False, True])
def test_units_within_intervals_are_the_lightest_or_the_widest(margin, step):
    rng = np.random.default_rng(7)
    rows, high = rng.integers(0, 3, (6, 3)), np.array([2, 2, 2])
    signs = np.where(rows @ np.array([2, -2, 0]) - 1 >= 0, 1, -1)
    low, top = np.where(signs > 0, 0, UNIT_LOW), np.where(signs < 0, -1, -UNIT_LOW)
    best = []
    for weights in product(range(-2, 3, step), repeat=3):
        for bias in range(-9, 10):
            sums = rows @ np.array(weights) + bias
            if ((sums >= 0) == (signs > 0)).all():
                least = np.where(signs > 0, sums, -1 - sums).min()
                best.append(-least if margin else np.abs(weights).sum() + abs(bias))
    _found, record = solve_matrix(within_intervals(rows, low, top, high, step, margin=margin), Solver())
    assert record.status == "optimal"
    assert round(record.objective) == min(best)


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("binary", [False, True])
def test_the_value_falls_with_every_round_and_stays_in_the_domain(objective, classes, binary):
    domain = WeightDomain(1 if binary else 2, binary)
    reduction = reduce(random_data(1, rows=24, inputs=4, classes=classes), domain)
    goal, rng = Goal(objective, domain.bound), np.random.default_rng(5)
    widths = (len(reduction.groups), 4, 3, 1 if classes == 2 else classes)
    values = [-1, 1] if binary else [-2, -1, 0, 1, 2]
    start = random_units(rng, widths)
    for layer in range(3):
        start = start.with_layer(layer, rng.choice(values, start.weights[layer].shape), start.bias[layer])
    engine = engine_for(reduction, goal, node_limit=2)
    found = engine.improved(start)
    assert engine.value(found) <= engine.value(start)
    assert engine.improved(found, programs=False).weights[0].tolist() == found.weights[0].tolist()
    assert all(set(layer.flat) <= set(values) for layer in found.weights[1:])
    assert (np.abs(found.weights[0]) <= reduction.weight_high).all()


def test_tuned_outputs_are_never_worse_and_react_to_a_single_flip():
    reduction = reduce(separated_data(rows=45), WeightDomain(3))
    units = random_units(np.random.default_rng(3), (len(reduction.groups), 5, 3))
    goal = Goal("min-hinge", 3)
    tuned = engine_for(reduction, goal).tuned(units)
    assert goal.value(tuned, reduction) < goal.value(units, reduction)
    assert tuned.weights[0].tolist() == units.weights[0].tolist()
    for j, i in np.ndindex(tuned.weights[1].shape):
        for change in (-1, 1):
            if abs(tuned.weights[1][j, i] + change) <= 3:
                weights = tuned.weights[1].copy()
                weights[j, i] += change
                other = tuned.with_layer(1, weights, tuned.bias[1])
                assert goal.value(other, reduction) >= goal.value(tuned, reduction)


def test_a_network_that_fits_all_rows_becomes_lighter_and_stays_right():
    rng = np.random.default_rng(0)
    X = rng.integers(0, 4, (15, 4))
    y = np.where(X @ np.array([2, -1, 1, 0]) - 3 >= 0, 0, 1)
    reduction = reduce(Dataset.from_arrays(X, y, input_range=(0, 3)), WeightDomain(2))
    goal = Goal("min-weight", 2)
    engine = engine_for(reduction, goal)
    cut = np.tile([2, -1, 1, 0], (3, 1))
    found = SignNetwork((cut, np.array([[2, 2, 2]])), (np.full(3, -3), np.array([1])))
    assert goal.value(found, reduction) == (0, 28)
    lighter = engine.improved(found)
    assert goal.loss(lighter, reduction) == 0
    assert goal.kind.cost(lighter, reduction) <= 12


def test_a_fit_in_the_space_of_rows_is_that_in_the_space_of_inputs():
    rng = np.random.default_rng(1)
    rows, cost = rng.integers(0, 9, (12, 11)), rng.integers(1, 4, 12) * rng.choice([-1, 1], 12)
    wide = np.concatenate([rows, np.zeros((12, 5), dtype=int)], axis=1)
    few, many = guided(rows, cost), guided(wide, cost)
    assert np.allclose(few / np.abs(few).max(), many[:11] / np.abs(many).max(), atol=0.05)


def test_roundings_stay_in_the_domain():
    weights, high = np.array([0.3, -2.0, 0.9]), np.array([1, 1, 2])
    assert roundings(weights, high, 1)[0].tolist() == [0, -1, 0]
    assert all(set(found.tolist()) <= {-2, -1, 0, 1, 2} for found in roundings(weights, high, 1))
    assert roundings(weights, np.array([1, 1, 1]), 2)[0].tolist() == [1, -1, 1]


def test_weights_in_any_order_of_memory_pack_to_the_same_words():
    from mip2mcu.export.layouts.sign_planes import _packed

    plane = np.random.default_rng(0).choice([-1, 1], (10, 32))
    assert _packed(np.asfortranarray(plane), 32).tolist() == _packed(plane, 32).tolist()
