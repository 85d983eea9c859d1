"""BeMi: the LP of each stage, activations as `Network` computes them, optima against brute force, bad input."""

from __future__ import annotations

import time
from itertools import product

import numpy as np
import pytest

from mip2mcu.dataset import Dataset
from mip2mcu.errors import UsageError
from mip2mcu.mip.solver import Solver, solve
from mip2mcu.train import train
from mip2mcu.train.bemi import Bemi
from mip2mcu.train.bemi_goal import STAGES
from mip2mcu.train.bemi_job import BemiJob
from mip2mcu.train.bemi_model import After, build_model, place, read
from mip2mcu.train.sign_network import SignNetwork, as_network, from_network
from tests.training import compare_with_golden, random_data, separated_data

TWO_ROWS = Dataset.from_arrays(np.array([[0, 2], [3, 1]]), [0, 1], input_range=(0, 3))
PUBLISHED = Bemi((1,), variant="published")
CORRECTED = Bemi((1,), keep=0.5)


def after_start(bemi, data, stages):
    """The goal, and what the first ``stages`` of a quick start leave."""
    job = BemiJob(bemi.goal(data), Solver(node_limit=0), lambda _event: None, lambda: False, 0.0)
    networks, _ = job.start()
    return job, job.after(networks[:stages])


# ---- text ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bemi", [PUBLISHED, CORRECTED], ids=["published", "corrected"])
@pytest.mark.parametrize("stage", STAGES)
def test_the_model_of_a_stage(bemi, stage, update_golden):
    job, after = after_start(bemi, TWO_ROWS, STAGES.index(stage))
    compare_with_golden(build_model(job.goal, stage, after), f"bemi_{bemi.variant}_{stage}.lp", update_golden)


# ---- meaning -------------------------------------------------------------------------------------------------------


def random_network(goal, rng):
    """Any weights within the bounds."""
    weights, bias = [], []
    for layer, width in enumerate(goal.widths, 1):
        high = goal.weight_high(layer)
        weights.append(rng.integers(-high, high + 1, (width, len(high))))
        reach = min(goal.bias_high(layer), int(high.sum()))
        bias.append(rng.integers(-reach, reach + 1, width))
    return SignNetwork(tuple(weights), tuple(bias))


def fixed(model, network, goal):
    place_all(model, network, goal)
    for variables in (model.weight, *([] if goal.published else [model.bias])):
        for variable in variables.values():
            variable.fix()


def place_all(model, network, goal):
    place(model, goal, network, None if not hasattr(model, "margin") else After(goal.confident(network), 0))


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("variant", ["published", "corrected"])
@pytest.mark.parametrize("classes", [2, 3])
def test_with_fixed_weights_activations_and_confidence_are_those_of_the_network(seed, variant, classes):
    data = random_data(seed, classes=classes)
    bemi = Bemi((3, 2), variant=variant, weight_bound=1 + seed % 3)
    goal, rng = bemi.goal(data), np.random.default_rng(seed)
    network = random_network(goal, rng)
    model = bemi.build(data)
    fixed(model, network, goal)
    record = solve(model, Solver())
    assert record.status == "optimal"
    assert round(record.objective) == goal.first(network)
    whole = as_network(network, goal.reduction, data)
    hidden = whole.activations(data.inputs)
    for (layer, k, j), fired in model.fired.items():
        rows = [r for r in range(data.rows) if stands_for(data, goal, r, k)]
        assert {int(hidden[layer - 1][r, j]) for r in rows} == {2 * round(fired.value) - 1}
    assert whole.sums(data.inputs).tolist() == network_sums(network, goal, data).tolist()


def stands_for(data, goal, row, reduced):
    """Whether row ``reduced`` of the reduction is ``row`` of the data."""
    columns = [int(group[0]) for group in goal.reduction.groups]
    return data.inputs[row, columns].tolist() == goal.reduction.rows[reduced].tolist()


def network_sums(network, goal, data):
    columns = [int(group[0]) for group in goal.reduction.groups]
    values = network.inputs_of(data.inputs[:, columns], network.depth - 1)
    return network.sums(values, network.depth - 1)


@pytest.mark.parametrize("seed", range(5))
def test_with_fixed_weights_margins_are_those_of_the_network(seed):
    data = random_data(seed)
    bemi = Bemi((2,), variant="published", weight_bound=3)
    goal, rng = bemi.goal(data), np.random.default_rng(seed)
    network = random_network(goal, rng)
    kept = (goal.signed_outputs(network) >= 1).all(axis=1)
    model = build_model(goal, "margins", After(kept, 0))
    fixed(model, network, goal)
    record = solve(model, Solver())
    margins = goal.margins(network, kept)
    assert round(record.objective) == goal.second(margins)
    found = [[round(model.margin[layer, j].value) for j in range(width)] for layer, width in enumerate(goal.widths, 1)]
    assert found == [layer.tolist() for layer in margins]


# ---- truth ---------------------------------------------------------------------------------------------------------


def every_network(goal, bias_reach):
    """All networks of one hidden unit, biases within ``bias_reach``."""
    high = goal.weight_high(1)
    for first in product(*(range(-h, h + 1) for h in high.tolist())):
        for second in range(-goal.reduction.domain.bound, goal.reduction.domain.bound + 1):
            for bias in product(range(-bias_reach, bias_reach + 1), range(-2, 3)) if bias_reach else [(0, 0)]:
                weights = (np.array([first]), np.array([[second]]))
                yield SignNetwork(weights, (np.array([bias[0]]), np.array([bias[1]])))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("bemi", [PUBLISHED, CORRECTED], ids=["published", "corrected"])
def test_every_stage_ends_at_the_optimum_of_all_networks(seed, bemi):
    data = random_data(seed, rows=6, inputs=2, top=2)
    job = BemiJob(bemi.goal(data), Solver(), lambda _event: None, lambda: False, 0.0)
    networks, records = job.search(*job.start())
    assert [record.status for record in records] == ["optimal"] * 3
    every = list(every_network(job.goal, 0 if bemi.published else 7))
    for position, (stage, record) in enumerate(zip(STAGES, records, strict=True)):
        after = job.after(networks[:position])
        values = [value for value in (job.value(stage, one, after) for one in every) if value is not None]
        assert record.exact == (max(values) if job.maximised(stage) else min(values))


def counted_as_in_the_paper(data, networks, bound):
    """Confident samples, margins (unit by unit) and links of three networks for two classes, by lists alone."""
    rows = data.inputs.tolist()
    signs = [1 - 2 * label for label in data.labels.tolist()]

    def sums(network, row):
        found, values = [], row
        for layer in network.layers:
            weighted = [[w * v for w, v in zip(unit, values, strict=True)] for unit in layer.weights.tolist()]
            found.append([sum(unit) for unit in weighted])
            values = [1 if total >= 0 else -1 for total in found[-1]]
        return found

    reach = bound * (networks[0].layers[-1].weights.shape[1] + 1)
    kept = [k for k, row in enumerate(rows) if 4 * signs[k] * sums(networks[0], row)[-1][0] >= reach]
    fires = [[[s >= 0 for s in layer] for layer in sums(networks[1], row)[:-1]] + [[y > 0]]
             for row, y in zip(rows, signs, strict=True)]  # fmt: skip
    margins = []
    for network in networks[1:]:
        each = [[[s if f else -1 - s for s, f in zip(*layer, strict=True)]
                 for layer in zip(sums(network, rows[k]), fires[k], strict=True)] for k in kept]  # fmt: skip
        margins.append([[min(unit) for unit in zip(*layer, strict=True)] for layer in zip(*each, strict=True)])
    links = sum(w != 0 for layer in networks[2].layers for unit in layer.weights.tolist() for w in unit)
    return len(kept), margins, links


@pytest.mark.parametrize(("hidden", "bound"), [((), 2), ((2,), 1), ((2, 2), 3)])
@pytest.mark.parametrize("seed", range(2))
def test_the_published_stages_are_those_of_the_paper(hidden, bound, seed):
    data = random_data(seed, rows=6, inputs=3, top=4)
    trained = train(data, Bemi(hidden, bound, variant="published"), node_limit=30)
    networks = [*trained.earlier, trained.network]
    confident, (best, last), links = counted_as_in_the_paper(data, networks, bound)
    first, second, third = trained.report.solves
    assert confident < data.rows, "a sample that contradicts another is among them"
    assert (first.exact, second.exact, third.exact) == (confident, sum(map(sum, best)), links)
    assert second.bound >= second.exact
    assert all(a >= b for ours, floors in zip(last, best, strict=True) for a, b in zip(ours, floors, strict=True))


def test_samples_that_are_not_confident_do_not_limit_the_margins():
    data = Dataset.from_arrays(np.array([[5, 0], [0, 5], [1, 0]]), [0, 1, 1], input_range=(0, 5))
    margins = train(data, Bemi((), variant="published"), node_limit=100).report.solves[1]
    assert (margins.status, margins.exact, margins.bound) == ("optimal", 4, 4.0)


# ---- behaviour -----------------------------------------------------------------------------------------------------


def sign_network(network, bemi, data):
    return from_network(network, bemi.goal(data).reduction)


@pytest.mark.parametrize("variant", ["published", "corrected"])
@pytest.mark.parametrize("hidden", [(), (2,), (3, 2)])
def test_no_stage_loses_what_another_has_gained(variant, hidden):
    data = separated_data(rows=20, classes=2)
    bemi = Bemi(hidden, variant=variant)
    trained = train(data, bemi, time_limit=2)
    assert [solve.stage for solve in trained.report.solves] == list(STAGES)
    assert len(trained.earlier) == 2
    assert trained.network.link_count <= trained.earlier[1].link_count
    assert trained.report.solves[-1].exact == trained.network.link_count
    before, after = (bemi.goal(data).first(sign_network(n, bemi, data)) for n in (trained.earlier[0], trained.network))
    assert after <= before if variant == "corrected" else trained.report.solves[0].exact == before


def test_the_threshold_is_a_quarter_of_the_reach():
    data = separated_data(rows=20, classes=2)
    thresholds = [Bemi(h, P).goal(data).threshold for h, P in (((4, 4), 1), ((10, 3), 1), ((4, 4), 3), ((), 1))]
    assert thresholds == [2, 1, 4, 1]


def test_the_threshold_counts_equal_inputs_one_by_one():
    data = Dataset.from_arrays(np.array([[0] * 7, [1] * 7]), [0, 1], input_range=(0, 1))
    assert Bemi((), variant="published").goal(data).threshold == 2


def test_stages_hand_their_time_on():
    data = separated_data(rows=20, classes=2)
    job = BemiJob(Bemi((2,)).goal(data), Solver(time_limit=100.0), lambda _event: None, lambda: False, time.monotonic())
    left = [job._left(position) for position in range(3)]
    assert [round(seconds) for seconds in left] == [30, 70, 100]


@pytest.mark.parametrize("hidden", [(), (0,)])
def test_no_hidden_layer_is_also_written_as_nought(hidden):
    assert Bemi(hidden).goal(separated_data(rows=6, classes=2)).widths == (1,)


def test_a_network_without_confident_samples_says_so():
    contradictory = Dataset.from_arrays(np.array([[0], [1], [0], [1]]), [0, 0, 1, 2], input_range=(0, 1))
    trained = train(contradictory, Bemi((1,), variant="published"), ensemble="none", node_limit=0)
    assert trained.report.solves[0].exact < 12
    assert "a member has no confident sample, so its stage of margins asks for nothing" in trained.report.notes


def test_pairs_of_ternary_networks_vote_strictly():
    trained = train(separated_data(rows=30), "bemi", options={"hidden": (2,)}, vote="strict", node_limit=0)
    assert trained.network.decision.by_margin is False
    assert set(np.unique(trained.network.layers[0].weights)) <= {-1, 0, 1}
    assert trained.report.accuracy > 0.7


def test_binary_weights_have_no_last_stage():
    trained = train(separated_data(rows=20, classes=2), Bemi((2,), weights="binary"), time_limit=4)
    assert [solve.stage for solve in trained.report.solves] == list(STAGES[:2])
    assert set(np.unique(trained.network.layers[0].weights)) == {-1, 1}


def test_node_limits_repeat_to_the_byte():
    data = separated_data(rows=12, inputs=5)
    first, second = (train(data, Bemi((2,), keep=0.5), node_limit=2, workers=w).network.sha256 for w in (1, 2))
    assert first == second


def test_without_a_bias_constant_inputs_are_kept_unless_they_are_zero():
    data = Dataset.from_arrays(np.array([[0, 5, 1], [0, 5, 2], [0, 5, 3]]), [0, 1, 1], input_range=(0, 9))
    assert [group.tolist() for group in PUBLISHED.goal(data).reduction.groups] == [[1], [2]]
    assert [group.tolist() for group in CORRECTED.goal(data).reduction.groups] == [[2]]


def test_a_row_of_zeros_keeps_its_labels():
    data = Dataset.from_arrays(np.array([[0, 0], [0, 0], [1, 2]]), [0, 1, 1], input_range=(0, 9))
    reduction = PUBLISHED.goal(data).reduction
    assert sorted(zip(reduction.rows.tolist(), reduction.counts.tolist(), strict=True)) == [
        ([0, 0], [1, 1]),
        ([1, 2], [0, 1]),
    ]


def test_read_gives_what_was_placed():
    data = random_data(2)
    goal = Bemi((3, 2), 3).goal(data)
    network = random_network(goal, np.random.default_rng(0))
    model = build_model(goal, "confident")
    place(model, goal, network, None)
    found = read(model, goal)
    for ours, theirs in zip((*found.weights, *found.bias), (*network.weights, *network.bias), strict=True):
        assert ours.tolist() == theirs.tolist()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden": (4, 0)}, "give 1 to 65535 units a layer"),
        ({"variant": "improved"}, "variant 'improved' is unknown, choose one of corrected, published"),
        ({"keep": 1.5}, "keeping 1.5 of the margins is not possible"),
        ({"variant": "published", "keep": 0.5}, "the published variant keeps every margin"),
        ({"weight_bound": 0}, "a weight bound of 0 is not possible"),
    ],
)
def test_options_that_are_refused(options, message):
    with pytest.raises(UsageError, match=message):
        Bemi(**options)
