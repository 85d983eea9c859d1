"""Dense weights: which kind of code a core gets, its tables on tiny layers, and C equal to `Network`."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from mip2mcu.errors import ExportError
from mip2mcu.export import TARGETS, ExportOptions, generate
from mip2mcu.export.layouts.dense_dsp import pair_words
from mip2mcu.layers import Activation, Dense
from mip2mcu.verify.cores import core_for
from mip2mcu.verify.harness import Harness, build
from mip2mcu.verify.runners import RUNNERS
from mip2mcu.verify.toolchains import find_toolchain
from tests.conftest import require
from tests.layout_support import assert_exact, assert_exact_on_core, linear, network_of, random_network, tables

WEIGHTS = {"ternary": (-1, 1), "few bits": range(-7, 8), "int8": range(-127, 128)}
DSP_CORES = ("cortex-m4", "cortex-m7", "cortex-m33")


def layer_of(network, target, layout="dense", **options):
    program = generate(network, target, layout=layout, options=ExportOptions(**options)).program
    return program.layers[0]


# ---- dense ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "kind"),
    [
        ("cortex-m0", "dense_offset"),
        ("cortex-m3", "dense_together"),
        ("rv32imc", "dense_together"),
        ("rv32ec", "dense"),
        ("avr", "dense_offset"),
        ("generic", "dense"),
    ],
)
def test_each_core_gets_the_kind_of_code_that_it_runs_fastest(target, kind):
    network = linear([[1, -2, 3]] * 5)
    assert layer_of(network, target, "dense/fast").lowered.partial == kind
    assert layer_of(network, target, optimize="size").lowered.partial == "dense"


def test_weights_without_signs_are_128_larger():
    export = generate(linear([[1, -2], [-128, 127], [0, 5]], [3, 4, 5]), "cortex-m0", layout="dense/fast")
    assert tables(export) == {"weights": [129, 126, 0, 255, 128, 133], "bias": [3, 4, 5]}


@pytest.mark.parametrize(
    ("weights", "low", "high"),
    [([[1, 2]] * 4, 0, 255), ([[1, -129]] * 4, 0, 255), ([[1, -2]] * 4, -1, 1), ([[1, -2]] * 2, 0, 255)],
    ids=["no sign to leave out", "wider weights", "signed inputs", "too few units to sum the inputs for"],
)
def test_signs_stay_where_leaving_them_out_does_not_pay(weights, low, high):
    assert layer_of(linear(weights, low=low, high=high), "cortex-m0").lowered.partial == "dense"


def test_units_that_are_left_pass_together():
    code = generate(linear(np.ones((6, 9))), "cortex-m4", layout="dense").files["model.c"]
    assert code.count("do {") == 2
    assert code.count("value = (int32_t)x[0];") == 4  # in both loops, and behind them for the ninth input
    assert "for (j = 0U; j < 4U; j += 4U)" in code


@pytest.mark.parametrize("target", ["host", "cortex-m0", "cortex-m4", "generic"])
@pytest.mark.parametrize("values", [*WEIGHTS.values(), (-32767, -128, 1, 300)], ids=[*WEIGHTS.keys(), "int16"])
def test_dense_equals_network(values, target, tmp_path):
    networks = [random_network(seed, list(values)) for seed in range(6)]
    indexed = [one for one in networks if all(layer.weights.size < 2**16 for layer in one.layers)]
    assert len(indexed) > 3
    assert_exact(indexed, tmp_path, "dense", target)


@pytest.mark.parametrize("units", range(1, 10))
def test_every_number_of_units_and_inputs_equals_network(units, tmp_path):
    rng = np.random.default_rng(units)
    networks = [linear(rng.integers(-128, 128, (units, inputs)), rng.integers(-9, 9, units)) for inputs in range(1, 18)]
    for target in ("cortex-m0", "cortex-m4"):
        assert_exact(networks, tmp_path, "dense", target)


def test_sums_modulo_2_to_the_32_are_exact_at_the_ends(tmp_path):
    rows = [[127] * 65535, [126] * 65535, [-128] + [127] * 65534]
    assert_exact([linear(rows)], tmp_path, "dense", "cortex-m0")


@pytest.mark.parametrize("target", ["cortex-m0", "cortex-m4", "rv32imc", "avr"])
@pytest.mark.parametrize("limit", [1, 127])
def test_dense_on_cores_equals_network(limit, target, tmp_path):
    rng = np.random.default_rng(3)
    hidden = Dense(rng.integers(-limit, limit + 1, (9, 50)), rng.integers(-99, 99, 9), Activation.SIGN)
    network = network_of(hidden, Dense(rng.integers(-limit, limit + 1, (5, 9)), rng.integers(-9, 9, 5)))
    assert_exact_on_core(network, tmp_path, "dense", target)


# ---- dense_dsp -----------------------------------------------------------------------------------------------------


def test_two_units_share_a_half_word_and_every_other_input_a_word():
    assert [hex(word) for word in pair_words(np.array([[1, 2, 3, 4], [5, 6, 7, -8]]))[0]] == ["0x7030501", "0xf8040602"]
    assert [hex(word) for word in pair_words(np.array([[-1, 2], [0, 0]]))[0]] == ["0xffff", "0x2"]


@pytest.mark.parametrize(
    ("network", "target", "reason"),
    [
        (linear([[1, 2, 3, 4]]), "cortex-m3", "needs a core with DSP instructions"),
        (linear([[1, 2, 3]]), "cortex-m4", "layers of at least 4 inputs, this one has 3"),
        (linear([[1, 2, 3, -128]]), "cortex-m4", "weights from -127 to 127, these reach a magnitude of 128"),
        (linear([[1, 2, 3, 4]], high=256), "cortex-m4", "inputs of 8 bits, these lie in 0..256"),
    ],
)
def test_dsp_refuses_with_the_numbers(network, target, reason):
    with pytest.raises(ExportError, match=reason):
        generate(network, target, layout="dense_dsp")


def test_difference_is_taken_once_as_long_as_it_fits_24_bits():
    fits = layer_of(linear(np.full((2, 256), 127)), "cortex-m4", "dense_dsp/fast").details
    assert (fits.rounds, fits.turns, fits.rest, fits.tail) == (1, 16, 0, 0)
    exceeds = layer_of(linear(np.full((2, 263), 127)), "cortex-m4", "dense_dsp/fast").details
    assert (exceeds.rounds, exceeds.turns, exceeds.rest, exceeds.tail) == (2, 8, 1, 3)


@settings(max_examples=20, deadline=None)
@given(inputs=st.integers(4, 65535))
def test_no_share_of_the_inputs_exceeds_24_bits(inputs):
    details = layer_of(linear(np.full((2, inputs), 127)), "cortex-m4", "dense_dsp").details
    share = 4 * details.steps * details.turns
    behind = 4 * details.rest + details.tail
    assert details.rounds * share + behind == inputs
    assert max(share, behind) * 127 * 255 < 2**23 or (details.rounds == 1 and inputs * 127 * 255 < 2**23)


@pytest.mark.parametrize("values", WEIGHTS.values(), ids=WEIGHTS.keys())
@settings(max_examples=2, deadline=None, phases=[Phase.generate])  # each example is a compilation
@given(seeds=st.lists(st.integers(0, 2**32 - 1), min_size=12, max_size=12, unique=True))
def test_dsp_in_plain_c_equals_network(values, seeds, tmp_path_factory):
    networks = [random_network(seed, list(values)) for seed in seeds]
    taken = [one for one in networks if one.input_low.min() >= -128 and one.input_high.max() <= 255]
    taken = [one for one in taken if all(layer.weights.shape[1] > 3 for layer in one.layers)]
    assert_exact(taken, tmp_path_factory.mktemp("dsp"), "dense_dsp", "cortex-m4")


EDGES = {
    "four inputs": linear([[-127, 1, 5, 9], [3, 4, 5, 6], [127, 0, -1, 0]], [1, 2, 4], low=-128, high=127),
    "seven inputs": linear([[-127, 1, 5, 9, 8, 0, 127]], [4]),
    "odd units": linear(np.arange(-63, 64)[None] * [[1], [-1], [2]], [1, 2, 3]),
    "signed inputs": linear(np.arange(-60, 61).reshape(11, 11), low=-128, high=127),
    "several rounds": linear(np.where(np.arange(3001) % 3, 127, -127) * np.array([[1], [-1], [1], [-1]])),
    "largest sums": linear(np.full((2, 65535), 127) - [[0], [1]]),
}


@pytest.mark.parametrize("network", EDGES.values(), ids=EDGES.keys())
def test_dsp_edges_in_plain_c_are_exact(network, tmp_path):
    assert_exact([network], tmp_path, "dense_dsp", "cortex-m4")


@pytest.mark.parametrize("name", EDGES)
def test_dsp_edges_on_a_core_are_exact(name, tmp_path):
    assert_exact_on_core(EDGES[name], tmp_path, "dense_dsp", "cortex-m4")


@pytest.mark.parametrize("target", DSP_CORES)
def test_dsp_on_cores_equals_network(target, tmp_path):
    rng = np.random.default_rng(3)
    hidden = Dense(rng.integers(-127, 128, (33, 101)), rng.integers(-99, 99, 33), Activation.SIGN)
    network = network_of(hidden, Dense(rng.integers(-127, 128, (5, 33)), rng.integers(-9, 9, 5)))
    assert_exact_on_core(network, tmp_path, "dense_dsp", target)


# ---- speed ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layout", "target", "most"),
    [
        ("dense", "cortex-m0", 5.0),
        ("dense", "cortex-m3", 2.6),
        ("dense", "rv32imc", 3.5),
        ("dense_dsp", "cortex-m4", 1.55),
        ("dense_dsp", "cortex-m33", 1.55),
    ],
)
def test_instructions_a_product(layout, target, most, tmp_path):
    row = TARGETS[target]
    core, runner = core_for(row), RUNNERS["unicorn"]
    require(runner.is_installed(core), "unicorn is not installed")
    toolchain = find_toolchain(row)
    require("gcc" in toolchain.name, f"instructions for {target} are those of GCC, which is not installed")
    network = linear(np.random.default_rng(1).integers(-127, 128, (16, 784)))
    files = generate(network, row, "model", layout=layout).files
    program = build(files, tmp_path, network=network, name="model", target=row, core=core, toolchain=toolchain)
    rows = np.random.default_rng(0).integers(0, 256, (1, 784))
    request = Harness(program, runner).infer_request(rows)
    counts = runner.count(program.elf, core, request, ("model_sums",))
    assert counts["model_sums"].maximum <= most * 784 * 16
