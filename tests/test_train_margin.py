"""The soft margin of one unit: exact value, best bias, relaxation, local search."""

import numpy as np
import pytest

from mip2mcu.mip.solver import Solver, solve_matrix
from mip2mcu.train.margin import (
    MarginTask,
    Unit,
    best_bias,
    drop_links,
    improve,
    reach,
    relaxation,
    rounded,
    with_best_bias,
)
from tests.training import weight_choices


def random_task(seed, rows=9, columns=3, top=3, bound=2, step=1):
    rng = np.random.default_rng(seed)
    return MarginTask(
        rng.integers(0, top + 1, (rows, columns)),
        np.where(np.arange(rows) % 2, 1, -1),
        rng.integers(1, 4, rows),
        rng.integers(1, 6, rows),
        np.full(columns, bound),
        step,
    )


def least(task):
    """Least shortfall over all weights and all biases."""
    biases = range(-60, 61)
    choices = weight_choices(task.rows.shape[1], int(task.high[0]), task.step == 2)
    return min(task.shortfall(w, b) for w in choices for b in biases)


def test_the_shortfall_counts_what_each_row_lacks():
    task = MarginTask(
        np.array([[1], [2]]), np.array([1, -1]), np.array([1, 10]), np.array([3, 4]), np.array([1])
    )
    assert task.shortfall(np.array([1]), 0) == 1 * (3 - 1) + 10 * (4 + 2)


@pytest.mark.parametrize("seed", range(20))
def test_the_best_bias_is_best(seed):
    task = random_task(seed, rows=int(seed % 7) + 2)
    weights = np.random.default_rng(seed).integers(-2, 3, 3)
    value = task.shortfall(weights, best_bias(task, task.sums(weights, 0)))
    assert value == min(task.shortfall(weights, b) for b in range(-60, 61))


def test_the_best_bias_of_rows_of_one_sign_satisfies_them_all():
    task = MarginTask(
        np.array([[1], [5]]), np.array([1, 1]), np.array([1, 1]), np.array([3, 3]), np.array([1])
    )
    assert with_best_bias(task, np.array([1])).shortfall == 0


@pytest.mark.parametrize("seed", range(5))
def test_the_relaxation_bounds_every_integer_unit_from_below(seed):
    task = random_task(seed)
    _, record = solve_matrix(relaxation(task), Solver())
    assert record.status == "optimal"
    assert record.objective <= least(task) + 1e-6


@pytest.mark.parametrize("seed", range(5))
def test_the_relaxed_links_stage_keeps_the_budget(seed):
    task = random_task(seed)
    budget = least(task) + 5
    values, record = solve_matrix(relaxation(task, budget=budget, price=np.ones(3)), Solver())
    weights, bias, shortfalls = values[:3] - values[3:6], values[6], values[7:]
    assert task.counts @ shortfalls <= budget + 1e-6
    assert (task.signs * (task.rows @ weights + bias) + shortfalls >= task.targets - 1e-6).all()
    assert record.objective == pytest.approx(np.abs(weights).sum())


def test_rounding_stays_in_the_domain():
    task = random_task(0, step=2, bound=1)
    assert rounded(task, np.array([-0.2, 0.1, 0.9])).weights.tolist() == [-1, 1, 1]
    assert rounded(random_task(0), np.array([-2.4, 0.4, 1.6])).weights.tolist() == [-2, 0, 2]


@pytest.mark.parametrize("top", [1, 3])
@pytest.mark.parametrize("seed", range(5))
def test_local_search_never_gets_worse_and_counts_exactly(seed, top):
    task = random_task(seed, rows=15, columns=5, top=top)
    start = with_best_bias(task, np.zeros(5, dtype=np.int64))
    found = improve(task, start)
    assert found.shortfall == task.shortfall(found.weights, found.bias) <= start.shortfall
    assert np.abs(found.weights).max() <= 2


@pytest.mark.parametrize("seed", [0, 2, 16, 35, 41, 42, 43])
def test_changing_two_weights_at_once_reaches_optima_that_single_changes_miss(seed):
    task = random_task(seed, rows=12, top=1, bound=1)
    assert improve(task, with_best_bias(task, np.zeros(3, dtype=np.int64))).shortfall == least(task)


@pytest.mark.parametrize("seed", range(5))
def test_local_search_of_binary_weights_stays_binary(seed):
    task = random_task(seed, step=2, bound=1)
    found = improve(task, with_best_bias(task, np.ones(3, dtype=np.int64)))
    assert set(np.abs(found.weights)) == {1}
    assert found.shortfall >= least(task)


@pytest.mark.parametrize("seed", range(5))
def test_links_are_dropped_only_within_the_budget(seed):
    task = random_task(seed, rows=15, columns=5, top=1)
    unit = improve(task, with_best_bias(task, np.ones(5, dtype=np.int64)))
    budget = unit.shortfall + 10
    found = drop_links(task, unit, budget)
    assert task.shortfall(found.weights, found.bias) == found.shortfall <= budget
    assert np.count_nonzero(found.weights) <= np.count_nonzero(unit.weights)


def test_a_budget_that_cannot_be_reached_gives_none():
    task = MarginTask(
        np.array([[1], [1]]), np.array([1, -1]), np.array([1, 1]), np.array([3, 3]), np.array([2])
    )
    assert reach(task, Unit(np.array([0]), 0, 6), 5) is None
    assert reach(task, Unit(np.array([0]), 0, 6), 6).shortfall == 6
