"""Ensembles: subsets of classes, strict votes, shared units, how votes went, refusals."""

from __future__ import annotations

import numpy as np
import pytest

from mip2mcu import Dataset, evaluate, train
from mip2mcu.decisions import Argmax, Sign, Vote
from mip2mcu.errors import UsageError
from mip2mcu.layers import Activation, Dense
from mip2mcu.network import Network
from mip2mcu.train.ensemble import Ensemble, combined, members
from mip2mcu.train.linear import Linear
from tests.training import separated_data

FOUR = separated_data(rows=48, classes=4)
FIXED = Linear(margin=0.25, keep=0.99)


def test_members_of_three_classes_vote():
    trained = train(FOUR, FIXED, subset_size=3, node_limit=0)
    assert trained.network.decision == Vote(4, 3, by_margin=True)
    assert trained.network.layers[0].units == 4 * 3
    assert dict(trained.report.options)["subset_size"] == 3
    assert [part.name for part in members(FOUR, Ensemble(subset_size=3))] == [
        "0 or 1 or 2",
        "0 or 1 or 3",
        "0 or 2 or 3",
        "1 or 2 or 3",
    ]
    assert trained.report.accuracy > 0.8


def test_a_subset_of_all_classes_is_one_network():
    assert train(FOUR, FIXED, subset_size=4, node_limit=0).network.decision == Argmax(4)


def test_a_strict_vote_may_stay_unclassified():
    by_margin = train(FOUR, FIXED, node_limit=0)
    strict = train(FOUR, FIXED, vote="strict", node_limit=0)
    assert (by_margin.network.decision, strict.network.decision) == (Vote(4, 2, True), Vote(4, 2, False))
    assert strict.network.layers[0].weights.tolist() == by_margin.network.layers[0].weights.tolist()
    assert dict(strict.report.options)["vote"] == "strict"


@pytest.mark.parametrize(
    ("sums", "votes", "statuses"),
    [
        ([1, 1, 1, 1, 1, 1], [3, 2, 1, 0], {0: 0, 1: 6, 3: 6}),
        ([1, 1, -1, 1, -1, 1], [2, 1, 1, 2], {3: 1, 0: 2, 2: 5}),
        ([1, -1, 1, 1, 1, 1], [2, 2, 2, 0], {0: 3, 2: 3, 3: 4}),
    ],
)
def test_every_status_of_a_vote(sums, votes, statuses):
    """Sums of the pairs 01, 02, 03, 12, 13, 23; the status by true class."""
    assert Vote(4).scores(np.array([sums])).tolist() == [votes]
    for label, status in statuses.items():
        assert Vote(4).statuses(np.array([sums]), np.array([label])).tolist() == [status]


def test_statuses_add_up_to_the_rows_and_to_the_accuracy():
    trained = train(FOUR, FIXED, vote="strict", node_limit=0)
    result = evaluate(trained.network, FOUR)
    assert sum(result.statuses) == result.rows
    assert sum(result.statuses[:2]) == result.correct
    assert sum(result.statuses[3:5]) == result.unclassified


def hidden(first, bias, second):
    """A pair network of two hidden units."""
    layers = (Dense(first, bias, Activation.SIGN), Dense(second, [0]))
    return Network(np.zeros(2), np.full(2, 3), layers, Sign(), ("a", "b"))


def test_equal_first_layer_units_of_different_members_are_there_once():
    networks = [
        hidden([[1, 0], [0, 1]], [0, -2], [[1, 1]]),
        hidden([[0, 1], [0, 1]], [-2, -2], [[1, -1]]),
        hidden([[1, 0], [0, 1]], [-1, -2], [[-1, 1]]),
    ]
    data = Dataset.from_arrays(np.arange(6).reshape(3, 2) % 4, [0, 1, 2], input_range=(0, 3))
    whole = combined(data, Ensemble(), networks)
    assert whole.layers[0].weights.tolist() == [[1, 0], [0, 1], [0, 1], [1, 0]]
    assert whole.layers[0].bias.tolist() == [0, -2, -2, -1]
    assert whole.layers[1].weights.tolist() == [[1, 1, 0, 0], [0, 1, -1, 0], [0, 1, 0, -1]]
    rows = np.array([[a, b] for a in range(4) for b in range(4)])
    alone = np.concatenate([network.sums(rows) for network in networks], axis=1)
    assert whole.sums(rows).tolist() == alone.tolist()


def test_a_member_that_does_not_fit_is_named_with_its_best_errors():
    inputs = np.array([[0, 0], [1, 1], [0, 1], [1, 0], [3, 3], [3, 2]])
    data = Dataset.from_arrays(inputs, [0, 0, 1, 1, 2, 2], input_range=(0, 3))
    notes = train(data, FIXED, node_limit=0).report.notes
    assert any(note.startswith("1 of 3 members do not fit all of their rows (rows wrong): 0 or 1 (") for note in notes)


def test_a_class_with_one_row_is_enough():
    data = Dataset.from_arrays(np.array([[0], [1], [5], [9]]), [0, 0, 1, 2], input_range=(0, 9))
    assert train(data, FIXED, node_limit=0).report.accuracy == 1.0


@pytest.mark.parametrize("kind", [("pairs", 2), ("pairs", 3), ("pairs", 4), ("rest", 2), ("none", 2)])
def test_each_class_has_so_many_members(kind):
    ensemble = Ensemble(*kind)
    rows = sum(part.dataset.rows for part in members(FOUR, ensemble))
    assert rows == FOUR.rows * ensemble.members_of_a_class(4)


def test_thousands_of_members_are_asked_about():
    data = Dataset.from_arrays(np.arange(101)[:, None], list(range(101)), input_range=(0, 100))
    with pytest.raises(UsageError, match=r"101 classes make 5,050 networks, .* confirm it with --yes"):
        members(data, Ensemble())
    assert len(members(data, Ensemble(), many=True)) == 5050


@pytest.mark.parametrize(
    ("classes", "options", "message"),
    [
        (400, {}, "400 classes make 79,800 networks with 319,200 units in a layer, at most 65,535 are possible"),
        (60, {"options": {"hidden": (40,)}}, "60 classes make 1,770 networks with 70,800 units in a layer"),
        (40, {"subset_size": 20}, r"40 classes make 1e\+11 networks with 3e\+12 units in a layer"),
    ],
)
def test_more_units_than_a_layer_has_are_refused_before_the_work(classes, options, message):
    data = Dataset.from_arrays(np.arange(classes)[:, None], list(range(classes)), input_range=(0, 400))
    with pytest.raises(UsageError, match=message):
        train(data, "inn", ensemble="pairs", many=True, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"subset_size": 1}, "a subset size of 1 leaves nothing to decide: give one of at least 2"),
        ({"subset_size": 5}, "subsets of 5 classes cannot be made of 4: give a subset size of at most 4"),
        ({"ensemble": "rest", "subset_size": 3}, "the ensemble 'rest' does not vote"),
        ({"ensemble": "none", "vote": "strict"}, "the ensemble 'none' does not vote"),
        ({"vote": "loud"}, "vote 'loud' is unknown"),
        ({"ensemble": "trees"}, "ensemble 'trees' is unknown"),
    ],
)
def test_ensembles_that_cannot_be(options, message):
    with pytest.raises(UsageError, match=message):
        train(FOUR, FIXED, node_limit=0, **options)
