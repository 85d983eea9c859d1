"""The INN formulation: its text, its meaning, and the truth of its optimum."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from mip2mcu.dataset import Dataset
from mip2mcu.errors import UsageError
from mip2mcu.mip.solver import Solver, solve
from mip2mcu.train.inn import Inn, wrong
from mip2mcu.train.inn_model import read_network
from mip2mcu.train.reduction import reduce
from mip2mcu.train.sign_network import SignNetwork, as_network, errors, from_network
from tests.training import compare_with_golden, random_data, separated_data

XOR = Dataset.from_arrays(
    [[0, 0], [0, 1], [1, 0], [1, 1]], ["even", "odd", "odd", "even"], input_range=(0, 1)
)
ONE_ROW_EACH = Dataset.from_arrays([[2], [1]], ["a", "b"], input_range=(0, 2))


def random_network(reduction, hidden, rng):
    """Random units in the domain, hidden ones ordered by their bias."""
    classes, bound, step = reduction.counts.shape[1], reduction.domain.bound, reduction.domain.step
    widths = (*hidden, 1 if classes == 2 else classes)
    first = [rng.choice(np.arange(-h, h + 1, step), widths[0]) for h in reduction.weight_high]
    weights = [np.stack(first, axis=1)]
    weights += [
        rng.choice(np.arange(-bound, bound + 1, step), shape)
        for shape in zip(widths[1:], widths, strict=False)
    ]
    return SignNetwork(tuple(weights), tuple(rng.integers(-2, 3, width) for width in widths)).ordered()


# ---- text ----------------------------------------------------------------------------------------------------------


def test_one_hidden_unit_reads_as_the_formulation_says(update_golden):
    compare_with_golden(
        Inn(hidden=(1,), weight_bound=2).build(ONE_ROW_EACH), "inn_one_unit.lp", update_golden
    )


# ---- meaning -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hidden", [(2,), (3, 2)])
@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("weights", ["integer", "binary"])
def test_fixed_weights_give_the_networks_own_activations_and_errors(hidden, classes, weights):
    data = random_data(4, rows=8, inputs=3, classes=classes)
    options = Inn(hidden=hidden, weights=weights)
    reduction = reduce(data, options.domain)
    units = random_network(reduction, hidden, np.random.default_rng(classes))
    program = options.program(reduction)
    program.place(units)
    model = program.model
    for variable in [*model.weight.values(), *model.bias.values()]:
        variable.fix()
    record = solve(model, Solver())
    network = as_network(units, reduction, data)
    assert record.status == "optimal"
    assert round(record.objective) == wrong(network, data) == errors(units, reduction)
    row_of = {tuple(row): k for k, row in enumerate(reduction.rows)}
    columns = [group[0] for group in reduction.groups]
    activations = network.activations(data.inputs)
    for layer in range(1, len(hidden) + 1):
        for row, values in zip(data.inputs[:, columns], activations[layer - 1], strict=True):
            k = row_of[tuple(row)]
            assert [
                2 * model.fired[layer, k, j].value - 1 for j in range(hidden[layer - 1])
            ] == values.tolist()


def test_tied_outputs_are_correct_for_the_lowest_class_only():
    data = Dataset.from_arrays([[0], [1], [2]], ["a", "b", "c"], input_range=(0, 2))
    reduction = reduce(data, Inn().domain)
    model = Inn(hidden=(1,)).program(reduction).model
    for variable in [*model.weight.values(), *model.bias.values()]:
        variable.fix(0)
    assert round(solve(model, Solver()).objective) == 2
    assert [model.correct[k, k].value for k in range(3)] == [1, 0, 0]


@pytest.mark.parametrize("classes", [2, 3])
def test_a_placed_network_satisfies_every_constraint_and_is_read_back(classes):
    data = random_data(5, rows=8, inputs=3, classes=classes)
    reduction = reduce(data, Inn().domain)
    units = random_network(reduction, (3, 2), np.random.default_rng(1))
    program = Inn(hidden=(3, 2)).program(reduction)
    program.place(units)
    model, seen = program.model, []
    solve(model, Solver(node_limit=0), start=True, listener=seen.append)
    first = next(e.incumbent for e in seen if e.incumbent is not None)
    assert first <= errors(units, reduction)
    program.place(units)
    again = read_network(model)
    assert [w.tolist() for w in again.weights] == [w.tolist() for w in units.weights]
    assert [b.tolist() for b in again.bias] == [b.tolist() for b in units.bias]


def test_ordering_hidden_units_changes_no_prediction():
    data = random_data(6, rows=9, inputs=3, classes=3)
    reduction = reduce(data, Inn().domain)
    rng = np.random.default_rng(2)
    units = random_network(reduction, (4, 3), rng)
    order = rng.permutation(4)
    shuffled = SignNetwork(
        (units.weights[0][order], units.weights[1][:, order], units.weights[2]),
        (units.bias[0][order], *units.bias[1:]),
    )
    assert shuffled.ordered().predict(reduction.rows).tolist() == shuffled.predict(reduction.rows).tolist()


# ---- truth ---------------------------------------------------------------------------------------------------------


def fewest_errors_with_two_hidden_units(data, values):
    """Brute force over 2-2-1 networks: all cuts of the rows by one unit, then all outputs."""
    reach = 2 * int(np.abs(data.inputs).sum(axis=1).max()) + 1
    cuts = set()
    for weights in product(values, repeat=data.inputs.shape[1]):
        sums = data.inputs @ np.array(weights)
        cuts |= {tuple(np.where(sums + bias >= 0, 1, -1)) for bias in range(-reach, reach + 1)}
    fewest = data.rows
    for first, second in product(sorted(cuts), repeat=2):
        hidden = np.array([first, second]).T
        for weights in product(values, repeat=2):
            sums = hidden @ np.array(weights)
            for bias in range(-3 * max(values), 3 * max(values) + 1):
                fewest = min(fewest, int((np.where(sums + bias >= 0, 0, 1) != data.labels).sum()))
    return fewest


@pytest.mark.parametrize("weights", ["integer", "binary"])
@pytest.mark.parametrize("seed", range(3))
def test_the_optimum_is_that_of_brute_force(seed, weights):
    data = random_data(seed, rows=7, inputs=2, top=2)
    options = Inn(hidden=(2,), weights=weights, weight_bound=1)
    trained = options.fit(data, Solver())
    assert trained.report.status == "optimal"
    expected = fewest_errors_with_two_hidden_units(data, (-1, 1) if weights == "binary" else (-1, 0, 1))
    assert data.rows - trained.report.correct == trained.report.solves[0].exact == expected


# ---- behaviour -----------------------------------------------------------------------------------------------------


def test_exclusive_or_is_learned_and_proved():
    trained = Inn(hidden=(2,), weight_bound=1).fit(XOR, Solver())
    assert (trained.report.status, trained.report.correct) == ("optimal", 4)
    assert [layer.weights.shape for layer in trained.network.layers] == [(2, 2), (1, 2)]


def test_contradictions_bound_the_errors_from_below():
    data = Dataset.from_arrays([[0], [0], [0], [1]], [0, 0, 1, 1], input_range=(0, 1))
    trained = Inn(hidden=(1,), weight_bound=1).fit(data, Solver())
    record = trained.report.solves[0]
    assert (record.status, record.exact, record.bound, trained.report.correct) == ("optimal", 1, 1.0, 3)


@pytest.mark.parametrize("classes", [2, 3])
def test_the_start_is_complete_and_the_search_never_worse(classes):
    data = separated_data(rows=45, classes=classes)
    options = Inn(hidden=(3,), weight_bound=1)
    start = options.start(data, Solver())
    trained = options.fit(data, Solver(node_limit=3), start=start)
    assert trained.report.solves[0].exact <= start.report.solves[0].exact
    assert (
        wrong(trained.network, data) == trained.report.solves[0].exact == data.rows - trained.report.correct
    )


def test_a_stop_from_the_beginning_still_gives_a_network():
    trained = Inn(hidden=(2, 2)).fit(separated_data(), Solver(), stop=lambda: True)
    assert len(trained.network.layers) == 3


def test_two_classes_begin_at_least_as_well_as_the_linear_network():
    from mip2mcu.train.linear import Linear

    data = random_data(9, rows=30, inputs=5)
    linear = Linear(keep=1.0).start(data, Solver())
    assert Inn(hidden=(3,)).start(data, Solver()).report.correct >= linear.report.correct


def test_a_network_and_its_reduced_form_convert_into_each_other():
    data = random_data(2, classes=3)
    reduction = reduce(data, Inn(weights="binary").domain)
    units = random_network(reduction, (2,), np.random.default_rng(0))
    again = from_network(as_network(units, reduction, data), reduction)
    assert [w.tolist() for w in again.weights] == [w.tolist() for w in units.weights]
    assert [b.tolist() for b in again.bias] == [b.tolist() for b in units.bias]


def test_a_claim_that_the_weights_do_not_keep_is_rejected(monkeypatch):
    from mip2mcu.train import inn_search

    data = random_data(8, rows=14, inputs=3)
    options = Inn(hidden=(1,), weight_bound=1)
    start = options.start(data, Solver())
    before = start.report.solves[0]
    assert before.status == "not searched"
    honest = inn_search.solve

    def lying(model, *args, **kwargs):
        record = honest(model, *args, **kwargs)
        for bias in model.bias.values():
            bias.set_value(bias.lb)
        return replace(record, status="optimal", objective=0.0, bound=0.0)

    monkeypatch.setattr(inn_search, "solve", lying)
    trained = options.fit(data, Solver(), start=start)
    assert trained.network.sha256 == start.network.sha256
    assert (trained.report.solves[0].status, trained.report.solves[0].exact) == ("claim rejected", before.exact)


@pytest.mark.parametrize("hidden", [(0, 3), (3, -1)])
def test_impossible_hidden_layers_are_refused(hidden):
    with pytest.raises(UsageError, match="are not possible: give 1 to 65535 units a layer"):
        Inn(hidden=hidden)
