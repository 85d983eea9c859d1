"""BDNN: the program against exhaustive search, 0/1 and +1/-1 units, scaling, data splitting, robust sets, refusals."""

import itertools
import re
import sys
from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pyomo.environ as pyo
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mip2mcu.dataset import Dataset
from mip2mcu.errors import UsageError
from mip2mcu.mip.solver import Solver, no_solve
from mip2mcu.progress import never, silent
from mip2mcu.train import bdnn_job, bdnn_scaling, train
from mip2mcu.train.bdnn import Bdnn
from mip2mcu.train.bdnn_model import Plan, build_model, place, sign_bias, zero_one_bias
from mip2mcu.train.bdnn_scaling import scaled_network, scaled_unit
from mip2mcu.train.goal import Goal
from mip2mcu.train.reduction import WeightDomain, reduce
from mip2mcu.train.sign_network import SignNetwork, from_network
from mip2mcu.train.splitting import Subsets, batch, validation_rows
from mip2mcu.train.trained import settled
from tests.conftest import require
from tests.training import compare_with_golden

CROSS = Dataset.from_arrays(
    np.array([[0, 0], [0, 3], [3, 0], [3, 3], [1, 2], [2, 1], [3, 3], [1, 1]]),
    [0, 1, 1, 0, 1, 1, 1, 0],
    input_range=(0, 3),
)
"""With a contradiction: at least one error whatever the network."""


def dichotomies(rows: np.ndarray, weights: list[int]) -> np.ndarray:
    """Every pattern of one unit on the rows, whatever its threshold."""
    patterns = set()
    for vector in itertools.product(weights, repeat=rows.shape[1]):
        sums = rows @ np.array(vector)
        for threshold in range(int(sums.min()), int(sums.max()) + 2):
            patterns.add(tuple(bool(s) for s in sums >= threshold))
    return np.array(sorted(patterns), dtype=np.int64)


def fewest_errors(data: Dataset, hidden: int, first: list[int], last: list[int]) -> int:
    best = data.rows
    for units in itertools.combinations_with_replacement(dichotomies(data.inputs, first), hidden):
        outputs = dichotomies(np.stack(units, axis=1), last)
        best = min(best, int((outputs != (data.labels == 0)).sum(axis=1).min()))
    return best


SCATTERED = Dataset.from_arrays(
    np.array([[0, 0], [2, 3], [0, 3], [3, 3], [0, 2], [0, 2], [1, 1], [3, 2], [3, 1], [2, 2], [2, 1]]),
    [1, 0, 0, 1, 1, 1, 1, 0, 1, 0, 1],
    input_range=(0, 3),
)
"""Every width and kind of weights has a fewest number of errors of its own."""

SEARCHED = {
    "integer": ([-1, 0, 1], [-1, 0, 1]),
    "binary": ([-1, 1], [-1, 1]),
    "continuous": ([-3, -2, -1, 0, 1, 2, 3], [-1, 0, 1]),
}
"""Of both layers. Weights up to 3 part 4 x 4 points in every way that real ones do, those up to 1 two bits."""


@pytest.mark.parametrize(
    ("hidden", "weights", "errors"),
    [(1, "integer", 3), (2, "integer", 1), (2, "binary", 2), (1, "continuous", 1), (2, "continuous", 0)],
)
def test_the_optimum_is_that_of_exhaustive_search(hidden, weights, errors):
    trained = train(SCATTERED, Bdnn((hidden,), weights=weights), node_limit=100_000)
    assert trained.report.status == "optimal"
    assert trained.report.rows - trained.report.correct == errors
    assert errors == fewest_errors(SCATTERED, hidden, *SEARCHED[weights])
    assert trained.report.solves[0].exact == trained.report.rows - trained.report.correct


@pytest.mark.parametrize(
    ("data", "options"),
    [
        (SCATTERED, {}),
        (SCATTERED, {"weights": "binary"}),
        (SCATTERED, {"weights": "continuous"}),
        (CROSS, {"robust_radius": (1,)}),
    ],
    ids=["integer", "binary", "continuous", "robust"],
)
def test_few_rows_have_the_optimum_of_all(data, options):
    whole = train(data, Bdnn((2,), **options), node_limit=100_000)
    lazy = train(data, Bdnn((2,), batches="lazy", batch_rows=2, **options), node_limit=100_000)
    assert whole.report.status == lazy.report.status == "optimal"
    assert whole.report.solves[0].exact == lazy.report.solves[0].exact


def test_lazy_batches_prove_an_optimum_by_few_of_the_rows():
    rows = np.array([(a, b) for a in range(30) for b in range(30)])
    data = Dataset.from_arrays(rows, (rows.sum(axis=1) >= 25) & (rows[:, 0] >= 10), input_range=(0, 29))
    job = Bdnn((2,), batches="lazy", batch_rows=8).job(data, Solver(node_limit=10_000), silent, never)
    weights, bias = (np.zeros((2, 2), dtype=int), np.zeros((1, 2), dtype=int)), (np.zeros(2, int), np.zeros(1, int))
    constant = SignNetwork(weights, bias)
    network, record, note = job.lazy(constant, settled(no_solve("bits", job.solver), job.cost(constant)))
    assert (record.status, record.exact, record.bound) == ("optimal", 0, 0.0)
    assert (job.finished(network, record).network.predict(data.inputs) == data.labels).all()
    solved, programs = (int(word) for word in re.match(r"lazy samples: (\d+) of 900 .* into (\d+) pro", note).groups())
    assert programs > 1 and solved < 200


def test_a_bound_for_few_rows_is_one_for_all():
    rng = np.random.default_rng(1)
    data = Dataset.from_arrays(rng.integers(0, 6, (40, 3)), rng.integers(0, 2, 40), input_range=(0, 5))
    trained = train(data, Bdnn((2,), batches="lazy", batch_rows=10), node_limit=1)
    record = trained.report.solves[0]
    assert record.status == "node limit" and record.bound <= record.exact
    assert record.exact == trained.report.rows - trained.report.correct
    assert record.exact <= Bdnn((2,)).start(data, Solver(node_limit=1)).report.solves[0].exact


def test_rows_that_contradict_each_other_do_not_have_to_be_solved_for():
    rng = np.random.default_rng(0)
    rows = rng.integers(0, 8, (600, 2))
    data = Dataset.from_arrays(rows, (rows.sum(axis=1) > 7) ^ (rng.random(600) < 0.15), input_range=(0, 7))
    whole = train(data, Bdnn((1,)), node_limit=10_000)
    lazy = train(data, Bdnn((1,), batches="lazy", batch_rows=8), node_limit=10_000)
    assert whole.report.status == lazy.report.status == "optimal"
    assert whole.report.solves[0].exact == lazy.report.solves[0].exact > 50
    assert lazy.report.notes == () or int(lazy.report.notes[0].split()[2]) <= 16


@pytest.mark.parametrize("options", [{}, {"weights": "continuous"}, {"weights": "binary"}, {"robust_radius": (1,)}])
@given(seed=st.integers(0, 999))
@settings(max_examples=10, deadline=None)
def test_any_network_is_a_start_for_a_part_of_the_rows(options, seed):
    rng = np.random.default_rng(seed)
    data = Dataset.from_arrays(rng.integers(0, 20, (12, 2)), rng.integers(0, 2, 12), input_range=(0, 19))
    job = Bdnn((2,), **options).job(data, Solver(node_limit=0), silent, never)
    inputs = len(job.reduction.groups)
    weights = tuple(rng.choice([-1, 1], shape) for shape in ((2, inputs), (1, 2)))
    network = SignNetwork(weights, (rng.integers(-60, 61, 2), rng.integers(-5, 6, 1)))
    part = rng.permutation(len(job.reduction.rows))[:4]
    plan = job.plan(np.arange(4), np.sort(part))
    model = build_model(plan)
    place(model, plan, network)
    for constraint in model.component_data_objects(pyo.Constraint):
        assert constraint.slack() >= (-1e-9 if job.continuous else 0), constraint.name
    for variable in model.component_data_objects(pyo.Var):
        assert variable.lb is None or variable.lb <= variable.value, variable.name
        assert variable.ub is None or variable.value <= variable.ub, variable.name


def test_a_program_that_is_too_large_is_named(monkeypatch):
    monkeypatch.setattr(bdnn_job, "MODEL_ENTRIES", 100)
    rng = np.random.default_rng(1)
    data = Dataset.from_arrays(rng.integers(0, 6, (40, 3)), rng.integers(0, 2, 40), input_range=(0, 5))
    sizes = "the program of .* has about [0-9,]+ matrix entries, and programs of at most 100 are solved"
    for options in ({}, {"method": "local"}, {"batches": "lazy", "batch_rows": 20}):
        assert any(re.match(sizes, note) for note in train(data, Bdnn((2,), **options), node_limit=5).report.notes)
    trained = train(data, Bdnn((2,), batches="lazy", batch_rows=3), node_limit=5)
    assert any("went into" in note for note in trained.report.notes) and trained.report.status == "incumbent"
    record = trained.report.solves[0]
    assert record.status in ("node limit", "not searched") and record.objective == record.exact > record.bound


def test_few_output_bits_for_many_wrong_rows_are_told():
    rows = np.repeat(np.eye(4, dtype=int), 2, axis=0)
    data = Dataset.from_arrays(rows, np.repeat(range(4), 2), input_range=(0, 1))
    options = Bdnn((3,))
    start = options.start(data, Solver(node_limit=0))
    better = replace(start.report, correct=data.rows + 1)
    trained = options.fit(data, Solver(node_limit=1), start=replace(start, report=better))
    assert any("with more than two classes take the ensemble pairs" in note for note in trained.report.notes)


def test_a_search_ends_between_restarts(monkeypatch):
    rng = np.random.default_rng(1)
    data = Dataset.from_arrays(rng.integers(0, 6, (40, 3)), rng.integers(0, 2, 40), input_range=(0, 5))
    asked = []
    shaken = bdnn_job.BdnnJob._shaken
    monkeypatch.setattr(bdnn_job.BdnnJob, "_shaken", lambda job, *rest: asked.append(0) or shaken(job, *rest))
    trained = train(data, Bdnn((2,), method="local", restarts=10**6), time_limit=2)
    assert trained.report.seconds < 10 and len(asked) < 1000


@pytest.mark.parametrize("method", ["local", "splitting"])
def test_the_heuristics_are_never_worse_than_their_start(method):
    require(find_spec("sklearn"), "scikit-learn is not installed")
    rng = np.random.default_rng(1)
    data = Dataset.from_arrays(rng.integers(0, 6, (24, 3)), rng.integers(0, 2, 24), input_range=(0, 5))
    option = Bdnn((2,), method=method, splits=4, batch_rows=12, restarts=2)
    start = option.start(data, Solver(node_limit=200))
    trained = option.fit(data, Solver(node_limit=200), start=start)
    if method == "local":
        assert trained.report.solves[0].exact <= start.report.solves[0].exact
    else:  # chosen by rows that it is not solved for
        job = option.job(data, Solver(), silent, never)
        kept = validation_rows(job.reduction, 0)
        before, after = (job._validated(from_network(one.network, job.reduction), kept) for one in (start, trained))
        assert after >= before


def noisy(seed: int, rows: int) -> Dataset:
    """Bits that each tell the class three times in five."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, rows)
    bits = np.where(rng.random((rows, 40)) < 0.6, labels[:, None], 1 - labels[:, None])
    return Dataset.from_arrays(bits, labels, input_range=(0, 1))


def test_a_committee_is_right_more_often_than_its_members():
    data, others = noisy(0, 100), noisy(1, 1000)
    network = train(data, Bdnn((15,), method="committee"), node_limit=0).network
    first, last = network.layers
    assert (last.weights == 1).all() and (last.bias == 0).all()
    assert set(np.unique(first.weights)) == {-1, 0, 1}
    votes = first.forward(others.inputs)
    alone = [(np.where(vote == 1, 0, 1) == others.labels).mean() for vote in votes.T]
    assert (network.predict(others.inputs) == others.labels).mean() > np.median(alone) + 0.03


@pytest.mark.parametrize("weights", ["integer", "binary", "continuous"])
def test_members_of_a_committee_take_the_classes_in_turn(weights):
    rows = np.repeat(np.eye(3, dtype=int), 6, axis=0) * 9
    data = Dataset.from_arrays(rows, np.repeat([0, 1, 2], 6), input_range=(0, 9))
    options = Bdnn((6,), method="committee", weights=weights)
    network = train(data, options, ensemble="none", node_limit=0).network
    other = -1 if weights == "binary" else 0
    assert network.layers[1].weights.tolist() == (np.eye(3, dtype=int)[:, [0, 1, 2] * 2] * (1 - other) + other).tolist()
    assert weights == "binary" or (network.predict(rows) == data.labels).all()
    again = train(data, options, ensemble="none", node_limit=0).network
    assert again.sha256 == network.sha256


def test_a_stopped_committee_repeats_the_units_that_it_has():
    data = noisy(0, 30)
    first = train(data, Bdnn((5,), method="committee"), node_limit=0, stop=lambda: True).network.layers[0]
    assert (first.weights == first.weights[0]).all()


def test_several_classes_get_one_output_each():
    rng = np.random.default_rng(0)
    data = Dataset.from_arrays(rng.integers(0, 4, (9, 2)), [0, 1, 2] * 3, input_range=(0, 3))
    trained = train(data, Bdnn((2,)), ensemble="none", node_limit=50)
    assert trained.network.layers[-1].units == 3
    assert set(train(data, Bdnn((2,)), node_limit=0).network.layers[0].weights.shape) == {6, 2}


def random_network(seed: int, widths=(3, 4, 2, 1)) -> SignNetwork:
    rng = np.random.default_rng(seed)
    layers = list(itertools.pairwise(widths))
    return SignNetwork(
        tuple(rng.integers(-2, 3, (units, inputs)) for inputs, units in layers),
        tuple(rng.integers(-4, 5, units) for _, units in layers),
    )


@pytest.mark.parametrize("seed", range(20))
def test_zero_one_units_fire_exactly_where_sign_units_do(seed):
    network = random_network(seed)
    rows = np.array(list(itertools.product(range(-2, 3), repeat=3)))
    signs, zero_one = rows, rows
    for depth in range(network.depth):
        sums = signs @ network.weights[depth].T + network.bias[depth]
        bits = zero_one @ network.weights[depth].T + zero_one_bias(network, depth)
        assert ((sums >= 0) == (bits >= 0)).all()
        back = sign_bias(network.weights[depth], zero_one_bias(network, depth), depth)
        assert ((signs @ network.weights[depth].T + back >= 0) == (sums >= 0)).all()
        signs, zero_one = np.where(sums >= 0, 1, -1), (bits >= 0).astype(np.int64)


@pytest.mark.parametrize("options", [{}, {"thresholds": "layer"}, {"weights": "binary"}, {"weights": "continuous"}])
@pytest.mark.parametrize(
    "robust",
    [{}, {"robust_radius": (1,)}, {"robust_radius": (2,), "robust_features": 1}, {"robust_total": 2}],
    ids=["plain", "robust", "one feature", "two units"],
)
def test_a_placed_network_satisfies_every_constraint_at_its_exact_cost(options, robust):
    option = Bdnn((3, 2), **robust, **options)
    job = option.job(CROSS, Solver(node_limit=0), lambda _: None, lambda: False)
    network = job.start()
    plan = job.plan(np.arange(len(job.reduction.rows)))
    model = build_model(plan)
    place(model, plan, network)
    assert round(model.cost()) == job.cost(network)
    for constraint in model.component_data_objects(ctype=type(model.fires), active=True):
        assert constraint.lower is None or constraint.body() >= constraint.lower() - 1e-9
        assert constraint.upper is None or constraint.body() <= constraint.upper() + 1e-9


def test_continuous_weights_become_whole_ones_with_the_same_activations():
    rng = np.random.default_rng(5)
    data = Dataset.from_arrays(rng.integers(0, 20, (30, 3)), rng.integers(0, 2, 30), input_range=(0, 19))
    trained = train(data, Bdnn((2,), weights="continuous"), node_limit=300)
    record = trained.report.solves[0]
    assert record.exact == trained.report.rows - trained.report.correct
    assert record.status == "claim rejected" or record.exact == round(record.objective)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_the_smallest_scale_that_keeps_every_activation_is_found(seed):
    rng = np.random.default_rng(seed)
    weights, rows = rng.uniform(-1, 1, 3), rng.integers(0, 30, (40, 3))
    sums = rows @ weights
    bias = -float(rng.uniform(sums.min() - 1, sums.max() + 1))
    fires = sums + bias >= 0
    unit = scaled_unit(weights, bias, rows, fires)
    assert int(((rows @ unit.weights + unit.bias >= 0) != fires).sum()) == unit.changed
    top = int(np.abs(unit.weights).max())
    if unit.changed == 0 and 0 < top <= 127:
        for level in range(1, top):
            smaller = np.rint(weights / np.abs(weights).max() * level).astype(int)
            s = rows @ smaller
            assert s[fires].min() <= s[~fires].max()


def test_no_16_bit_scale_is_left_out():
    rows, fires = np.array([[1, 0], [0, 300], [0, 301], [1, 1]]), np.array([False, False, True, True])
    unit = scaled_unit(np.array([1.0, 1 / 300]), -1.0017, rows, fires)  # 299 < v0 / v1 < 301
    assert (unit.weights.tolist(), unit.changed) == ([300, 1], 0)


def test_a_unit_that_no_scale_keeps_is_as_close_as_can_be():
    rows = np.array([[0, 0], [0, 0], [1, 1]])
    unit = scaled_unit(np.array([1.0, -0.5]), 0.0, rows, np.array([True, False, True]))
    assert unit.changed == 1


def test_activations_that_no_scale_keeps_are_counted(monkeypatch):
    rows = np.array([[10, 0], [0, 7], [3, 3], [9, 1], [2, 6], [5, 5], [8, 0], [1, 4]])
    data = Dataset.from_arrays(rows, (rows @ [2, 3] >= 16).astype(int), input_range=(0, 10))
    options = Bdnn((1,), weights="continuous")
    assert train(data, options, node_limit=1000).report.notes == ()
    weights, bias = [np.array([[1.0, 0.51]]), np.array([[1.0]])], [np.array([-8.5]), np.array([-0.5])]
    monkeypatch.setattr(bdnn_scaling, "INT16", 1)
    network = scaled_network(weights, bias, rows)
    fires = rows @ weights[0][0] + bias[0] >= 0
    whole = rows @ network.weights[0][0] + network.bias[0] >= 0
    assert (network.changed, network.activations) == (2 * int((fires != whole).sum()), 16)
    assert network.changed > 0


def test_features_on_wildly_different_scales_are_said_to_be_quantised_first(tmp_path):
    text = "small,large,label\n" + "".join(f"{k / 10},{k * 5000},{'ab'[k > 3]}\n" for k in range(8))
    (tmp_path / "wild.csv").write_text(text)
    note = train(Dataset.read(tmp_path / "wild.csv"), Bdnn((1,)), node_limit=10).report.notes[-1]
    assert note == (
        "the range of 'large' is 50,000 times that of 'small': they are quantised first, so their weights count alike"
    )
    plain = Dataset.from_arrays(np.array([[0, 0], [1, 9000], [0, 50], [1, 70]]), [0, 1, 0, 1], input_range=(0, 9000))
    assert "quantise them first" in train(plain, Bdnn((1,)), node_limit=10).report.notes[-1]


def test_where_no_program_is_solved_several_classes_begin_with_the_hinge(monkeypatch):
    asked = []
    monkeypatch.setattr(bdnn_job, "Goal", lambda objective, bound: asked.append(objective) or Goal(objective, bound))
    data = Dataset.from_arrays(np.repeat(np.eye(3, dtype=int), 4, axis=0) * 9, np.repeat([0, 1, 2], 4))
    train(data, Bdnn((3,)), ensemble="none", node_limit=0)
    monkeypatch.setattr(bdnn_job, "MODEL_ENTRIES", 0)
    trained = train(data, Bdnn((3,)), ensemble="none", node_limit=0)
    assert asked == ["max-correct", "min-hinge"]
    assert trained.report.correct == 12


def test_subsets_grow_by_one_a_split_until_every_row_is_alone():
    require(find_spec("sklearn"), "scikit-learn is not installed")
    rows = np.array([[0, 0], [0, 1], [9, 9], [9, 9]])
    subsets = Subsets(rows, np.array([0, 0, 1, 1]), seed=0)
    seen = [subsets.of_row.tolist()]
    while subsets.split(np.ones(4, dtype=np.int64)):
        seen.append(subsets.of_row.tolist())
    assert [len(set(one)) for one in seen] == [1, 2, 3, 4]
    assert seen[1] in ([0, 0, 1, 1], [1, 1, 0, 0])


def test_splitting_without_scikit_learn_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.cluster", None)
    with pytest.raises(UsageError, match="pip install scikit-learn, or choose the method local"):
        train(CROSS, Bdnn((2,), method="splitting"), node_limit=10)


def test_a_mixed_subset_is_split_by_class_where_purity_is_asked_for():
    subsets = Subsets(np.array([[0], [9], [0], [9]]), np.array([0, 0, 1, 1]), seed=0, purity=True)
    assert subsets.split(np.ones(4, dtype=np.int64))
    assert subsets.of_row[0] == subsets.of_row[1] != subsets.of_row[2] == subsets.of_row[3]


def test_one_pattern_for_all_rows_allows_constant_networks_only():
    reduction = reduce(CROSS, WeightDomain(1))
    rows = len(reduction.rows)
    plan = Plan(reduction, (2, 1), np.zeros(rows, dtype=np.int64))
    model = build_model(plan)
    assert len(model.fired) == 3
    assert len(build_model(Plan(reduction, (2, 1), np.arange(rows))).fired) == 3 * rows


def test_batches_are_consecutive_or_drawn_and_validation_rows_are_kept_apart():
    rows = np.arange(10)
    assert [batch(rows, 4, n, None).tolist() for n in range(3)] == [[0, 1, 2, 3], [4, 5, 6, 7], [0, 1, 8, 9]]
    assert len(set(batch(rows, 4, 0, np.random.default_rng(0)).tolist())) == 4
    assert validation_rows(reduce(CROSS, WeightDomain(1)), 0).sum() == 2


def test_the_program_of_three_rows_reads_as_the_formulation_says(update_golden):
    data = Dataset.from_arrays(np.array([[0, 1], [2, 1], [2, 3]]), [0, 1, 1], input_range=(0, 3))
    compare_with_golden(Bdnn((1,)).build(data), "bdnn.lp", update_golden)
    compare_with_golden(Bdnn((1,), robust_radius=(1,)).build(data), "bdnn_robust.lp", update_golden)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden": ()}, "bdnn has no networks without hidden layers: give hidden layers such as 8,4, or take inn"),
        ({"hidden": (3, 65536)}, "hidden layers \\(3, 65536\\) are not possible: give 1 to 65535 units a layer"),
        ({"hidden": (60000, 60000)}, "have 3,600,000,000 weights between them, at most 10,000,000 are possible"),
        ({"robust_features": 2}, "2 features are off by a robust radius of 0: give robust_radius too"),
        ({"method": "magic"}, "method 'magic' is unknown, choose one of exact, local, splitting, committee, descent"),
        ({"thresholds": "row"}, "thresholds 'row' is unknown"),
        ({"robust_radius": (-1,)}, "a robust radius of -1 is not possible"),
        ({"robust_radius": (0.5,)}, "option 'robust_radius' cannot take \\(0.5,\\): it wants whole numbers such as"),
        ({"robust_radius": float("nan")}, "option 'robust_radius' cannot take \\(nan,\\): it wants whole numbers"),
        ({"hidden": 2.5}, "option 'hidden' cannot take \\(2.5,\\): it wants whole numbers such as 8,4"),
        ({"weight_bound": 2.5}, "option 'weight_bound' cannot take 2.5: it wants a whole number"),
        ({"purity": 1}, "option 'purity' cannot take 1: it wants true or false"),
        ({"robust_radius": (2**31,)}, "a robust radius of 2147483648 is not possible: raw integers have at most 32"),
        ({"batch_rows": 0}, "batch_rows 0 is not possible"),
        ({"batches": "averaging"}, "batches 'averaging' is unknown, choose one of none, lazy"),
        ({"batches": "lazy", "method": "local"}, "parts of the exact program, not of the method local: leave one"),
        ({"robust_features": 0, "robust_radius": (1,)}, "0 features that are off are not possible"),
        ({"weights": "continuous", "weight_bound": 3}, "continuous weights lie in -1..1"),
        ({"weights": "ternary"}, "weights 'ternary' are unknown, choose integer, binary or continuous"),
        ({"robust_total": 0}, "0 raw units of all features together are not possible: give 1 to 1000"),
        ({"robust_total": 1001}, "1001 raw units of all features together are not possible"),
        ({"robust_total": 2, "robust_features": 1}, "robust_total counts raw units, robust_features counts features"),
        ({"robust_total": 2, "robust_radius": (0,)}, "2 raw units are off by a robust radius of 0: give another"),
        ({"method": "committee", "hidden": (8, 4)}, "a committee knows no second hidden layer: choose"),
        ({"method": "descent", "robust_radius": (1,)}, "a descent knows no robust radius: choose the method local or"),
        ({"method": "descent", "thresholds": "layer"}, "a descent gives every unit its own threshold: choose"),
    ],
)
def test_options_that_cannot_be_meant_are_refused(options, message):
    with pytest.raises(UsageError, match=message):
        Bdnn(**options)


def test_a_single_number_stands_for_itself_where_an_option_takes_several():
    assert Bdnn(3, robust_radius=2) == Bdnn((3,), robust_radius=(2,))
