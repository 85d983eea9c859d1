"""Data reduction: what is dropped, merged and counted, and that nothing is lost."""

import numpy as np
import pytest

from mip2mcu.dataset import Dataset
from mip2mcu.errors import DatasetError, UsageError
from mip2mcu.train.reduction import WeightDomain, reduce

X = np.array([[1, 7, 1, 0, 1], [0, 7, 0, 2, 0], [1, 7, 1, 0, 1], [1, 7, 1, 0, 1]])
DATA = Dataset.from_arrays(X, [0, 1, 0, 1], input_range=(0, 7))


def test_constant_columns_go_and_identical_ones_merge():
    reduction = reduce(DATA, WeightDomain(2))
    assert [group.tolist() for group in reduction.groups] == [[0, 2, 4], [3]]
    assert reduction.fixed.tolist() == [0, 7, 0, 0, 0]
    assert reduction.weight_high.tolist() == [6, 2]


def test_rows_are_counted_per_class_contradictions_included():
    reduction = reduce(DATA, WeightDomain(1))
    assert reduction.rows.tolist() == [[1, 0], [0, 2]]
    assert reduction.counts.tolist() == [[2, 1], [0, 1]]


def test_a_merged_weight_is_handed_out_with_as_few_links_as_possible():
    reduction = reduce(DATA, WeightDomain(2))
    weights, bias = reduction.expand(np.array([[5, -2], [-3, 0]]), np.array([4, 9]))
    assert weights.tolist() == [[2, 0, 2, -2, 1], [-2, 0, -1, 0, 0]]
    assert bias.tolist() == [4, 9]
    assert reduction.links(np.array([[5, -2], [-3, 0]])) == 6


def test_binary_weights_have_no_zero_and_the_bias_takes_constant_inputs_back():
    reduction = reduce(DATA, WeightDomain(1, binary=True))
    weights, bias = reduction.expand(np.array([[-1, 1]]), np.array([4]))
    assert weights.tolist() == [[1, 1, -1, 1, -1]]
    assert bias.tolist() == [4 - 7]


@pytest.mark.parametrize("domain", [WeightDomain(3), WeightDomain(1, binary=True)])
def test_reduced_and_full_sums_agree_and_collapse_inverts_expand(domain):
    rng = np.random.default_rng(5)
    wide = rng.integers(-2, 3, (9, 4))[:, [0, 1, 1, 2, 3, 0]]
    wide[:, 4] = 2
    data = Dataset.from_arrays(wide, np.arange(9) % 2, input_range=(-2, 2))
    reduction = reduce(data, domain)
    high = reduction.weight_high
    weights = np.stack([rng.choice(np.arange(-h, h + 1, domain.step), 2) for h in high], axis=1)
    bias = rng.integers(-5, 6, 2)
    full_weights, full_bias = reduction.expand(weights, bias)
    full = wide @ full_weights.T + full_bias
    reduced = {
        tuple(row): tuple(s) for row, s in zip(reduction.rows, reduction.rows @ weights.T + bias, strict=True)
    }
    columns = [group[0] for group in reduction.groups]
    assert [reduced[tuple(row)] for row in wide[:, columns]] == [tuple(s) for s in full]
    again = reduction.collapse(full_weights, full_bias)
    assert (again[0].tolist(), again[1].tolist()) == (weights.tolist(), bias.tolist())
    allowed = (-1, 1) if domain.binary else range(-domain.bound, domain.bound + 1)
    assert set(full_weights.flat) <= set(allowed)


def test_data_without_any_varying_column_reduce_to_one_row():
    data = Dataset.from_arrays(np.ones((3, 2), dtype=int), [0, 1, 1], input_range=(0, 1))
    reduction = reduce(data, WeightDomain(1))
    assert (reduction.rows.shape, reduction.counts.tolist()) == ((1, 0), [[1, 2]])


def test_what_cannot_be_trained_on_is_refused():
    with pytest.raises(DatasetError, match="all of one class"):
        reduce(Dataset.from_arrays([[1], [2]], ["a", "a"], classes=["a", "b"]), WeightDomain())
    with pytest.raises(DatasetError, match="class 'c' has no training rows"):
        reduce(Dataset.from_arrays([[1], [2]], ["a", "b"], classes=["a", "b", "c"]), WeightDomain())


def test_impossible_weight_domains_are_refused():
    with pytest.raises(UsageError, match="a weight bound of 0 is not possible"):
        WeightDomain(0)
    with pytest.raises(UsageError, match="a weight bound of 3 contradicts them"):
        WeightDomain(3, binary=True)


@pytest.mark.parametrize("spread", [1, 100, 300, -6_000])
def test_equal_rows_and_columns_are_found_in_every_range(spread):
    inputs = np.array([[0, 1, 0, 5], [0, 1, 0, 5], [1, 1, 1, 5], [0, -1, 0, 5]]) * spread
    low, high = int(inputs.min()), int(inputs.max())
    reduction = reduce(Dataset.from_arrays(inputs, [0, 1, 1, 0], input_range=(low, high)), WeightDomain(1))
    assert [group.tolist() for group in reduction.groups] == [[0, 2], [1]]
    assert reduction.rows.tolist() == [[0, spread], [spread, spread], [0, -spread]]
    assert reduction.counts.tolist() == [[1, 1], [0, 1], [1, 0]]
