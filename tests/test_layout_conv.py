"""Convolutions and pools behind them: generated C equals `Network` on random small CNNs; the decisions behind it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from mip2mcu.decisions import Argmax
from mip2mcu.errors import ExportError
from mip2mcu.export import TARGETS, ExportOptions, generate
from mip2mcu.export.layouts.conv import Tiles, choose_tiles, in_fours, pairs_of
from mip2mcu.export.program import planning
from mip2mcu.layers import Activation, AveragePool, Conv2d, Dense, MaxPool
from mip2mcu.network import Network
from tests.cnns import lenet, pen, random_cnn
from tests.export_support import assert_equal_to_network, compile_host, random_rows
from tests.layout_support import CORES, assert_defined, assert_exact_on_core

GOLDEN = Path(__file__).parent / "golden" / "c"
M0, M4 = TARGETS["cortex-m0"], TARGETS["cortex-m4"]


def check(networks, folder, target, static=False):
    exports = [generate(network, target, f"net{k}", static_scratch=static) for k, network in enumerate(networks)]
    for network, compiled in zip(networks, compile_host(exports, folder), strict=True):
        assert_equal_to_network(compiled, network, random_rows(network, 12, np.random.default_rng(0)))


def convolution(network, target="cortex-m4"):
    """The first layer's numbers."""
    return generate(network, target, layout="0=conv").program.layers[0].details


def single(layer, shape, high=255, pool=None):
    """``layer`` over inputs of 0..``high``, an optional pool, and a sum of everything."""
    layers = [layer] if pool is None else [layer, pool]
    tensor = shape
    for entry in layers:
        tensor = entry.output_shape(tensor)
    size, elements = int(np.prod(tensor)), int(np.prod(shape))
    last = Dense(np.ones((2, size)), [0, 1])
    return Network(np.zeros(elements), np.full(elements, high), (*layers, last), Argmax(2), ("a", "b"), shape)


# ---- exactness -----------------------------------------------------------------------------------------------------


@settings(max_examples=10, deadline=None, phases=[Phase.generate])  # each example is a compilation
@given(seeds=st.lists(st.integers(0, 2**32 - 1), min_size=6, max_size=6, unique=True))
def test_c_equals_network_on_random_cnns(seeds, tmp_path_factory):
    check([random_cnn(seed) for seed in seeds], tmp_path_factory.mktemp("cnn"), "cortex-m4")


@pytest.mark.parametrize("target", ["cortex-m0", "generic", "rv32imc"])
def test_c_for_other_targets_is_exact_on_the_host_too(target, tmp_path):
    check([random_cnn(seed) for seed in range(12)], tmp_path, target)


def test_static_scratch_is_exact(tmp_path):
    check([random_cnn(seed) for seed in range(20, 26)], tmp_path, "cortex-m4", static=True)


@pytest.mark.parametrize("pool", [MaxPool, AveragePool])
def test_lenet_is_exact(pool, tmp_path):
    check([lenet(pool)], tmp_path, "cortex-m4")


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("target", CORES)
def test_cnns_are_exact_on_emulated_cores(target, seed, tmp_path):
    assert_exact_on_core(random_cnn(seed), tmp_path, None, target)


@pytest.mark.parametrize("target", CORES)
def test_lenet_is_exact_on_emulated_cores(target, tmp_path):
    assert_exact_on_core(lenet(), tmp_path, None, target)


# ---- two columns at a time -----------------------------------------------------------------------------------------


def in_pairs(network, kind="fast"):
    """The names of layouts that take ``conv_dsp`` for every convolution that it accepts; None where there is none."""
    allowed = planning(network, M4, ExportOptions())
    every = zip(allowed.tasks, allowed.surveyed, strict=True)
    taken = [task.context.index for task, found in every if any(c.lowered and c.layout == "conv_dsp" for c in found)]
    return ",".join(f"{index}=conv_dsp/{kind}" for index in taken) or None


@pytest.mark.parametrize("kind", ["fast", "compact"])
def test_two_columns_at_a_time_are_exact_on_random_cnns(kind, tmp_path):
    networks = [random_cnn(seed) for seed in range(40, 58)]
    networks = [network for network in networks if in_pairs(network)]
    assert len(networks) >= 6
    exports = [
        generate(network, "cortex-m4", f"net{k}", layout=in_pairs(network, kind)) for k, network in enumerate(networks)
    ]
    for network, compiled in zip(networks, compile_host(exports, tmp_path), strict=True):
        assert_equal_to_network(compiled, network, random_rows(network, 12, np.random.default_rng(0)))


@pytest.mark.parametrize("network", [lenet(), random_cnn(41), random_cnn(46)], ids=["lenet", "41", "46"])
def test_two_columns_at_a_time_are_exact_on_an_emulated_core(network, tmp_path):
    assert_exact_on_core(network, tmp_path, in_pairs(network), "cortex-m4")


@pytest.mark.parametrize("columns", range(2, 9))
def test_kernels_of_every_width_go_in_pairs(columns, tmp_path):
    rng = np.random.default_rng(columns)
    networks = []
    for stride, pool in ((1, None), (2, None), (3, MaxPool((1, 2), (1, 2)))):
        weights = rng.choice([-128, 127, 3], (2, 2, 2, columns))
        layer = Conv2d(weights, [1, -2], (1, stride), (1, columns - 1, 0, 1), -32767, Activation.SIGN)
        networks.append(single(layer, (2, 5, 13), pool=pool))
    exports = [generate(network, "cortex-m4", f"net{k}", layout="0=conv_dsp") for k, network in enumerate(networks)]
    for network, compiled in zip(networks, compile_host(exports, tmp_path), strict=True):
        assert_equal_to_network(compiled, network, random_rows(network, 8, np.random.default_rng(0)))


def test_columns_1_and_2_of_each_four_change_places():
    assert in_fours(np.arange(11)).tolist() == [0, 2, 1, 3, 4, 6, 5, 7, 8, 9, 10]


def test_a_load_of_two_inputs_serves_every_sum_that_they_belong_to():
    assert pairs_of(3, 1, 2).steps == ((0, ((0, 0),)), (1, ((1, 0),)), (2, ((0, 1),)), (3, ((1, 1),)))
    assert pairs_of(4, 2, 2).steps == ((0, ((0, 0),)), (2, ((0, 1), (1, 0))), (4, ((1, 1),)))


def test_no_load_leaves_the_band():
    for network in (random_cnn(seed) for seed in range(40, 52)):
        for layer in generate(network, "cortex-m4", layout=in_pairs(network)).program.layers:
            if layer.lowered.layout == "conv_dsp":
                conv = layer.details
                rows = conv.row_stride * (conv.band.serves - 1) + (conv.cell.rows - 1) * conv.stride[0]
                row = (conv.image[0] - 1) * conv.channel_step + (rows + conv.kernel[0] - 1) * conv.row_step
                furthest = row + conv.tiles.last * conv.stride[1] + conv.pairs.steps[-1][0] + 1
                assert furthest < layer.lowered.work[0].length


def test_no_step_of_it_is_undefined(tmp_path):
    assert_defined([random_cnn(46)], tmp_path, in_pairs(random_cnn(46)), "cortex-m4")


@pytest.mark.parametrize(
    ("weights", "target", "reason"),
    [
        (np.full((1, 1, 1, 3), 200), "cortex-m4", "takes weights of 8 bits, these lie in 200..200"),
        (np.ones((1, 1, 1, 9), dtype=int), "cortex-m4", "takes kernels of 2 to 8 columns, these have 9"),
        (np.ones((1, 1, 1, 3), dtype=int), "cortex-m3", "needs a core with DSP instructions"),
    ],
)
def test_what_does_not_go_in_pairs_is_refused_with_the_reason(weights, target, reason):
    with pytest.raises(ExportError, match=rf"conv_dsp {reason}; it can be conv$"):
        generate(single(Conv2d(weights, [0], activation=Activation.SIGN), (1, 4, 12)), target, layout="0=conv_dsp")


def test_golden_c_of_a_small_cnn(update_golden, tmp_path):
    export = generate(pen(), "cortex-m4", "pen", layout="dense")
    for file_name in ("pen.h", "pen.c"):
        if update_golden:
            (GOLDEN / file_name).write_text(export.files[file_name], encoding="utf-8", newline="\n")
        assert export.files[file_name] == (GOLDEN / file_name).read_text(encoding="utf-8"), file_name
    check([pen()], tmp_path, "cortex-m4")


# ---- decisions -----------------------------------------------------------------------------------------------------


def test_tiles_fit_the_registers_and_divide_the_row_where_that_is_cheapest():
    assert choose_tiles(10, 5, 1, M4) == Tiles(5, 2, 5)
    assert choose_tiles(28, 5, 1, M4) == Tiles(4, 7, 24)
    assert choose_tiles(28, 5, 1, M0) == Tiles(2, 14, 26)
    assert choose_tiles(1, 5, 1, M4) == Tiles(1, 1, 0)


def test_the_last_tile_begins_within_the_one_before_it_where_the_row_does_not_divide():
    assert choose_tiles(11, 3, 1, M4) == Tiles(4, 3, 7)
    assert choose_tiles(11, 3, 1, M4).repeated == 1


def test_pairs_are_signed_bytes_though_no_weight_has_a_sign():
    network = single(Conv2d(np.ones((1, 2, 3, 3)), [0]), (2, 5, 6))
    details = generate(network, "cortex-m4", layout="0=conv_dsp").program.layers[0].details
    assert details.weights.c_type == "int8_t"


def test_without_padding_windows_are_read_in_place():
    details = convolution(single(Conv2d(np.ones((1, 2, 3, 3)), [0]), (2, 5, 6)))
    assert (details.source, details.row_step, details.channel_step) == ("input", 6, 30)


def test_padding_takes_a_band_of_rows_not_a_padded_image():
    layer = Conv2d(np.ones((8, 2, 3, 3)), np.zeros(8), padding=(1, 1, 1, 1))
    program = generate(single(layer, (2, 20, 20)), "cortex-m4", layout="0=conv").program
    band = program.layers[0].details.band
    assert (band.rows, band.columns, band.serves) == (4, 22, 2)
    assert program.layers[0].lowered.work[0].length == 2 * 4 * 22


def test_a_band_holds_its_padding_value_beyond_the_range_of_the_inputs():
    layer = Conv2d(np.ones((1, 1, 2, 2)), [0], padding=(1, 0, 0, 0), padding_value=-3)
    assert convolution(single(layer, (1, 4, 4), high=100)).source_type == "int8_t"
    assert convolution(single(layer, (1, 4, 4))).source_type == "int16_t"


def test_a_convolution_with_kernels_of_one_is_one_long_row():
    details = convolution(single(Conv2d(np.ones((3, 2, 1, 1)), np.zeros(3)), (2, 4, 6)))
    assert (details.image, details.output) == ((2, 1, 24), (3, 1, 24))


def test_a_pool_that_touches_joins_its_convolution():
    layer = Conv2d(np.ones((1, 1, 3, 3)), [0], activation=Activation.SIGN)
    for pool, partials in (
        (MaxPool((2, 2), (2, 2)), ["conv"]),
        (MaxPool((2, 2), (1, 1)), ["conv", "max_pool"]),
    ):
        program = generate(single(layer, (1, 8, 8), pool=pool), layout="dense").program
        assert [entry.lowered.partial for entry in program.layers] == [*partials, "dense"]


def test_signs_of_a_joined_pool_are_bits_where_the_next_layer_counts_them():
    layer = Conv2d(np.ones((4, 1, 3, 3)), np.zeros(4), activation=Activation.SIGN)
    network = single(layer, (1, 8, 8), pool=MaxPool((2, 2), (2, 2)))
    assert generate(network, layout="bit_planes").program.layers[0].output.encoding.value == "bits"


def test_weights_beyond_int8_are_int16():
    assert convolution(single(Conv2d([[[[300, -1]]]], [0]), (1, 2, 4), high=9)).weights.c_type == "int16_t"


def test_a_sum_of_a_convolution_beyond_int32_is_refused():
    layer = Conv2d(np.full((1, 8, 9, 9), 32767), [0], activation=Activation.SIGN)
    with pytest.raises(ExportError, match=r"partial sum of layer 0 can reach 0\.\.5414419080, beyond int32_t"):
        generate(single(layer, (8, 9, 9)))


def test_partial_sums_count_what_each_weight_meets_padding_included():
    layer = Conv2d([[[[1, 10]]]], [5], padding=(0, 1, 0, 0), padding_value=7)
    network = single(layer, (1, 1, 2), high=3)
    lowered = generate(network, "cortex-m4").program.layers[0].lowered
    assert (lowered.sum_low, lowered.sum_high) == (5, 5 + 7 + 30)


def test_the_same_cnn_gives_the_same_bytes():
    assert dict(generate(pen()).files) == dict(generate(replace(pen())).files)
