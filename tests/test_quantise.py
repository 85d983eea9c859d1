from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mip2mcu.dataset import Dataset
from mip2mcu.errors import ModelError
from mip2mcu.prune.arrays import from_weights
from mip2mcu.prune.float_network import FloatDense, FloatNetwork, FloatPool
from mip2mcu.prune.quantise import _requantisation, quantise
from mip2mcu.verify import verify
from tests.float_networks import conv_network, dense_network, labelled_by


@pytest.mark.parametrize("make", [dense_network, conv_network, lambda: conv_network(average=True)])
def test_classes_are_those_of_the_float_network_on_nearly_all_rows(make):
    network = make()
    data = labelled_by(network, rows=500)
    whole = quantise(network, data)
    assert (whole.predict(data.inputs) == data.labels).mean() >= 0.97
    assert max(np.abs(layer.weights).max() for layer in whole.layers if hasattr(layer, "weights")) <= 127


def test_scores_are_those_of_the_float_network_up_to_one_factor():
    network = dense_network()
    data = labelled_by(network)
    exact, whole = network.scores(data.inputs).ravel(), quantise(network, data).sums(data.inputs).ravel()
    assert np.corrcoef(exact, whole)[0, 1] > 0.999


@settings(max_examples=60, deadline=None)
@given(st.floats(1e-9, 40.0), st.integers(1, 2**36))
def test_requantisation_rounds_to_the_nearest_within_one(factor, top):
    made, rounding = _requantisation(np.array([factor]), np.array([top]))
    sums = np.linspace(0, min(top, 255 / factor), 50).astype(np.int64)
    exact = np.minimum(255, sums * factor)
    assert np.abs(made.apply((sums + rounding)[:, None])[:, 0] - exact).max() <= 1.0 + factor * 2 ** int(made.pre[0])


def test_c_agrees_bit_for_bit_on_an_emulated_cortex_m4():
    network = conv_network()
    data = labelled_by(network)
    assert verify(quantise(network, data), "cortex-m4", data.rows_at(range(40)), vectors=60).mismatches == 0


def test_inputs_may_be_negative_and_units_dead():
    network = from_weights([[[0, 0], [1, -1]], [[1, 1], [0, -1]]], [[-1, 0], [0, 1]])
    rows = np.random.default_rng(0).integers(-128, 128, (100, 2))
    labels = network.scores(rows).argmax(axis=1)
    data = Dataset.from_arrays(rows, labels, input_range=(-128, 127))
    assert (quantise(network, data).predict(data.inputs) == labels).mean() >= 0.98


def test_average_pooling_of_negative_inputs_is_refused():
    network = FloatNetwork((FloatPool((2, 2), (2, 2), True), FloatDense(np.eye(2, 4), np.zeros(2), False)), (1, 4, 4))
    data = Dataset.from_arrays(np.zeros((2, 16), dtype=int), ["a", "b"], input_range=(-5, 5))
    with pytest.raises(ModelError, match="average pooling rounds non-negative"):
        quantise(network, data)


def test_calibration_needs_rows():
    data = labelled_by(dense_network())
    with pytest.raises(ModelError, match="at least one"):
        quantise(dense_network(), data.rows_at([]))


@pytest.mark.parametrize("tiny", [0.0, 1e-15, 1e-300])
def test_weights_that_are_nothing_beside_their_bias(tiny):
    hidden = FloatDense([[tiny, tiny], [1, -1], [tiny, 0]], [3.0, 0, -2.0])
    network = FloatNetwork((hidden, FloatDense([[1, 1, 1], [2, 0, 0]], [0, 0], relu=False)), (2,))
    rows = np.random.default_rng(0).integers(0, 16, (200, 2))
    labels = network.scores(rows).argmax(axis=1)
    data = Dataset.from_arrays(rows, labels, input_range=(0, 15))
    assert (quantise(network, data).predict(data.inputs) == labels).mean() >= 0.9
