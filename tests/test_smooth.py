"""Smooth: the program of the nearest unit, its value and optimum on small data, the prior, bad input."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pyomo.environ as pyo
import pytest

from mip2mcu.dataset import Dataset
from mip2mcu.errors import DatasetError, UsageError
from mip2mcu.evaluation import evaluate
from mip2mcu.train import train
from mip2mcu.train.prior import Prior, Reference, distances, hinge_duals, nearest, prior_of, reference
from mip2mcu.train.smooth import PARTS, Smooth, build_model
from tests.training import compare_with_golden

TWO_ROWS = Dataset.from_arrays(np.array([[0, 2], [3, 1]]), [0, 1], input_range=(0, 3))


def images(rows, classes, seed=0):
    """Images of 6 x 6: a bright spot at a place of its own for each class, moved by a pixel, and noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:6, :6]
    labels = np.arange(rows) % classes
    centres = np.array([(1, 1), (4, 4), (1, 4)])[labels] + rng.integers(-1, 2, (rows, 2))
    spots = 200 * (np.hypot(y - centres[:, :1, None], x - centres[:, 1:, None]) < 1.5)
    values = np.clip(spots + rng.integers(0, 56, (rows, 6, 6)), 0, 255).reshape(rows, 1, 6, 6)
    return Dataset.from_arrays(values, labels)


def test_the_program_of_the_nearest_unit(update_golden):
    compare_with_golden(Smooth(links=1).build(TWO_ROWS), "smooth_nearest.lp", update_golden)


def test_its_objective_is_the_error_that_local_search_counts():
    data = images(12, 2)
    options = Smooth(links=5)
    informed = options.shared(data)
    wanted = informed.reference(data, 0)
    found = nearest(informed.prior, wanted, 3, 5, lambda: False)
    model = build_model(informed.prior, found.scale * wanted.weights, options)
    for i, weight in zip(informed.prior.columns, found.weights, strict=True):
        model.weight[i].set_value(int(weight))
    scaled = found.scale * wanted.weights
    total = scaled @ informed.prior.spread.astype(float) @ scaled
    assert pyo.value(model.missed_variance) / total == pytest.approx(found.error, rel=1e-6)


def test_the_nearest_unit_of_three_inputs_is_close_to_the_optimum():
    rng = np.random.default_rng(1)
    for _ in range(20):
        factor = rng.normal(size=(3, 3))
        spread = (np.eye(3) + 0.2 * factor @ factor.T).astype(np.float32)
        prior = Prior(np.arange(3), spread, spread)
        wanted = Reference(rng.normal(size=3), 0.0)
        found = nearest(prior, wanted, 2, 3, lambda: False)
        scaled = found.scale * wanted.weights

        missed = np.array([*product(range(-2, 3), repeat=3), found.weights]) - scaled
        errors = np.einsum("ki,ij,kj->k", missed, spread, missed) / (scaled @ spread @ scaled)
        assert found.error == pytest.approx(errors[-1])
        best = errors.min()
        assert found.error <= 1.5 * best + 1e-9  # a local search: often the optimum, not always


def test_two_rows_have_the_unit_half_way():
    kernel = np.array([[1.0, 0.0], [0.0, 1.0]])
    assert hinge_duals(kernel, np.array([1.0, -1.0]), 1.0).tolist() == [0.5, 0.5]
    assert hinge_duals(kernel, np.array([1.0, -1.0]), 1 / 3).tolist() == [0.25, 0.25]


def test_rows_that_hold_the_unit_miss_the_margin_by_their_multipliers_over_the_hardness():
    rng = np.random.default_rng(3)
    rows, signs = rng.normal(size=(20, 2)), np.repeat([1.0, -1.0], 10)
    duals = hinge_duals(rows @ rows.T, signs, 2.0)
    sums = rows @ ((duals * signs) @ rows)
    bias = (signs * (1 - duals / 2.0) - sums)[duals > 0]
    assert duals @ signs == pytest.approx(0, abs=1e-9)
    assert np.ptp(bias) < 2e-3
    assert (signs * (sums + bias.mean()) >= 1 - duals / 2.0 - 2e-3).all()


def test_the_reference_separates_what_can_be_separated():
    data = images(20, 2)
    prior = prior_of(data, 3.0, 0.1)
    signs = np.where(data.labels == 0, 1, -1)
    unit = reference(prior, data.inputs[:, prior.columns], signs, 10.0, 0)
    assert (signs * (data.inputs[:, prior.columns] @ unit.weights + unit.bias) > 0).all()


def test_channels_and_lists_have_no_neighbours():
    assert distances((2, 1, 2)).tolist() == [
        [0, 1, np.inf, np.inf],
        [1, 0, np.inf, np.inf],
        [np.inf, np.inf, 0, 1],
        [np.inf, np.inf, 1, 0],
    ]
    assert distances((2,)).tolist() == [[0, np.inf], [np.inf, 0]]


def test_members_learn_from_the_rows_of_all_classes():
    rows = np.array([[0, 9, 0], [5, 9, 0], [1, 8, 0], [6, 7, 0]])
    alone = Dataset.from_arrays(rows, [0, 1, 0, 1], input_range=(0, 9))
    more = Dataset.from_arrays(
        np.concatenate([alone.inputs, [[3, 3, 1], [2, 4, 9]]]), [0, 1, 0, 1, 2, 2], input_range=(0, 9)
    )
    assert prior_of(alone, 3.0, 0.1).columns.tolist() == [0, 1]
    assert prior_of(more, 3.0, 0.1).columns.tolist() == [0, 1, 2]
    assert train(more, "smooth", node_limit=0).network.sums(more.inputs).shape == (6, 3)


def test_a_unit_has_no_more_links_than_asked_for():
    data = images(12, 3)
    trained = train(data, Smooth(links=4, weight_bound=2), node_limit=0)
    weights = trained.network.layers[0].weights
    assert (np.count_nonzero(weights, axis=1) <= 4).all()
    assert np.abs(weights).max() <= 2
    assert 0 < trained.report.totals[0].exact < 3 * PARTS


def test_an_error_of_less_than_a_part_is_no_proof():
    task = Smooth(weight_bound=32767, links=1000)
    trained = train(images(12, 3), task, node_limit=0)
    assert [solve.status for solve in trained.report.solves] == ["not searched"] * 3


def test_any_number_of_workers_gives_the_same_bytes():
    data = images(12, 3)
    one, two = (train(data, "smooth", node_limit=0, workers=workers) for workers in (1, 2))
    assert one.network.sha256 == two.network.sha256


def test_few_images_are_recognised():
    trained = train(images(12, 3), "smooth", node_limit=0)
    assert evaluate(trained.network, images(300, 3, seed=1)).accuracy > 0.9


def test_a_class_with_one_row_and_rows_that_cannot_be_separated():
    one = train(images(4, 3), "smooth", node_limit=0)
    assert one.report.correct == 4
    equal = Dataset.from_arrays(np.array([[1, 2], [1, 2], [5, 0]]), [0, 1, 1], input_range=(0, 9))
    assert train(equal, "smooth", node_limit=0).report.correct == 2


def test_rows_that_are_all_equal_have_no_columns():
    equal = Dataset.from_arrays(np.array([[1, 2], [1, 2], [1, 2]]), [0, 1, 1], input_range=(0, 9))
    assert train(equal, "smooth", node_limit=0).report.correct == 2


def test_what_cannot_be_is_refused():
    with pytest.raises(UsageError, match="0 links of a unit are not possible"):
        Smooth(links=0)
    with pytest.raises(UsageError, match="a length of 0 is not possible"):
        Smooth(length=0)
    with pytest.raises(UsageError, match="two classes at a time, here are 3: take --ensemble rest, or pairs without"):
        train(images(6, 3), "smooth", ensemble="none", node_limit=0)
    with pytest.raises(UsageError, match="2,500 inputs vary, but a prior can be kept of 2,048 at most"):
        wide = np.stack([np.zeros(2500, dtype=np.int64), np.ones(2500, dtype=np.int64)])
        train(Dataset.from_arrays(wide, [0, 1], input_range=(0, 1)), "smooth", node_limit=0)
    with pytest.raises(DatasetError, match="all of one class"):
        Smooth().start(replace(images(4, 2), labels=np.zeros(4, dtype=np.int64)), None)
