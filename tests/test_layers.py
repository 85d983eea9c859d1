"""Every layer by hand: sums, activations, shapes, and the parameters that it refuses."""

from __future__ import annotations

import numpy as np
import pytest

from mip2mcu import layers
from mip2mcu.errors import ModelError
from mip2mcu.layers import Activation, AveragePool, Conv2d, Dense, MaxPool, Requantisation

IMAGE = np.arange(9).reshape(1, 1, 3, 3)
"""One row, one channel: 0 1 2 / 3 4 5 / 6 7 8."""


# ---- dense ---------------------------------------------------------------------------------------------------------


def test_dense_sums():
    layer = Dense([[1, -2], [3, 0]], [10, -1])
    assert layer.sums(np.array([[4, 5]])).tolist() == [[4, 11]]


def test_a_sum_of_zero_fires():
    layer = Dense([[1]], [0], Activation.SIGN)
    assert layer.forward(np.array([[0], [-1], [1]])).tolist() == [[1], [-1], [1]]


def test_dense_reads_a_tensor_channel_by_channel():
    tensor = np.array([[[[1, 2], [3, 4]], [[5, 6], [7, 8]]]])
    layer = Dense([[1, 10, 100, 1000, 10**4, 2, 3, 4]], [0])
    assert layer.sums(tensor).tolist() == [[1 + 20 + 300 + 4000 + 50000 + 12 + 21 + 32]]


def test_dense_operations():
    assert Dense([[1, 2], [3, 4], [5, 6]], [0, 0, 0]).operations((2,)) == 6


@pytest.mark.parametrize(
    ("weights", "bias", "message"),
    [
        ([[]], [0], r"weights have shape \(1, 0\)"),
        ([1, 2], [0], r"weights have shape \(2,\), expected 2 dimensions"),
        ([[1, 2]], [0, 0], r"bias has shape \(2,\), expected one entry for each of 1 units"),
        ([[32768]], [0], r"the weights reach 32768\.\.32768, allowed is -32767\.\.32767"),
        ([[-(2**63)]], [0], "the weights reach -9223372036854775808"),
        ([[1]], [2**40 + 1], "the biases reach 1099511627777"),
        ([[1]], [-(2**63)], "the biases reach -9223372036854775808"),
    ],
)
def test_dense_parameters_that_are_refused(weights, bias, message):
    with pytest.raises(ModelError, match=message):
        Dense(weights, bias)


def test_the_limits_themselves_are_allowed():
    layer = Dense([[32767, -32767]], [2**40])
    assert layer.sums(np.array([[1, 1]])).tolist() == [[2**40]]


# ---- requantisation ------------------------------------------------------------------------------------------------


def test_requantisation_by_hand():
    rule = Requantisation(pre=[1], mult=[3], shift=[2])
    sums = np.array([[-5], [0], [1], [2], [6], [7], [680], [10**6]])
    # t = sum >> 1: 0 0 0 1 3 3 340 500000; y = (3 t + 2) >> 2
    assert rule.apply(sums).tolist() == [[0], [0], [0], [1], [2], [2], [255], [255]]


def test_requantisation_has_one_entry_a_channel():
    rule = Requantisation(pre=[0, 1], mult=[2, 2], shift=[1, 1])
    sums = np.array([[[[8, 9]], [[8, 9]]]])
    assert rule.apply(sums).tolist() == [[[[8, 9]], [[4, 4]]]]


def test_the_largest_requantisation_fits_uint32():
    assert 65535 * 32767 + 2**29 < 2**32
    assert Requantisation([0], [32767], [30]).apply(np.array([[65535]])).tolist() == [[2]]


@pytest.mark.parametrize(
    ("pre", "mult", "shift", "message"),
    [
        ([32], [1], [1], r"requantisation pre reaches 32\.\.32, allowed are 0\.\.31"),
        ([-1], [1], [1], "requantisation pre reaches -1"),
        ([0], [32768], [1], r"mult reaches 32768\.\.32768, allowed are 0\.\.32767"),
        ([0], [1], [0], r"shift reaches 0\.\.0, allowed are 1\.\.30"),
        ([0], [1], [31], "shift reaches 31"),
        ([0, 0], [1], [1], "three lists of one length"),
        ([[0]], [[1]], [[1]], "three lists of one length"),
    ],
)
def test_requantisations_that_are_refused(pre, mult, shift, message):
    with pytest.raises(ModelError, match=message):
        Requantisation(pre, mult, shift)


def test_relu_needs_a_requantisation_and_only_relu():
    rule = Requantisation([0], [1], [1])
    with pytest.raises(ModelError, match="a RELU layer, and no other, carries a requantisation"):
        Dense([[1]], [0], Activation.RELU)
    with pytest.raises(ModelError, match="a RELU layer, and no other"):
        Dense([[1]], [0], Activation.SIGN, rule)
    with pytest.raises(ModelError, match="requantisation of 1 entries stands at a layer of 2 units"):
        Dense([[1], [1]], [0, 0], Activation.RELU, rule)


# ---- convolution ---------------------------------------------------------------------------------------------------


def test_convolution_is_a_cross_correlation():
    layer = Conv2d([[[[1, 0], [0, 10]]]], [100])
    assert layer.sums(IMAGE).tolist() == [[[[140, 151], [173, 184]]]]


def test_convolution_adds_its_channels():
    tensor = np.concatenate([IMAGE, 10 * IMAGE], axis=1)
    layer = Conv2d([[[[1]], [[1]]], [[[0]], [[-1]]]], [0, 5])
    assert layer.sums(tensor)[0, :, 1].tolist() == [[33, 44, 55], [-25, -35, -45]]


def test_padding_is_top_left_bottom_right_and_holds_the_padding_value():
    layer = Conv2d([[[[1, 1], [1, 1]]]], [0], padding=(1, 0, 0, 1), padding_value=100)
    assert layer.sums(IMAGE).tolist() == [[[[201, 203, 302], [8, 12, 207], [20, 24, 213]]]]


def test_stride_is_rows_then_columns():
    layer = Conv2d([[[[1]]]], [0], stride=(2, 1))
    assert layer.sums(IMAGE).tolist() == [[[[0, 1, 2], [6, 7, 8]]]]


def test_windows_that_do_not_fit_are_dropped():
    layer = Conv2d([[[[1, 1]]]], [0], stride=(1, 2))
    assert layer.output_shape((1, 3, 3)) == (1, 3, 1)
    assert layer.sums(IMAGE).tolist() == [[[[1], [7], [13]]]]


def test_the_range_of_a_convolution_counts_the_padding_once():
    layer = Conv2d([[[[1, -1]]]], [3], padding=(0, 1, 0, 0), padding_value=7)
    low, high = layer.sum_range(np.array([[[0]]]), np.array([[[2]]]))
    assert (low.tolist(), high.tolist()) == ([[[8]]], [[[10]]])


def test_many_rows_are_convolved_in_slices(monkeypatch):
    layer = Conv2d([[[[1, 2], [3, 4]]]], [0])
    rows = np.random.default_rng(0).integers(0, 9, (7, 1, 3, 3))
    whole = layer.sums(rows)
    monkeypatch.setattr(layers, "_PATCH_VALUES_AT_ONCE", 40)
    assert layer.sums(rows).tolist() == whole.tolist()


def test_convolution_operations():
    assert Conv2d(np.ones((4, 2, 3, 3)), np.zeros(4)).operations((2, 5, 6)) == 4 * 3 * 4 * 2 * 9


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stride": (0, 1)}, r"window \(2, 2\) and stride \(0, 1\) must be pairs of numbers of 1\.\.255"),
        ({"stride": (1, 256)}, "must be pairs"),
        ({"stride": (1,)}, "must be pairs"),
        ({"padding": (0, 0)}, r"padding \(0, 0\) is not"),
        ({"padding": (0, 0, 0, -1)}, "is not"),
        ({"padding": (2, 0, 0, 0)}, r"each below the kernel's sides \(2, 2\)"),
        ({"padding_value": 2**15}, "padding value 32768 lies beyond 32767"),
    ],
)
def test_convolution_options_that_are_refused(options, message):
    with pytest.raises(ModelError, match=message):
        Conv2d(np.ones((1, 1, 2, 2)), [0], **options)


@pytest.mark.parametrize("shape", [(4,), (2, 4, 4)])
def test_a_convolution_refuses_other_channels(shape):
    with pytest.raises(ModelError, match="a convolution over 1 channels has inputs of shape"):
        Conv2d(np.ones((1, 1, 2, 2)), [0]).output_shape(shape)


def test_a_kernel_larger_than_the_image_is_refused():
    with pytest.raises(ModelError, match=r"a window of \(2, 2\) does not fit into \(1, 5\) rows and columns"):
        Conv2d(np.ones((1, 1, 2, 2)), [0]).output_shape((1, 1, 5))


def test_a_convolution_that_needs_gigabytes_is_refused_by_its_shape():
    with pytest.raises(ModelError, match="the windows of a convolution cover 268435456 values, at most 16777216"):
        Conv2d(np.ones((1, 1, 128, 128)), [0]).output_shape((1, 255, 255))


# ---- pooling -------------------------------------------------------------------------------------------------------


def test_max_pool():
    assert MaxPool((2, 2), (1, 1)).forward(IMAGE).tolist() == [[[[4, 5], [7, 8]]]]
    assert MaxPool((2, 2), (2, 2)).forward(IMAGE).tolist() == [[[[4]]]]


def test_average_pool_rounds_halves_upwards():
    tensor = np.array([[[[0, 1], [2, 3]], [[0, 0], [0, 1]], [[0, 0], [1, 1]]]])
    assert AveragePool((2, 2), (2, 2)).forward(tensor).tolist() == [[[[2]], [[0]], [[1]]]]


def test_average_pool_of_an_odd_window_rounds_to_nearest():
    assert AveragePool((1, 3), (1, 1)).forward(np.array([[[[0, 1, 0]], [[1, 1, 0]]]])).tolist() == [[[[0]], [[1]]]]


def test_average_pool_refuses_negative_inputs():
    with pytest.raises(ModelError, match="its inputs reach -1"):
        AveragePool((1, 1), (1, 1)).output_range(np.array([[[-1]]]), np.array([[[4]]]))


def test_pooling_needs_a_tensor():
    with pytest.raises(ModelError, match=r"pooling needs inputs of shape \(channels, rows, columns\), not \(4,\)"):
        MaxPool((1, 1), (1, 1)).output_shape((4,))


@pytest.mark.parametrize("window", [(0, 1), (1, 256), (2,), (1, 1, 1)])
def test_windows_that_are_refused(window):
    for pool in (MaxPool, AveragePool):
        with pytest.raises(ModelError, match=r"must be pairs of numbers of 1\.\.255"):
            pool(window, (1, 1))


def test_pooling_operations():
    assert MaxPool((2, 2), (2, 2)).operations((3, 5, 4)) == 3 * 2 * 2 * 4
    assert AveragePool((2, 2), (1, 1)).operations((1, 2, 2)) == 4
