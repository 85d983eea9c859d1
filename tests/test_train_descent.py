"""Descent: exact gradients, networks in the domain, rows left out, stops and seeds."""

import itertools

import numpy as np
import pytest

from mip2mcu.dataset import Dataset
from mip2mcu.train import descent, train
from mip2mcu.train.bdnn import Bdnn
from mip2mcu.train.descent import _begun, descended, hinge_slope
from mip2mcu.train.goal import Goal
from mip2mcu.train.objectives import OBJECTIVES
from mip2mcu.train.reduction import WeightDomain, reduce


@pytest.fixture(autouse=True)
def short_descents(monkeypatch):
    monkeypatch.setattr(descent, "STEPS", 400)
    monkeypatch.setattr(descent, "FIRST_STEPS", 100)


def rings(seed: int, rows: int, classes: int = 3) -> Dataset:
    """Points of the plane, their class by the distance from the middle; the third column is the first one again."""
    points = np.random.default_rng(seed).integers(0, 41, (rows, 2))
    distance = np.hypot(*(points - 20).T)
    labels = np.minimum((distance / 9).astype(int), classes - 1)
    return Dataset.from_arrays(np.c_[points, points[:, :1]], labels, input_range=(0, 40))


@pytest.mark.parametrize("outputs", [1, 3])
def test_the_slope_is_half_of_what_the_hinge_does_between_two_whole_numbers(outputs):
    rng = np.random.default_rng(0)
    sums, true = 2 * rng.integers(-9, 10, (50, outputs)), rng.integers(0, max(2, outputs), 50)
    slope = hinge_slope(sums.astype(float), true, target=6)
    losses = OBJECTIVES["min-hinge"].losses
    for c in range(outputs):
        one = np.zeros_like(sums)
        one[:, c] = 1
        # leads are even and so is the target: none comes from one side of it to the other, and squares are exact
        around = losses(sums + one, true, 6) - losses(sums - one, true, 6)
        touched = losses(sums + one, true, 6) + losses(sums - one, true, 6) - 2 * losses(sums, true, 6)
        smooth = touched % 2 == 0
        assert smooth.any()
        assert (4 * slope[smooth, c] == around[smooth]).all()


def test_gradients_are_whole_numbers():
    data = rings(0, 100)
    reduction = reduce(data, WeightDomain(3))
    way = _begun(reduction, (5, 4), 7, np.random.default_rng(0))
    way.go(20, lambda: False)
    rows, true = reduction.rows.astype(float), reduction.counts.argmax(axis=1)
    gradients = [gradient for _, gradient in way._gradients(rows, true)]
    assert [gradient.shape for gradient in gradients] == [(3, 4), (3,), (4, 5), (4,), (5, 2), (5,)]
    assert all((gradient == np.rint(gradient)).all() and gradient.any() for gradient in gradients)


@pytest.mark.parametrize(("classes", "hidden"), [(2, (8,)), (3, (8,)), (3, (8, 6))])
@pytest.mark.parametrize("domain", [WeightDomain(1), WeightDomain(3), WeightDomain(1, binary=True)])
def test_a_descent_is_in_the_domain_and_the_same_for_a_seed(classes, hidden, domain):
    reduction = reduce(rings(0, 200, classes), domain)
    assert reduction.copies.tolist() == [2, 1]
    found, again = (descended(reduction, hidden, 1, 0) for _ in range(2))
    inputs = (2, *hidden)
    for layer, (weights, high) in enumerate(
        zip(found.weights, (reduction.weight_high, *(np.full(n, domain.bound) for n in hidden)), strict=True)
    ):
        assert weights.shape[1] == inputs[layer]
        assert (np.abs(weights) <= high).all() and ((weights + high) % domain.step == 0).all()
        assert (weights == again.weights[layer]).all() and (found.bias[layer] == again.bias[layer]).all()


def pairs_of_places(seed: int, rows: int) -> Dataset:
    """Each class has two opposite places in 20 inputs: no linear network tells one class from the others."""
    rng, labels = np.random.default_rng(seed), np.arange(rows) % 3
    places = 4 * np.random.default_rng(9).choice([-1, 1], (3, 20))
    inputs = places[labels] * rng.choice([-1, 1], (rows, 1)) + rng.integers(-6, 7, (rows, 20))
    return Dataset.from_arrays(inputs, labels, input_range=(-10, 10))


def test_a_descent_finds_what_no_linear_network_does():
    data, others = pairs_of_places(0, 300), pairs_of_places(1, 600)
    trained = train(data, Bdnn((8,), method="descent", restarts=2), ensemble="none")
    network = trained.network
    assert (network.predict(others.inputs) == others.labels).mean() > 0.9
    assert set(np.unique(network.layers[0].weights)) == {-1, 0, 1}
    assert trained.report.solves[0].status == "not searched"


def test_more_descents_are_never_worse():
    reduction = reduce(rings(0, 200), WeightDomain(1))
    goal = Goal("min-hinge", 1, 3)  # half of the margin target of eight units, 5, rounded up
    losses = [goal.loss(descended(reduction, (8,), n, 0), reduction) for n in (1, 2, 3)]
    assert losses == sorted(losses, reverse=True)


def test_a_descent_that_is_stopped_is_kept_only_where_there_is_no_other():
    reduction = reduce(rings(0, 200), WeightDomain(1))
    asked = itertools.count()
    short = descended(reduction, (8,), 0, 0)
    stopped = descended(reduction, (8,), 3, 0, lambda: next(asked) > 12)  # in the second one
    assert all((a == b).all() for a, b in zip(short.weights, stopped.weights, strict=True))
    at_once = descended(reduction, (8,), 3, 0, lambda: True)
    assert at_once.hidden == (8,)
