from __future__ import annotations

import numpy as np
import pytest

from mip2mcu.dataset import Dataset
from mip2mcu.errors import ModelError
from mip2mcu.prune.arrays import from_weights
from mip2mcu.prune.float_network import FloatConv, FloatDense, FloatNetwork, FloatPool
from mip2mcu.prune.rescaling import cleaned, fitted_to, permuted_classes, rescaled
from mip2mcu.quantizer import Affine, Feature, OneHot, Quantizer
from tests.float_networks import conv_network, dense_network


def test_scores_of_a_dense_network():
    network = from_weights([[[1, -1], [0, 2]], [[1, 1], [-1, 0]]], [[0, -1], [0.5, 0]])
    assert network.scores(np.array([[3.0, 1.0], [0.0, 1.0]])).tolist() == [[3.5, -2.0], [1.5, 0.0]]


def test_a_convolution_is_what_the_windows_give():
    network = conv_network()
    first = network.layers[0]
    image = np.arange(64.0).reshape(1, 1, 8, 8)
    got = first.sums(image)
    padded = np.pad(image[0, 0], 1)
    want = sum(first.weights[2, 0, r, c] * padded[3 + r, 4 + c] for r in range(3) for c in range(3)) + first.bias[2]
    assert got.shape == (1, 4, 8, 8)
    assert got[0, 2, 3, 4] == pytest.approx(want)


def test_columns_of_a_reader_are_ordered_by_the_units_before_it():
    network = conv_network()
    assert network.prunable == (0, 2, 3)
    assert network.widths == (4, 5, 6)
    assert network.outgoing(0).shape == (5, 4, 4)
    assert network.outgoing(2).shape == (6, 5, 9)
    assert (network.outgoing(2)[1, 3] == network.layers[3].weights[1, 27:36]).all()


def test_rows_pass_in_parts_without_any_difference(monkeypatch):
    network, rows = conv_network(), np.random.default_rng(0).normal(size=(50, 64))
    whole = network.scores(rows)
    monkeypatch.setattr("mip2mcu.prune.float_network.VALUES_AT_ONCE", 5000)
    assert np.allclose(network.scores(rows), whole)
    assert network.into(3, rows).shape == (50, 5, 3, 3)


def test_a_hidden_layer_without_relu_is_refused():
    layer = FloatDense(np.eye(2), np.zeros(2), relu=False)
    with pytest.raises(ModelError, match="layer 0 has no ReLU"):
        FloatNetwork((layer, layer), (2,))


def test_the_last_layer_must_be_dense_without_relu():
    with pytest.raises(ModelError, match="one score a class"):
        FloatNetwork((FloatDense(np.eye(2), np.zeros(2)),), (2,))


def test_nan_and_denormal_weights_are_cleaned_and_said():
    values, notes = cleaned([[np.nan, 1.0], [1e-40, -np.inf]], "weights of layer 0")
    assert values.tolist() == [[0, 1], [0, 0]]
    assert notes == (
        "weights of layer 0: 2 values of 4 NaN or infinite, taken as 0",
        "weights of layer 0: 1 value of 4 below 1e-06 of the largest, taken as 0",
    )


def test_rescaling_folds_into_a_dense_layer():
    network, rows = dense_network(), np.random.default_rng(1).integers(0, 256, (20, 6))
    scale, offset = np.linspace(0.1, 1, 6), np.linspace(-1, 1, 6)
    assert np.allclose(rescaled(network, scale, offset).scores(rows), network.scores(rows * scale + offset))


@pytest.mark.parametrize("average", [False, True])
def test_rescaling_folds_into_a_padded_convolution_and_behind_a_pool(average):
    network, rows = conv_network(average), np.random.default_rng(1).integers(0, 256, (9, 64))
    folded = rescaled(network, 1 / 255, -0.1307)
    assert folded.layers[0].padding_value == pytest.approx(0.1307 * 255)
    assert np.allclose(folded.scores(rows), network.scores(rows / 255 - 0.1307))
    behind = FloatNetwork((FloatPool((1, 1), (1, 1), average), *network.layers), (1, 8, 8))
    assert np.allclose(rescaled(behind, 0.5, 3.0).scores(rows), behind.scores(rows * 0.5 + 3.0))


def test_an_image_takes_one_scale_a_channel():
    with pytest.raises(ModelError, match="one scale and offset of its inputs a channel"):
        rescaled(conv_network(), np.linspace(1, 2, 64), 0.0)
    with pytest.raises(ModelError, match="finite and not 0"):
        rescaled(conv_network(), 0.0, 0.0)


def test_classes_take_the_order_of_the_data():
    network = from_weights([np.eye(3)], [np.zeros(3)], ["b", "c", "a"])
    assert permuted_classes(network, ("a", "b", "c")).layers[0].weights.argmax(axis=1).tolist() == [2, 0, 1]
    with pytest.raises(ModelError, match="class 'a' is known"):
        permuted_classes(network, ("b", "c", "d"))
    with pytest.raises(ModelError, match="3 scores, the data have 2 classes"):
        permuted_classes(network, ("a", "b"))


def test_a_quantizer_gives_the_units_of_the_features():
    quantizer = Quantizer((
        Feature("t", Affine(-50, 461, 0, 32704, 16), 0, decimals=1),
        Feature("n", Affine(3, 9), 3),
    ))  # fmt: skip
    raw = np.array([[-50, 3], [461, 9], [205, 5]])
    data = Dataset(quantizer.quantize(raw), [0, 1, 0], ("a", "b"), [0, 0], quantizer.input_high, (), quantizer, raw)
    network = from_weights([np.eye(2)], [np.zeros(2)])
    units = fitted_to(network, data, 2.0, 1.0).scores(data.inputs)
    assert np.abs(units - (np.array([[-5.0, 3], [46.1, 9], [20.5, 5]]) * 2 + 1)).max() < 0.25


def test_what_is_no_number_is_refused_with_its_name():
    quantizer = Quantizer((Feature("colour", OneHot(("blue",)), 0),))
    data = Dataset([[1]], [0], ("a", "b"), [0], [1], (), quantizer, np.array([[0]]))
    network = from_weights([np.ones((2, 1))], [np.zeros(2)])
    with pytest.raises(ModelError, match="'colour' is no single number"):
        fitted_to(network, data)
    with pytest.raises(ModelError, match="network has 2 inputs, the data have 1"):
        fitted_to(from_weights([np.eye(2)], [np.zeros(2)]), data)


def test_window_that_does_not_fit_is_refused():
    layers = (FloatConv(np.ones((1, 1, 9, 9)), [0.0]), FloatDense(np.ones((2, 1)), np.zeros(2), relu=False))
    with pytest.raises(ModelError, match="does not fit"):
        FloatNetwork(layers, (1, 8, 8))
