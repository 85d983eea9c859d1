"""The linear formulation: its text, its meaning, and the truth of its optimum."""

from itertools import product

import numpy as np
import pytest

from mip2mcu.dataset import Dataset
from mip2mcu.decisions import Argmax, Sign
from mip2mcu.errors import DatasetError, UsageError
from mip2mcu.mip.solver import Solver, no_solve, solve
from mip2mcu.train.linear import Linear
from mip2mcu.train.linear_job import Units, missing_margin
from mip2mcu.train.linear_model import build_model
from mip2mcu.train.reduction import reduce
from tests.training import compare_with_golden, random_data, separated_data, weight_choices

TINY = Dataset.from_arrays([[2, 0], [0, 1], [0, 1]], ["a", "b", "b"], input_range=(0, 2))


def hinge(sums, dataset, target):
    """Shortfall of output sums (rows, units), written down once more and differently."""
    total = 0
    for s, c in zip(sums.tolist(), dataset.labels.tolist(), strict=True):
        if len(s) == 1:
            total += max(0, target - (s[0] if c == 0 else -s[0]))
        else:
            total += sum(max(0, target - (s[c] - other)) for o, other in enumerate(s) if o != c)
    return total


def every_two_class_unit(dataset, bound, binary, target):
    """(shortfall, links) of all weights and biases."""
    reach = bound * int(np.abs(dataset.inputs).sum(axis=1).max()) + target
    for weights in weight_choices(dataset.inputs.shape[1], bound, binary):
        for bias in range(-reach, reach + 1):
            sums = (dataset.inputs @ weights + bias)[:, None]
            yield hinge(sums, dataset, target), int(np.count_nonzero(weights))


# ---- text ----------------------------------------------------------------------------------------------------------


def test_the_margin_stage_reads_as_the_formulation_says(update_golden):
    compare_with_golden(Linear(weight_bound=2, target=3).build(TINY), "linear_margin.lp", update_golden)


def test_the_links_stage_reads_as_the_formulation_says(update_golden):
    compare_with_golden(
        Linear(weight_bound=2, target=3).build(TINY, budget=1), "linear_links.lp", update_golden
    )


def test_binary_weights_read_as_the_formulation_says(update_golden):
    compare_with_golden(Linear(weights="binary", target=3).build(TINY), "linear_binary.lp", update_golden)


def test_three_classes_read_as_the_formulation_says(update_golden):
    three = Dataset.from_arrays([[1], [2], [3]], ["a", "b", "c"], input_range=(0, 3))
    compare_with_golden(
        Linear(weight_bound=1, target=2).build(three), "linear_three_classes.lp", update_golden
    )


# ---- meaning -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("weights", ["integer", "binary"])
@pytest.mark.parametrize("seed", range(3))
def test_fixed_weights_give_the_networks_own_shortfall(seed, weights, classes):
    data = random_data(seed, rows=9, inputs=4, classes=classes)
    options = Linear(weights=weights, target=4)
    reduction = reduce(data, options.domain)
    rng = np.random.default_rng(seed)
    count = 1 if classes == 2 else classes
    step = options.domain.step
    chosen = [rng.choice(np.arange(-h, h + 1, step), count) for h in reduction.weight_high]
    units = Units(np.stack(chosen, axis=1), rng.integers(-4, 5, count))
    model = build_model(reduction, 4)
    for j in range(count):
        model.bias[j].fix(int(units.bias[j]))
        for column, group in enumerate(reduction.groups):
            model.weight[j, int(group[0])].fix(int(units.weights[j, column]))
    job = options.job(data, Solver())
    network = job.network(units)
    record = solve(model, Solver())
    sums = network.sums(data.inputs)
    assert (
        round(record.objective)
        == hinge(sums, data, 4)
        == missing_margin(network, data, 4)
        == job.shortfall(units)
    )
    for (k, c, other), shortfall in model.shortfall.items():
        s = reduction.rows[k] @ units.weights.T + units.bias
        margin = (s[0] if c == 0 else -s[0]) if classes == 2 else s[c] - s[other]
        assert round(shortfall.value) == max(0, 4 - margin)


# ---- truth ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weights", ["integer", "binary"])
@pytest.mark.parametrize("seed", range(6))
def test_both_stages_reach_the_optimum_of_brute_force(seed, weights):
    data = random_data(seed)
    binary = weights == "binary"
    options = Linear(weights=weights, weight_bound=None if binary else 2, target=3, keep=0.8)
    everything = list(every_two_class_unit(data, options.domain.bound, binary, 3))
    least = min(shortfall for shortfall, _ in everything)
    trained = options.fit(data, Solver())
    margin = trained.report.solves[0]
    assert (margin.status, margin.exact, margin.bound) == ("optimal", least, float(least))
    if binary:
        assert len(trained.report.solves) == 1
        assert missing_margin(trained.network, data, 3) == least
        return
    budget = least + int(0.2 * (data.rows * 3 - least) + 1e-9)
    fewest = min(links for shortfall, links in everything if shortfall <= budget)
    links = trained.report.solves[1]
    assert (links.status, links.exact, trained.network.link_count) == ("optimal", fewest, fewest)
    assert missing_margin(trained.network, data, 3) <= budget
    assert trained.report.status == "optimal"


@pytest.mark.parametrize("seed", range(3))
def test_three_classes_in_one_network_reach_the_optimum_of_brute_force(seed):
    data = random_data(seed, rows=6, inputs=2, classes=3, top=2)
    least = 10**9
    biases = np.array(list(product(range(-7, 8), repeat=2)))
    for choice in product((-1, 0, 1), repeat=6):
        sums = data.inputs @ np.array(choice).reshape(3, 2).T
        sums = (
            sums[None]
            + np.concatenate([biases, np.zeros((len(biases), 1), dtype=np.int64)], axis=1)[:, None, :]
        )
        own = np.take_along_axis(sums, data.labels[None, :, None], axis=2)
        least = min(least, int((np.maximum(0, 2 - (own - sums)).sum(axis=(1, 2)) - 2 * data.rows).min()))
    trained = Linear(weight_bound=1, target=2).fit(data, Solver())
    assert trained.report.solves[0].exact == least
    assert trained.report.solves[0].status == "optimal"
    assert trained.network.decision == Argmax(3)


# ---- behaviour -----------------------------------------------------------------------------------------------------


def test_two_classes_have_one_unit_and_class_0_where_the_sum_is_not_negative():
    trained = Linear(weight_bound=1, target=1).fit(TINY, Solver())
    assert trained.network.decision == Sign()
    assert trained.network.predict(TINY.inputs).tolist() == [0, 1, 1]
    assert trained.report.correct == 3


def test_contradictory_rows_enter_objective_and_bound():
    data = Dataset.from_arrays([[1], [1], [1], [0]], [0, 0, 1, 1], input_range=(0, 1))
    trained = Linear(weight_bound=8, target=4).fit(data, Solver())
    assert trained.report.solves[0].exact == trained.report.solves[0].bound == 2 * 4
    assert trained.report.correct == 3


def test_inputs_that_never_vary_leave_the_bias_to_decide():
    data = Dataset.from_arrays(np.ones((3, 2), dtype=int), [0, 1, 1], input_range=(0, 1))
    for weights in ("integer", "binary"):
        trained = Linear(weights=weights, target=2).fit(data, Solver())
        assert trained.network.predict(data.inputs).tolist() == [1, 1, 1]


def test_the_start_is_a_complete_network_and_the_search_never_worse():
    data = separated_data(classes=2)
    options = Linear(weight_bound=2)
    start = options.start(data, Solver())
    trained = options.fit(data, Solver(node_limit=5), start=start)
    assert trained.report.solves[0].exact <= start.report.solves[0].exact
    assert trained.report.solves[0].bound <= trained.report.solves[0].exact


def test_a_stop_from_the_beginning_still_gives_a_network():
    data = separated_data()
    trained = Linear().fit(data, Solver(), stop=lambda: True)
    assert trained.report.rows == data.rows
    assert trained.report.status == "incumbent"


def test_the_target_scales_with_the_distance_of_the_class_means():
    near = Dataset.from_arrays([[0, 0], [4, 2]], [0, 1], input_range=(0, 9))
    far = Dataset.from_arrays([[0, 0], [8, 4]], [0, 1], input_range=(0, 9))
    options = Linear(weight_bound=3, margin=0.5)
    assert [options.target_of(reduce(d, options.domain)) for d in (near, far)] == [4, 9]


def test_keeping_less_of_the_margin_takes_fewer_links():
    data = separated_data(rows=80, inputs=16, classes=2)
    links = [Linear(keep=keep).fit(data, Solver(node_limit=20)).report.links for keep in (1.0, 0.9, 0.6)]
    assert links == sorted(links, reverse=True)
    assert links[0] > links[-1]


def test_a_claim_that_the_weights_do_not_keep_is_rejected(monkeypatch):
    from mip2mcu.train import linear_job as module

    data = random_data(1)
    options = Linear(weight_bound=1, target=3, keep=1.0)
    start = options.start(data, Solver())
    before = start.report.solves[0]
    honest = module.solve

    def lying(model, *args, **kwargs):
        record = honest(model, *args, **kwargs)
        for weight in model.weight.values():
            weight.set_value(-weight.value)
        return module.replace(record, objective=0.0, bound=0.0)

    monkeypatch.setattr(module, "solve", lying)
    monkeypatch.setattr(module, "settled", lambda r, exact: module.replace(r, exact=exact))
    job = options.job(data, Solver())
    units = job.units_of(start.earlier[0])
    kept, record = job.search_margin(units, module.replace(before, status="not searched", bound=0.0))
    assert job.shortfall(kept) == before.exact
    assert record.status == "claim rejected"


def test_a_better_margin_stage_tightens_the_budget_of_the_links_stage():
    data = separated_data(rows=40, classes=2)
    options = Linear(weight_bound=2, keep=0.9)
    job = options.job(data, Solver(node_limit=0))
    good, _ = job.start_margin()
    nothing = Units(np.zeros_like(good.weights), np.zeros_like(good.bias))
    assert job.shortfall(nothing) > job.budget(job.shortfall(good))
    fewer, record = job.search_links(good, nothing, no_solve("links", Solver()))
    assert job.shortfall(fewer) <= job.budget(job.shortfall(good))
    assert record.exact == job.links(fewer) > 0


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"weights": "ternary"}, "weights 'ternary' are unknown, choose integer or binary"),
        ({"weights": "binary", "weight_bound": 3}, "a weight bound of 3 contradicts them"),
        ({"weight_bound": 0}, "a weight bound of 0 is not possible"),
        ({"margin": 0.0}, "a margin of 0.0 is not possible"),
        ({"target": 0}, "a margin target of 0 is not possible"),
        ({"keep": 1.5}, "keeping 1.5 of the margin is not possible"),
    ],
)
def test_impossible_options_are_refused(fields, message):
    with pytest.raises(UsageError, match=message):
        Linear(**fields)


def test_one_class_is_refused():
    with pytest.raises(DatasetError, match="all of one class"):
        Linear().fit(Dataset.from_arrays([[1], [2]], ["a", "a"], classes=["a", "b"]), Solver())
