"""INN without hidden layers: outputs alone, the ridge, and steps of single weights."""

from itertools import product

import numpy as np
import pytest

from mip2mcu.dataset import Dataset
from mip2mcu.errors import UsageError
from mip2mcu.mip.solver import Solver, solve
from mip2mcu.progress import never
from mip2mcu.train import train
from mip2mcu.train.best_response import hinge_fit
from mip2mcu.train.goal import Goal
from mip2mcu.train.inn import RIDGES, Inn
from mip2mcu.train.objectives import OBJECTIVES
from mip2mcu.train.outputs import VALUES, Outputs
from mip2mcu.train.reduction import reduce
from mip2mcu.train.sign_network import SignNetwork
from mip2mcu.train.sign_start import outputs_alone, spread
from tests.test_inn import ONE_ROW_EACH
from tests.training import compare_with_golden, random_data, separated_data


def test_a_ridge_reads_as_it_says(update_golden):
    options = Inn(hidden=(), weight_bound=2, objective="min-hinge", margin_target=3, ridge=5)
    compare_with_golden(options.build(ONE_ROW_EACH), "inn_ridge.lp", update_golden)


@pytest.mark.parametrize("objective", ["max-correct", "min-hinge", "sat-margin"])
@pytest.mark.parametrize("classes", [2, 3])
def test_fixed_weights_cost_what_the_network_itself_says(objective, classes):
    data = random_data(6, rows=8, inputs=3, classes=classes)
    options = Inn(hidden=(), weight_bound=2, objective=objective)
    reduction, rng = reduce(data, options.domain), np.random.default_rng(1)
    outputs = 1 if classes == 2 else 3
    units = SignNetwork((rng.integers(-2, 3, (outputs, 3)),), (rng.integers(-3, 4, outputs),))
    program = options.program(reduction)
    program.place(units)
    program.cut(units)
    for variable in [*program.model.weight.values(), *program.model.bias.values()]:
        variable.fix()
    record = solve(program.model, Solver())
    assert (record.status, round(record.objective)) == ("optimal", program.goal.value(units, reduction)[0])


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_optimum_is_that_of_brute_force(objective, seed):
    data = random_data(seed, rows=6, inputs=2, top=2)
    if objective in ("min-weight", "max-margin"):
        y = np.where(data.inputs @ np.array([1, -1]) >= 0, 0, 1)
        data = Dataset.from_arrays(np.r_[data.inputs, [[0, 1]], [[1, 0]]], np.r_[y, 1, 0], input_range=(0, 2))
    options = Inn(hidden=(), weight_bound=2, objective=objective)
    reduction = reduce(data, options.domain)
    goal, reach = options.goal_on(reduction), int((reduction.rows @ reduction.weight_high).max()) + 1
    reach += goal.margin_target if goal.kind.has_target else 0
    values = [
        goal.value(SignNetwork((np.array([w]),), (np.array([b]),)), reduction)
        for w in product(*(range(-h, h + 1) for h in reduction.weight_high.tolist()))
        for b in range(-reach, reach + 1)
    ]
    trained = options.fit(data, Solver())
    assert trained.report.status == "optimal"
    assert tuple(s.exact for s in trained.report.solves) == min(values)


@pytest.mark.parametrize("top", [1, 3, 2 * VALUES])
@pytest.mark.parametrize("ridge", [0, 4])
def test_steps_are_the_best_of_an_output_and_stop_where_none_helps(top, ridge):
    data = random_data(2, rows=30, inputs=5, classes=3, top=top)
    reduction = reduce(data, Inn(weight_bound=2).domain)
    goal = Goal("min-hinge", 2, margin_target=4 * top, ridge=ridge)
    start = SignNetwork((np.zeros((3, 5), int),), (np.zeros(3, int),))
    high, stop = reduction.weight_high, never
    outputs = Outputs(
        goal, reduction.counts, reduction.rows, high, start.weights[0].copy(), start.bias[0].copy(), 4 * top, stop
    )
    outputs.tune(1)
    found = SignNetwork((outputs.weights,), (outputs.bias,))
    best = goal.value(found, reduction)
    assert best < goal.value(start, reduction)
    assert outputs.sums.tolist() == found.output_sums(reduction.rows).tolist()
    for j, i in np.ndindex(3, 5):
        for change in (-1, 1):
            weights = found.weights[0].copy()
            weights[j, i] += change
            if abs(weights[j, i]) <= 2:
                assert goal.value(SignNetwork((weights,), found.bias), reduction) >= best


def test_a_real_fit_is_where_its_gradient_vanishes():
    rng = np.random.default_rng(0)
    rows, signs = rng.normal(size=(40, 3)), rng.choice([-1.0, 1.0], 40)
    for ridge in (0.5, 50.0):
        found = hinge_fit(rows, np.ones(40), signs, ridge)
        design = np.c_[rows, np.ones(40)]
        short = np.maximum(0, 1 - signs * (design @ found))
        assert np.allclose(ridge * found, design.T @ (short * signs), atol=1e-3)


def test_the_largest_weight_of_the_start_is_the_bound():
    reduction = reduce(separated_data(classes=2), Inn(weight_bound=7).domain)
    network, target = outputs_alone(reduction, 3)
    assert np.abs(network.weights[0]).max() == 7
    assert target > 7
    assert spread(reduction) == 1


@pytest.mark.parametrize("ensemble", ["auto", "pairs"])
def test_outputs_alone_are_trained_verified_and_chosen_by_cross_validation(ensemble):
    data = separated_data(rows=90)
    options = {"hidden": (0,), "objective": "min-hinge", "weight_bound": 7}
    trained = train(data, "inn", ensemble=ensemble, options=options, node_limit=0)
    assert len(trained.network.layers) == 1
    assert trained.report.accuracy > 0.8
    assert dict(trained.report.options)["ridge"] in RIDGES
    assert any(note.startswith("options chosen by 5-fold cross-validation") for note in trained.report.notes)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden": (), "compress": "weighted"}, "there are no hidden units to compress"),
        ({"hidden": (3,), "ridge": 3, "objective": "min-hinge"}, "a ridge is for min-hinge without hidden layers"),
        ({"hidden": (), "ridge": 3}, "a ridge is for min-hinge without hidden layers"),
        ({"hidden": (), "ridge": -1, "objective": "min-hinge"}, "a ridge of -1 is not possible"),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(UsageError, match=message):
        Inn(**options)
