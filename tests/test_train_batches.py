"""Batch training: boxes, votes, means and rounding by hand; the program in a box; runs that repeat and resume."""

from itertools import product

import numpy as np
import pytest

from mip2mcu.dataset import Dataset
from mip2mcu.errors import UsageError
from mip2mcu.mip.solver import Solver, solve
from mip2mcu.progress import never, silent
from mip2mcu.train import train
from mip2mcu.train.batches import deal, half_to_even, mean_network, validation_split
from mip2mcu.train.best_response import Engine, best_threshold
from mip2mcu.train.box import Box, radii
from mip2mcu.train.inn import Inn
from mip2mcu.train.inn_model import read_network, whole_box
from mip2mcu.train.inn_search import Search
from mip2mcu.train.reduction import WeightDomain, reduce
from mip2mcu.train.sign_network import SignNetwork
from tests.test_inn import random_network
from tests.training import random_data, separated_data

TERNARY, SEVEN, BINARY = WeightDomain(1), WeightDomain(3), WeightDomain(1, True)


def network(weights, bias):
    return SignNetwork((np.array([weights]),), (np.array([bias]),))


# ---- boxes ---------------------------------------------------------------------------------------------------------


def test_the_published_radii_go_from_the_bound_to_one_and_fewer_epochs_begin_nearer():
    assert radii(3, None) == (3, 2, 1)
    assert radii(15, 3) == (2, 1)
    assert radii(15, 1) == ()


def test_a_box_is_cut_at_the_domain_and_wide_ranges_move_by_the_same_share():
    high = (np.array([[3, 3, 6]]),)  # the third column stands for two equal inputs
    whole = Box(tuple(-h for h in high), high, (np.array([-10]),), (np.array([10]),))
    box = whole.around(network([2, -3, 1], 8), 1, SEVEN)
    assert (box.weight_low[0].tolist(), box.weight_high[0].tolist()) == ([[1, -3, -1]], [[3, -2, 3]])
    assert (box.bias_low[0].tolist(), box.bias_high[0].tolist()) == ([4], [10])  # a third of 10, rounded up
    assert box.holds(network([3, -2, 0], 5)) and not box.holds(network([0, -3, 1], 8))


def test_a_step_of_binary_weights_is_two():
    whole = Box((np.array([[-1, -2]]),), (np.array([[1, 2]]),), (np.array([-5]),), (np.array([5]),))
    box = whole.around(network([1, 0], 0), 1, BINARY)
    assert (box.weight_low[0].tolist(), box.weight_high[0].tolist()) == ([[-1, -2]], [[1, 2]])


def test_inputs_that_a_batch_does_not_have_keep_their_weights():
    whole = Box((np.array([[-3, -3]]),), (np.array([[3, 3]]),), (np.array([-5]),), (np.array([5]),))
    box = whole.fixed_inputs(np.array([1]), network([1, 2], 0))
    assert (box.weight_low[0].tolist(), box.weight_high[0].tolist()) == ([[-3, 2]], [[3, 2]])


def boxed(seed, hidden, classes, weights="integer"):
    """A reduction, options, and a box of radius 1 around a random network."""
    data = random_data(seed, rows=8, inputs=3, classes=classes)
    options = Inn(hidden=hidden, weight_bound=None if weights == "binary" else 2, weights=weights)
    reduction = reduce(data, options.domain)
    centre = random_network(reduction, hidden, np.random.default_rng(seed))
    whole = whole_box(reduction, hidden, options.goal.room(reduction, hidden))
    return options, reduction, centre, whole.around(whole.clipped(centre), 1, options.domain)


@pytest.mark.parametrize("hidden", [(2,), (3, 2)])
@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("weights", ["integer", "binary"])
def test_a_network_in_the_box_costs_in_the_program_what_it_costs_itself(hidden, classes, weights):
    options, reduction, centre, box = boxed(5, hidden, classes, weights)
    rng = np.random.default_rng(1)
    moved = [c + options.domain.step * rng.integers(-1, 2, c.shape) for c in centre.weights]
    inside = box.clipped(SignNetwork(tuple(moved), tuple(c + rng.integers(-1, 2, c.shape) for c in centre.bias)))
    program = options.goal.program(reduction, hidden, ordered=False, box=box)
    program.place(inside)
    for variable in [*program.model.weight.values(), *program.model.bias.values()]:
        assert variable.lb <= variable.value <= variable.ub
        variable.fix()
    record = solve(program.model, Solver())
    assert (record.status, round(record.objective)) == ("optimal", options.goal.value(inside, reduction)[0])


@pytest.mark.parametrize("seed", range(3))
def test_the_optimum_in_a_box_is_that_of_brute_force(seed):
    options, reduction, centre, box = boxed(seed, (1,), 2)
    free = [range(low, high + 1) for low, high in zip(box.weight_low[0][0], box.weight_high[0][0], strict=True)]
    biases = [range(int(low[0]), int(high[0]) + 1) for low, high in zip(box.bias_low, box.bias_high, strict=True)]
    out = range(int(box.weight_low[1][0, 0]), int(box.weight_high[1][0, 0]) + 1)
    hidden = {
        tuple(np.where(reduction.rows @ np.array(w) + b >= 0, 1, -1)) for *w, b in product(*free, biases[0])
    }
    lost = [
        np.where(v * np.array(h) + b >= 0, reduction.counts[:, 1], reduction.counts[:, 0]).sum()
        for h, v, b in product(hidden, out, biases[1])
    ]
    search = Search(options.goal, reduction, (1,), ordered=False, box=box)
    found, (record,) = search.stages(centre, [], Solver())
    assert (record.status, record.exact) == ("optimal", min(lost))
    assert box.holds(found)


@pytest.mark.parametrize("classes", [2, 3])
def test_responses_in_a_box_stay_there_and_are_never_worse(classes):
    options, reduction, centre, box = boxed(7, (3, 2), classes)
    engine = Engine(reduction, options.goal, Solver(), silent, never, box=box)
    found = engine.improved(centre, programs=False)
    assert box.holds(found)
    assert engine.value(found) <= engine.value(centre)


@pytest.mark.parametrize("limits", [(-3, 1), (2, 9), (-9, -4), (0, 0)])
def test_the_best_threshold_within_limits_is_that_of_brute_force(limits):
    rng = np.random.default_rng(0)
    for _ in range(20):
        sums, cost = rng.integers(-5, 6, 8), rng.integers(-4, 5, 8)
        totals = {bias: int(cost[sums + bias >= 0].sum()) for bias in range(limits[0], limits[1] + 1)}
        value, bias = best_threshold(sums, cost, limits)
        assert value == min(totals.values()) == totals[bias]


# ---- votes and means -----------------------------------------------------------------------------------------------


def test_halves_are_rounded_to_the_even_neighbour():
    assert half_to_even(np.array([-5, -3, -1, 1, 3, 5, 7]), 2).tolist() == [-2, -2, 0, 0, 2, 2, 4]
    assert half_to_even(np.array([-7, 7, 14]), 6).tolist() == [-1, 1, 2]


def test_the_worst_network_has_no_vote_and_the_others_what_they_get_more_right():
    parts = [network([3, -3], 10), network([1, 0], 4), network([-2, 3], -90)]
    mean = mean_network(parts, [10, 8, 6], SEVEN)  # votes 4, 2, 0
    assert (mean.weights[0].tolist(), mean.bias[0].tolist()) == ([[2, -2]], [8])


def test_equally_right_networks_have_one_vote_each():
    mean = mean_network([network([1, 0], 3), network([2, -1], 4)], [7, 7], SEVEN)
    assert (mean.weights[0].tolist(), mean.bias[0].tolist()) == ([[2, 0]], [4])


def test_means_of_binary_weights_are_binary_and_of_merged_ones_keep_their_parity():
    parts = [network([1, 2], 0), network([-1, -2], 1), network([-1, 0], 1)]
    mean = mean_network(parts, [4, 4, 4], BINARY)
    assert (mean.weights[0].tolist(), mean.bias[0].tolist()) == ([[-1, 0]], [1])


def test_one_in_five_rows_of_each_class_votes():
    data = Dataset.from_arrays(np.arange(23)[:, None], [0] * 11 + [1] * 8 + [2] * 4, input_range=(0, 22))
    training, validation = validation_split(data, 3)
    assert sorted([*training, *validation]) == list(range(23))
    assert np.bincount(data.labels[validation], minlength=3).tolist() == [2, 1, 0]
    with pytest.raises(UsageError, match="no class has so many: train on more rows"):
        validation_split(data.rows_at([0, 1, 2, 3, 11, 12, 19]), 0)


def test_rows_are_dealt_out_class_by_class_and_anew_in_every_epoch():
    labels, rows = np.array([0] * 12 + [1] * 8), np.arange(20)
    batches = deal(labels, rows, 6, 0, 1)
    assert sorted(np.concatenate(batches)) == list(range(20))
    assert [np.bincount(labels[batch]).tolist() for batch in batches] == [[3, 2]] * 4
    assert [b.tolist() for b in batches] != [b.tolist() for b in deal(labels, rows, 6, 0, 2)]


# ---- runs ----------------------------------------------------------------------------------------------------------

DATA = separated_data(rows=60, inputs=6, classes=2)
OPTIONS = {"hidden": (2,), "weight_bound": 1, "objective": "sat-margin", "batches": "averaging", "batch_rows": 12}


def test_the_same_bytes_come_from_any_number_of_workers_and_from_what_was_kept(tmp_path):
    first = train(DATA, "inn", options=OPTIONS, node_limit=3, workers=2, resume=tmp_path)
    files = sorted(tmp_path.iterdir())
    stamps = [path.stat().st_mtime_ns for path in files]
    assert len(files) == 1 + 2 * 4  # the first network, and two epochs of four batches
    again = train(DATA, "inn", options=OPTIONS, node_limit=3, resume=tmp_path)
    assert [path.stat().st_mtime_ns for path in files] == stamps
    files[4].unlink()
    third = train(DATA, "inn", options=OPTIONS, node_limit=3, resume=tmp_path)
    assert first.network.sha256 == again.network.sha256 == third.network.sha256
    assert sorted(tmp_path.iterdir()) == files


def test_the_mean_of_optimal_networks_is_not_called_optimal():
    trained = train(DATA, "inn", options=OPTIONS, node_limit=3)
    assert {s.stage for s in trained.report.solves} == {
        *(f"epoch {epoch}: batch unsaturated" for epoch in (1, 2)), "unsaturated"
    }  # fmt: skip
    last = trained.report.solves[-1]
    assert last.status == "optimal" if last.exact == 0 else last.status == "not searched"
    assert any("4 batches of up to 12 rows; right on 12 rows for validation" in note for note in trained.report.notes)


def test_units_that_the_first_network_does_not_use_are_gone():
    options = {**OPTIONS, "hidden": (3,), "compress": "weighted", "alpha": 1.0}
    trained = train(DATA, "inn", options=options, node_limit=0)
    assert trained.network.layers[0].units < 3


def test_several_classes_and_members_are_trained_in_batches():
    three = separated_data(rows=60, inputs=6)
    whole = train(three, "inn", options={**OPTIONS, "weights": "binary"}, node_limit=0)
    assert whole.network.layers[-1].units == 3
    pairs = train(three, "inn", ensemble="pairs", options=OPTIONS, node_limit=0)
    assert pairs.network.layers[-1].units == 3
    assert pairs.report.correct > 30


def test_a_stop_ends_with_the_first_epoch():
    trained = train(DATA, "inn", options=OPTIONS, node_limit=3, stop=lambda: True)
    assert len(trained.report.solves) == 4 + 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batches": "some"}, "batches 'some' are unknown, choose one of none, averaging, lazy"),
        ({"batches": "averaging", "batch_rows": 1}, "batches of 1 rows are not possible"),
        ({"batches": "averaging", "epochs": 0}, "0 epochs are not possible"),
        ({"batches": "lazy", "epochs": 2}, "epochs are for averaged batches"),
        ({"batches": "averaging", "objective": "min-weight"}, "a mean of networks keeps no row right"),
        ({"batches": "lazy", "objective": "max-margin"}, "lazy batches need losses of single rows"),
    ],
)
def test_impossible_batches_are_refused(options, message):
    with pytest.raises(UsageError, match=message):
        Inn(**options)


def test_a_read_network_lies_in_the_box_of_its_program():
    options, reduction, _, box = boxed(2, (2,), 2)
    program = options.goal.program(reduction, (2,), ordered=False, box=box)
    solve(program.model, Solver(node_limit=5))
    assert box.holds(read_network(program.model))
