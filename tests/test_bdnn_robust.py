"""Robust BDNN training: sets of raw changes against every change tried, refusals, what is told of held rows."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from mip2mcu.certify import certify
from mip2mcu.dataset import Dataset
from mip2mcu.errors import UsageError
from mip2mcu.mip.solver import Solver
from mip2mcu.progress import never, silent
from mip2mcu.quantizer import Affine, Feature, Quantizer
from mip2mcu.train import train
from mip2mcu.train.bdnn import Bdnn
from mip2mcu.train.bdnn_model import cost
from mip2mcu.train.reduction import WeightDomain
from mip2mcu.train.robust_set import robust_reduction, robust_sets
from mip2mcu.train.sign_network import SignNetwork
from tests.test_bdnn import CROSS, random_network


def test_validation_rows_of_a_robust_splitting_count_where_they_are_held():
    data = Dataset.from_arrays(np.array([[4], [5], [6], [7]]), [0, 0, 1, 1], input_range=(0, 30))
    always, edge = (SignNetwork((np.array([[w]]), np.array([[1]])), (np.array([5]), np.array([0]))) for w in (0, -1))
    for radius, right in (((), [2, 4]), ((3,), [2, 0])):
        job = Bdnn(1, method="splitting", robust_radius=radius).job(data, Solver(node_limit=0), silent, never)
        assert [job._validated(network, np.ones(4, dtype=bool)) for network in (always, edge)] == right


def within_reach(row, budget, *, units):
    """Rows in 0..7 that differ from ``row`` by at most (1, 2, 0), in at most ``budget`` features or ``units``."""
    near = itertools.product(
        *(range(max(0, v - r), min(7, v + r) + 1) for v, r in zip(row, (1, 2, 0), strict=True))
    )
    measure = sum if units else np.count_nonzero
    sizes = ((move, measure([abs(a - b) for a, b in zip(move, row, strict=True)])) for move in near)
    return [move for move, size in sizes if budget is None or size <= budget]


def budgeted(seed, rows, budget, *, units):
    """Random rows in 0..7 with labels, reduced, and their sets of changes by at most (1, 2, 0)."""
    rng = np.random.default_rng(seed)
    data = Dataset.from_arrays(rng.integers(0, 8, (rows, 3)), rng.integers(0, 2, rows), input_range=(0, 7))
    reduction, chosen = robust_reduction(data, WeightDomain(2))
    return reduction, robust_sets(chosen, reduction, np.array([1, 2, 0]), budget, counts_units=units)


BUDGETS = pytest.mark.parametrize(("budget", "units"), [(None, False), (1, False), (1, True), (2, True)])


@BUDGETS
def test_a_held_row_keeps_its_pattern_under_every_change(budget, units):
    reduction, sets = budgeted(3, 25, budget, units=units)
    found = set()
    for seed in range(30):
        network = random_network(seed, (3, 2, 1))
        sums = network.sums(reduction.rows, 0)
        held = sets.held(network.weights[0], sums, np.ones(len(sums), dtype=bool))
        for k, row in enumerate(reduction.rows):
            same = ((network.sums(np.array(within_reach(row, budget, units=units)), 0) >= 0) == (sums[k] >= 0)).all()
            assert bool(held[k]) == bool(same)
            found.add(bool(same))
    assert found == {True, False}


def test_more_units_than_features_can_move_are_a_box():
    data = Dataset.from_arrays(np.array([[0, 3], [3, 1], [2, 2]]), [0, 1, 0], input_range=(0, 3))
    reduction, chosen = robust_reduction(data, WeightDomain(1))
    sets = robust_sets(chosen, reduction, np.array([900, 900]), 900, counts_units=True)
    assert sets.budget == 6  # (0, 3) moves by three in each
    box = robust_sets(chosen, reduction, np.array([900, 900]), None)
    weights, sums = np.array([[1, -1], [0, 1]]), reduction.rows @ np.array([[1, 0], [-1, 1]])
    assert [end.tolist() for end in sets.ranges(weights, sums)] == [end.tolist() for end in box.ranges(weights, sums)]


@BUDGETS
def test_moved_rows_have_the_largest_and_the_smallest_sums_within_reach(budget, units):
    reduction, sets = budgeted(4, 20, budget, units=units)
    rng = np.random.default_rng(4)
    up, weights = rng.random(len(reduction.rows)) < 0.5, np.array([2, -1, 1])
    for k, (row, moved) in enumerate(zip(reduction.rows, sets.moved(reduction.rows, weights, up), strict=True)):
        near = within_reach(row, budget, units=units)
        assert tuple(moved) in near
        assert moved @ weights == (max if up[k] else min)(np.array(near) @ weights)


def test_a_robust_committee_reads_what_withstands_the_radius():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 30)
    wide = 8 + 4 * np.where(rng.random(60) < 0.9, labels, 1 - labels)  # nine times in ten, two units from the middle
    rows = np.c_[np.repeat(10 + labels[:, None], 6, axis=1), wide]  # six features tell the class for sure, by one unit
    data = Dataset.from_arrays(rows, labels, input_range=(0, 20))
    certified = []
    for radius in ((), (1,)):
        network = train(data, Bdnn((5,), method="committee", robust_radius=radius), node_limit=0).network
        certified.append(certify(network, data, limit=1).certified(1))
    assert certified == [26, 55]


@pytest.mark.parametrize("classes", [2, 3])
def test_a_committee_says_how_many_rows_are_sure_to_withstand_the_radius(classes):
    labels = np.repeat(np.arange(classes), 4)
    data = Dataset.from_arrays(np.eye(classes, dtype=int)[labels] * 9, labels, input_range=(0, 9))
    for radius, sure in ((1, "at least {0} of {0} "), (9, "at least {1} of {0} ")):
        options = Bdnn((3,), method="committee", robust_radius=(radius,))
        trained = train(data, options, ensemble="none", node_limit=0)
        certified = certify(trained.network, data, limit=radius).certified(radius)
        assert trained.report.notes[0].startswith(sure.format(len(labels), certified))


def test_thermometer_bits_of_a_feature_move_together(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("a,label\n" + "".join(f"{v},{'x' if v < 10 else 'y'}\n" for v in range(20)))
    data = Dataset.read(path, bits=4)
    reduction, chosen = robust_reduction(data, WeightDomain(1))
    sets = robust_sets(chosen, reduction, np.array([4]), None)
    for kinds in sets.of_row:
        for n in kinds:
            lengths = sorted(len(move) for move in sets.moves[n])
            assert lengths[0] == 1 and len(lengths) <= 4


ROBUST = (
    ({"robust_radius": (1,)}, lambda size: max(size) <= 1),
    ({"robust_radius": (2, 1)}, lambda size: size[0] <= 2 and size[1] <= 1),
    ({"robust_radius": (2,), "robust_features": 1}, lambda size: max(size) <= 2 and 0 in size),
    ({"robust_total": 2}, lambda size: sum(size) <= 2),
    ({"robust_total": 3, "robust_radius": (2,)}, lambda size: sum(size) <= 3 and max(size) <= 2),
)


@pytest.mark.parametrize(("options", "allowed"), ROBUST, ids=["box", "feature by feature", "one feature", "l1", "both"])
@pytest.mark.parametrize("bits", [None, 2])
def test_the_robust_optimum_is_that_of_exhaustive_search(options, allowed, bits, tmp_path):
    """One unit, raw rows behind numbers or thermometer bits: held rows are counted by trying every raw change."""
    raw, labels = [(1, 6), (2, 5), (4, 4), (5, 1), (6, 2), (3, 3)], [0, 0, 1, 1, 1, 0]
    lines = [f"{a},{b},{c}\n" for (a, b), c in zip(raw, labels, strict=True)]
    (tmp_path / "r.csv").write_text("a,b,label\n" + "".join(lines))
    data = Dataset.read(tmp_path / "r.csv", **({"coding": "affine"} if bits is None else {"bits": bits}))
    assert data.quantizer is not None
    steps = list(itertools.product(range(-3, 4), repeat=2))
    near = [[(a + p, b + q) for p, q in steps if allowed((abs(p), abs(q)))] for a, b in raw]
    inputs = [data.quantizer.quantize(np.array(rows)) for rows in near]
    least = len(raw) * 2
    for weights in itertools.product((-1, 0, 1), repeat=data.inputs.shape[1]):
        own = data.inputs @ weights
        low, high = (np.array([end(rows @ weights) for rows in inputs]) for end in (np.min, np.max))
        for threshold in range(int(low.min()), int(high.max()) + 2):
            fires, same = own >= threshold, (low >= threshold) | (high < threshold)
            wrong = [fires != (data.labels == 0), fires != (data.labels == 1), data.labels == 0, data.labels == 1]
            least = min(least, *(int(w.sum() + (~(same & ~w)).sum()) for w in wrong))
    trained = train(data, Bdnn(1, **options), node_limit=100_000)
    assert (trained.report.status, trained.report.solves[0].exact) == ("optimal", least)


def test_a_robust_training_says_how_many_rows_withstand_the_radius():
    data = Dataset.from_arrays(np.array([[2], [3], [4], [20], [21], [22]]), [0, 0, 0, 1, 1, 1], input_range=(0, 30))
    notes = train(data, Bdnn((1,), robust_radius=(3,)), node_limit=100).report.notes
    assert notes[0] == "6 of 6 training rows are right and keep every activation within the robust radius"
    notes = train(data, Bdnn((1,), robust_radius=(30,)), node_limit=100).report.notes
    assert notes[0] == (
        "3 of 6 training rows are right and keep every activation within the robust radius: no more than by always "
        "answering the most frequent class"
    )


@pytest.mark.parametrize("weights", ["integer", "binary"])
@pytest.mark.parametrize("labels", [[0, 0, 0, 0, 1, 1], [0, 0, 1, 1, 1, 1]])
def test_a_radius_beyond_all_data_leaves_the_rows_of_the_most_frequent_class(weights, labels):
    data = Dataset.from_arrays(np.array([[2, 9], [3, 1], [4, 7], [20, 3], [21, 8], [22, 2]]), labels)
    notes = train(data, Bdnn((2, 2), weights=weights, robust_radius=(2**31 - 1,)), node_limit=0).report.notes
    assert notes[0].startswith("4 of 6 training rows are right and keep every activation within the robust radius: no")


def test_a_radius_in_raw_units_does_not_go_with_what_has_none():
    data = Dataset.from_arrays(np.arange(24).reshape(6, 1, 2, 2), [0, 1] * 3, input_range=(0, 23))
    with pytest.raises(UsageError, match="in raw units, which are lost behind input stages: leave one of them out"):
        train(data, Bdnn(1, robust_radius=1), stages=["sum:2"], node_limit=0)
    assert train(data, Bdnn(1, robust_radius=1), copies=1, node_limit=0).report.rows == 6
    features = tuple(Feature(f"p{i}", Affine(0, 23), 0) for i in range(4))
    coded = replace(data, quantizer=Quantizer(features), raw=data.inputs)
    with pytest.raises(UsageError, match="in raw units, which are not known of changed copies: leave one of them out"):
        train(coded, Bdnn(1, robust_radius=1), copies=1, node_limit=0)


def test_notes_of_members_say_whose_they_are():
    data = Dataset.from_arrays(np.array([[0], [5], [9], [10]]), [0, 1, 2, 2], input_range=(0, 10))
    notes = train(data, Bdnn(1, robust_radius=1), ensemble="pairs", node_limit=100).report.notes
    assert notes == (
        "0 or 1: 2 of 2 training rows are right and keep every activation within the robust radius",
        "0 or 2, 1 or 2: 3 of 3 training rows are right and keep every activation within the robust radius",
    )
    notes = train(data.rows_at([0, 1, 2]), Bdnn(1, robust_radius=1), ensemble="pairs", node_limit=100).report.notes
    assert notes == (
        "every member: 2 of 2 training rows are right and keep every activation within the robust radius",
    )


def test_robust_radii_must_be_one_or_one_a_feature():
    with pytest.raises(UsageError, match="3 robust radii for 2 features: give one for all, or one each"):
        train(CROSS, Bdnn((1,), robust_radius=(1, 2, 3)), node_limit=0)


def test_the_exact_cost_counts_bits_and_rows_that_are_not_held():
    reduction, chosen = robust_reduction(CROSS, WeightDomain(1))
    sets = robust_sets(chosen, reduction, np.array([1, 1]), None)
    always = SignNetwork((np.zeros((1, 2), dtype=int), np.zeros((1, 1), dtype=int)), (np.array([0]), np.array([0])))
    # everything is class 0: five samples are wrong; of the eight, one each at (0, 0), (1, 1) and (3, 3) is held
    assert cost(always, reduction, None) == 5
    assert cost(always, reduction, sets) == 5 + 5
