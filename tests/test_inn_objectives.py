"""The objectives of the INN program: their texts, their meaning, and the truth of their optima."""

from functools import cache
from itertools import combinations_with_replacement, product

import numpy as np
import pytest

from mip2mcu.dataset import Dataset
from mip2mcu.errors import NoSolutionError, UsageError
from mip2mcu.mip.solver import Solver, solve
from mip2mcu.network import Network
from mip2mcu.train import train
from mip2mcu.train.compress import stripped
from mip2mcu.train.goal import Goal
from mip2mcu.train.inn import Inn
from mip2mcu.train.objectives import OBJECTIVES
from mip2mcu.train.reduction import reduce
from mip2mcu.train.sign_network import SignNetwork, as_network, from_network
from tests.test_inn import ONE_ROW_EACH, XOR, random_network
from tests.training import compare_with_golden, random_data

SOFT = ("max-correct", "min-hinge", "sat-margin")
CONTRADICTION = Dataset.from_arrays([[0], [0], [0], [1]], [0, 0, 1, 1], input_range=(0, 1))


# ---- text ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("objective", [name for name in OBJECTIVES if name != "max-correct"])
def test_objectives_read_as_they_say(objective, update_golden):
    options = Inn(hidden=(1,), weight_bound=2, objective=objective)
    model = options.program(reduce(ONE_ROW_EACH, options.domain), options.goal.stages[-1]).model
    compare_with_golden(model, f"inn_{objective.replace('-', '_')}.lp", update_golden)


def test_compression_reads_as_it_says(update_golden):
    options = Inn(hidden=(2,), weight_bound=1, objective="sat-margin", compress="weighted", alpha=0.01)
    compare_with_golden(options.build(ONE_ROW_EACH), "inn_compress.lp", update_golden)


# ---- meaning -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compress", ["none", "weighted", "lexicographic"])
@pytest.mark.parametrize("objective", SOFT)
@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("hidden", [(3,), (2, 3)])
def test_fixed_weights_cost_what_the_network_itself_says(objective, classes, hidden, compress):
    data = random_data(6, rows=8, inputs=3, classes=classes)
    options = Inn(hidden=hidden, weight_bound=2, objective=objective, compress=compress, alpha=0.25)
    reduction = reduce(data, options.domain)
    units = random_network(reduction, hidden, np.random.default_rng(classes)).without(0, 1).ordered()
    value = options.goal.value(units, reduction)
    for number, stage in enumerate(options.goal.stages):
        program = options.program(reduction, stage, budget=value[0])
        program.place(units)
        program.cut(units)
        for variable in [*program.model.weight.values(), *program.model.bias.values()]:
            variable.fix()
        record = solve(program.model, Solver())
        assert (record.status, round(record.objective, 6)) == ("optimal", value[number])


@pytest.mark.parametrize("objective", ["min-weight", "max-margin"])
@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("weights", ["integer", "binary"])
def test_networks_without_errors_cost_their_weights_or_margins(objective, classes, weights):
    rng = np.random.default_rng(3)
    X = np.unique(rng.integers(0, 4, (12, 3)), axis=0)
    options = Inn(hidden=(3,), weights=weights, objective=objective)
    for seed in range(100):
        plain = Dataset.from_arrays(X, np.arange(len(X)) % classes, input_range=(0, 3))
        units = random_network(reduce(plain, options.domain), (3,), np.random.default_rng(seed))
        y = units.predict(X)
        if len(set(y.tolist())) == classes:
            break
    data = Dataset.from_arrays(X, y, input_range=(0, 3))
    reduction = reduce(data, options.domain)
    errors, cost = options.goal.value(units, reduction)
    program = options.program(reduction, options.goal.stages[-1])
    program.place(units)
    for variable in [*program.model.weight.values(), *program.model.bias.values()]:
        variable.fix()
    record = solve(program.model, Solver(), start=True)
    assert (errors, record.status, round(record.objective)) == (0, "optimal", cost)


# ---- truth ---------------------------------------------------------------------------------------------------------


def all_networks(data, values, soft):
    """Every 1-input, 2-unit, 1-output network; for losses one hidden unit of those with the same activations is enough.

    A unit without weight and bias comes first, for the sake of compression.
    """
    top = max(values) * int(data.inputs.max()) + 1
    units = sorted(product(values, range(-top, top + 1)), key=lambda unit: (abs(unit[0]) + abs(unit[1]), unit))
    cuts = {(w == b == 0, tuple(data.inputs[:, 0] * w + b >= 0)): (w, b) for w, b in reversed(units)}
    for first in combinations_with_replacement(list(cuts.values()) if soft else units, 2):
        weights, bias = np.array([[w] for w, _ in first]), np.array([b for _, b in first])
        for outputs in product(values, repeat=2):
            for shift in range(-2 * max(values) - 1, 2 * max(values) + 2):
                yield SignNetwork((weights, np.array([outputs])), (bias, np.array([shift])))


@cache
def optimum(objective, binary, compress, seed):
    """Brute force."""
    data, options = tiny(objective, binary, compress, seed)
    reduction, goal = reduce(data, options.domain), options.goal
    networks = all_networks(data, (-1, 1) if binary else (-1, 0, 1), objective in SOFT)
    if objective in SOFT:
        return min(goal.value(network, reduction) for network in networks)
    return min(goal.value(network, reduction) for network in networks if goal.loss(network, reduction) == 0)


def tiny(objective, binary, compress, seed):
    X = np.array([[0], [1], [2], [2]])
    y = [[0, 1, 0, 1], [0, 0, 1, 1], [1, 0, 0, 1]][seed]
    if objective in ("min-weight", "max-margin"):
        X, y = X[:3], y[:3]
    options = Inn(
        hidden=(2,), weight_bound=1, weights="binary" if binary else "integer", objective=objective,
        compress=compress, alpha=0.5,
    )  # fmt: skip
    return Dataset.from_arrays(X, y, input_range=(0, 2)), options


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_optimum_is_that_of_brute_force(objective, binary, seed):
    data, options = tiny(objective, binary, "none", seed)
    trained = options.fit(data, Solver())
    assert trained.report.status == "optimal"
    assert tuple(s.exact for s in trained.report.solves) == optimum(objective, binary, "none", seed)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("compress", ["weighted", "lexicographic"])
@pytest.mark.parametrize("objective", SOFT)
def test_the_compressed_optimum_is_that_of_brute_force(objective, compress, seed):
    data, options = tiny(objective, False, compress, seed)
    trained = options.fit(data, Solver())
    assert trained.report.status == "optimal"
    assert tuple(s.exact for s in trained.report.solves) == optimum(objective, False, compress, seed)


@pytest.mark.parametrize("switch", ["ordered", "tight", "merge_columns", "merge_rows"])
def test_switches_change_the_model_and_not_the_optimum(switch):
    data = Dataset.from_arrays([[0, 0], [1, 1], [2, 2], [2, 2]], [0, 1, 0, 1], input_range=(0, 2))
    with_it, without = (Inn(hidden=(2,), weight_bound=1, **{switch: value}) for value in (True, False))
    models = [options.build(data) for options in (with_it, without)]
    assert next(m.nconstraints() for m in models) <= models[1].nconstraints() or switch == "ordered"
    assert [options.fit(data, Solver()).report.solves[0].exact for options in (with_it, without)] == [1, 1]


# ---- compression ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(10))
def test_removed_units_change_no_score_on_any_input(seed):
    rng = np.random.default_rng(seed)
    data = random_data(seed, rows=9, inputs=3, classes=2 + seed % 2)
    reduction = reduce(data, Inn().domain)
    units = random_network(reduction, (4, 3), rng).without(0, 2).without(1, seed % 3)
    before = as_network(units, reduction, data)
    after = stripped(before)
    assert sum(len(layer.bias) for layer in after.layers) < sum(len(layer.bias) for layer in before.layers)
    box = np.array(list(product(range(4), repeat=3)))
    assert after.scores(box).tolist() == before.scores(box).tolist()


def test_a_network_of_constants_keeps_one_unit_a_layer():
    zero = SignNetwork((np.zeros((3, 1), int), np.zeros((1, 3), int)), (np.zeros(3, int), np.array([-4])))
    small = stripped(as_network(zero, reduce(ONE_ROW_EACH, Inn().domain), ONE_ROW_EACH))
    assert [len(layer.bias) for layer in small.layers] == [1, 1]
    assert small.scores(np.array([[0], [2]]))[:, 0].tolist() == [-4, -4]


@pytest.mark.parametrize("compress", ["weighted", "lexicographic"])
def test_one_unit_is_enough_for_one_cut(compress):
    data = Dataset.from_arrays([[0], [1], [2], [3]], [0, 0, 1, 1], input_range=(0, 3))
    trained = Inn(hidden=(4,), weight_bound=1, objective="sat-margin", compress=compress).fit(data, Solver())
    assert len(trained.network.layers[0].bias) == 1
    assert trained.report.correct == 4
    assert trained.report.status == "optimal"


def test_compressed_networks_go_through_pairs_and_json(tmp_path):
    data = random_data(3, rows=18, inputs=4, classes=3)
    options = {"hidden": (3,), "objective": "sat-margin", "compress": "weighted", "weight_bound": 1}
    trained = train(data, "inn", ensemble="pairs", options=options, node_limit=5)
    trained.network.save(tmp_path / "model.json")
    assert Network.load(tmp_path / "model.json").sha256 == trained.network.sha256


def test_a_network_is_padded_back_to_its_width():
    data = random_data(3, rows=9, inputs=3)
    reduction = reduce(data, Inn().domain)
    units = random_network(reduction, (4,), np.random.default_rng(1)).without(0, 1)
    small = stripped(as_network(units, reduction, data))
    padded = from_network(small, reduction).padded((4,))
    assert padded.hidden == (4,)
    assert padded.output_sums(reduction.rows).tolist() == units.output_sums(reduction.rows).tolist()


# ---- targets, bounds, errors ---------------------------------------------------------------------------------------


def test_the_margin_target_is_a_quarter_of_the_range_and_moves_with_the_units():
    assert Goal("sat-margin", 1).target_at(16, 1) == 5
    assert Goal("sat-margin", 15).target_at(16, 1) == 64
    assert Goal("sat-margin", 1).target_at(16, 10) == 9
    assert Goal("sat-margin", 1, margin_target=7).target_at(16, 1) == 7
    units = SignNetwork((np.ones((3, 2), int), np.ones((1, 3), int)), (np.zeros(3, int), np.zeros(1, int)))
    assert Goal("sat-margin", 3).target(units) == 3
    assert Goal("sat-margin", 3, compress="weighted").target(units.without(0, 0).without(0, 1)) == 2


@pytest.mark.parametrize(
    ("objective", "least"), [("max-correct", 1), ("sat-margin", 1), ("min-hinge", 2 * 1 + 1 * 4)]
)
def test_contradictions_bound_every_soft_objective(objective, least):
    goal = Goal(objective, 1)
    reduction = reduce(CONTRADICTION, Inn(weight_bound=1).domain)
    if objective == "min-hinge":
        least = min(2 * (1 - s) ** 2 + (1 + s) ** 2 for s in range(2))
    assert goal.least(reduction, (1,)) == least
    trained = Inn(hidden=(1,), weight_bound=1, objective=objective).fit(CONTRADICTION, Solver())
    assert trained.report.solves[0].bound == trained.report.solves[0].exact >= least


@pytest.mark.parametrize("objective", ["min-weight", "max-margin"])
def test_data_that_cannot_be_fitted_are_named_with_the_fewest_violated_rows(objective):
    with pytest.raises(NoSolutionError, match="there is none: the best one has 1 of 4 training rows wrong, which is"):
        Inn(hidden=(1,), weight_bound=1, objective=objective).fit(CONTRADICTION, Solver())
    with pytest.raises(NoSolutionError, match="none was found: the best one has 1 of 4 training rows wrong, at least"):
        Inn(hidden=(1,), weight_bound=1, objective=objective).fit(
            Dataset.from_arrays([[0, 0], [0, 1], [1, 0], [1, 1]], list("abba"), input_range=(0, 1)),
            Solver(node_limit=0),
        )


def test_exclusive_or_has_its_lightest_and_its_widest_network():
    lightest = Inn(hidden=(2,), weight_bound=1, objective="min-weight").fit(XOR, Solver())
    assert lightest.report.status == "optimal"
    assert lightest.report.correct == 4
    widest = Inn(hidden=(2,), weight_bound=1, objective="max-margin").fit(XOR, Solver(node_limit=2000))
    assert widest.report.correct == 4


def test_a_target_ends_the_training_early_and_is_said():
    data = random_data(8, rows=14, inputs=3)
    options = Inn(hidden=(2,), weight_bound=1, objective_target=4)
    trained = options.fit(data, Solver())
    assert trained.report.solves[0].exact <= 4
    assert trained.report.solves[0].status in ("target", "not searched", "optimal")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"objective": "most"}, "objective 'most' is unknown, choose one of max-correct, min-hinge"),
        ({"compress": "yes"}, "compression 'yes' is unknown"),
        ({"compress": "weighted", "weights": "binary"}, "binary weights cannot be zero"),
        ({"compress": "weighted", "objective": "min-weight"}, "min-weight fits every row at any width"),
        ({"alpha": 0}, "alpha 0 is not possible"),
        ({"alpha": 0.0001}, "alpha 0.0001 is not possible"),
        ({"margin_target": 0}, "a margin target of 0 is not possible"),
        ({"objective_target": -1}, "an objective of -1 is not possible"),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(UsageError, match=message):
        Inn(**options)


def test_switches_take_true_or_false():
    with pytest.raises(UsageError, match="option 'tight' cannot take 3: it wants true or false"):
        train(XOR, "inn", options={"tight": 3})
