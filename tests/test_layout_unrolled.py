"""Straight-line code: the order of its steps on tiny layers, the base within reach, limits; C equals `Network`."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from mip2mcu.errors import ExportError
from mip2mcu.export import TARGETS, ExportOptions, generate
from mip2mcu.export.layouts import straight_line
from mip2mcu.export.layouts.straight_line import Fold, Read, by_input, by_magnitude, cut, level_spans
from mip2mcu.layers import Activation, Dense
from mip2mcu.verify.cores import core_for
from mip2mcu.verify.footprint import measure
from mip2mcu.verify.harness import Harness, build
from mip2mcu.verify.runners import RUNNERS
from mip2mcu.verify.toolchains import find_toolchain
from tests.conftest import require
from tests.layout_support import CORES, assert_exact, assert_exact_on_core, linear, network_of, random_network

AVR_ON_THE_HOST = replace(TARGETS["avr"], has_progmem=False, header=None)
"""What is arranged for AVR, in C that any compiler takes."""
WEIGHTS = {"ternary": (-1, 1), "few bits": range(-7, 8), "int8": range(-127, 128), "int16": (-32767, -300, 1, 2, 5, 64)}


def steps_of(block) -> list[str]:
    """A block's steps, one text each."""
    return [
        " ".join(f"{add.total}{add.sign}x{step.index}" for add in step.adds)
        if isinstance(step, Read)
        else f"{step.total}+{step.times}*{step.run}"
        for step in block.steps
    ]


def c_of(network, target="cortex-m0", **options) -> str:
    """The generated code of the first layer."""
    text = generate(network, target, layout="unrolled", options=ExportOptions(**options)).files["model.c"]
    return text[text.index("/* Layer 0") : text.index("int model_sums")]


# ---- order of the steps --------------------------------------------------------------------------------------------


def test_an_input_is_read_once_for_all_units_side_by_side():
    assert (
        """
    value = (int32_t)input[0];
    sum0 += value;
    SETTLE(sum0);
    sum1 -= value;
    SETTLE(sum1);
    value = (int32_t)input[2];
    sum1 += value;
    SETTLE(sum1);
"""
        in c_of(linear([[1, 0, 0], [-1, 0, 1]]))
    )


def test_magnitudes_fall_and_inputs_run_up_and_down_in_turn():
    block = by_magnitude(np.array([1, -3, 0, 1, 3, -1]), 10, 0, "int32_t", "int32_t")
    assert steps_of(block) == ["run-x1", "run+x4", "sum+2*run", "run-x5", "run+x3", "run+x0", "sum+1*run"]
    assert [(one.name, one.start) for one in block.variables] == [("sum", "10"), ("run", "0")]


def test_a_run_for_each_magnitude_passes_the_inputs_once():
    block = by_input(np.array([1, -3, 0, 1, 3]), 10, 0, "int32_t", "int32_t")
    expected = ["run1+x0", "run3-x1", "run1+x3", "run3+x4", "sum+2*run3", "run1+1*run3", "sum+1*run1"]
    assert steps_of(block) == expected


def test_magnitudes_stay_in_registers_where_a_core_multiplies_and_adds_at_once():
    network = linear([[3, 5, -5, 2]] * 8)
    code = c_of(network, "cortex-m4")
    assert "int32_t times5 = 5;\n" in code
    assert "sum0 -= value * times5;" in code
    assert "sum0 += signed_word((uint32_t)value << 1);" in code
    assert "times5" not in c_of(network, "cortex-m0")


def test_negative_values_are_not_shifted():
    assert "sum0 += value * 2;" in c_of(linear([[2, 3]] * 8, low=-5, high=5), "cortex-m4")


def test_a_byte_on_avr_is_widened_at_each_use():
    assert (
        """
    value = input[0];
    sum0 = (int16_t)(sum0 + (int16_t)value);
    SETTLE(sum0);
    SETTLE(value);
    sum1 = (int16_t)(sum1 - (int16_t)value);
    SETTLE(sum1);
"""
        in c_of(linear([[1] * 30, [-1] * 30]), "avr")
    )


# ---- the base and the parts ----------------------------------------------------------------------------------------


def places(part) -> list[tuple[int, int]]:
    return [(step.move, step.offset) for step in part.steps if isinstance(step, Read)]


def test_base_moves_only_where_a_load_does_not_reach():
    row = np.zeros(100, dtype=int)
    row[[3, 31, 32, 63, 99]] = 1
    (part,) = cut([by_magnitude(row, 0, 0, "int32_t", "int32_t")], "layer0", 32)
    assert places(part) == [(0, 3), (0, 31), (32, 0), (0, 31), (67, 0)]


def test_base_goes_down_to_where_most_of_the_rest_is_in_reach():
    row = np.zeros(100, dtype=int)
    row[[90, 99]] = 2
    row[[5, 40, 71]] = 1
    (part,) = cut([by_magnitude(row, 0, 0, "int32_t", "int32_t")], "layer0", 32)
    assert places(part) == [(90, 0), (0, 9), (-50, 31), (0, 0), (-40, 5)]


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), reach=st.sampled_from([1, 7, 32, 64, 4096]))
def test_base_and_offset_find_every_input_and_stay_within_it(seed, reach):
    rng = np.random.default_rng(seed)
    row = np.where(rng.random(300) < 0.1, rng.integers(-3, 4, 300), 0)
    for part in cut([by_magnitude(row, 0, 0, "int32_t", "int32_t")], "layer0", reach):
        base = 0
        for step in part.steps:
            if isinstance(step, Fold):
                continue
            base += step.move
            assert 0 <= base <= 299
            assert 0 <= step.offset < reach
            assert base + step.offset == step.index


def test_long_units_are_cut_into_functions(monkeypatch):
    monkeypatch.setattr(straight_line, "PART_STEPS", 4)
    parts = cut([by_magnitude(np.ones(9, dtype=int), 0, 0, "int32_t", "int32_t")], "layer2", 32)
    assert [part.function for part in parts] == ["layer2_part0", "layer2_part1", "layer2_part2"]
    assert [len(part.steps) for part in parts] == [4, 4, 2]
    assert [(part.begins, part.ends) for part in parts] == [(True, False), (False, False), (False, True)]


# ---- ranges and limits ---------------------------------------------------------------------------------------------


def test_spans_of_sum_and_run_follow_the_levels():
    row, low, high = np.array([2, -1]), np.array([0, 0]), np.array([10, 10])
    assert level_spans(row, 5, low, high) == ((-10, 25), (-10, 10))


def test_run_of_16_bits_beside_a_sum_of_32():
    layer = generate(linear([[7] * 60 + [5]]), AVR_ON_THE_HOST, layout="unrolled").program.layers[0]
    types = layer.details.parts[0].types
    assert (types["sum"], types["run"]) == ("int32_t", "int16_t")


def test_runs_beside_wider_sums_start_so_high_that_they_never_fall_below_0():
    layer = generate(linear([[7] * 60 + [-5, -1]], [9]), AVR_ON_THE_HOST, layout="unrolled").program.layers[0]
    variables = {one.name: (one.c_type, one.start) for one in layer.details.parts[0].block.variables}
    assert variables == {"run": ("uint16_t", str(2 * 255)), "sum": ("int32_t", f"({9 - 7 * 2 * 255})")}
    assert layer.lowered.sum_low == 9 - 7 * 2 * 255


def test_overflow_is_refused_with_the_range():
    with pytest.raises(ExportError, match=r"layer 0 can reach -255\.\.2147483902, beyond int32_t"):
        generate(linear([[1, -1]], [2**31 - 1]), layout="unrolled")


def test_code_over_the_limit_is_refused_with_its_size():
    network = linear(np.ones((4, 100)))
    with pytest.raises(ExportError, match=r"at most 1000 bytes of code \(--max-unroll-bytes\), this one needs"):
        generate(network, layout="unrolled", options=ExportOptions(max_unroll_bytes=1000))
    assert generate(network, layout="unrolled", options=ExportOptions(max_unroll_bytes=4000))


def test_large_layers_are_left_to_other_layouts():
    program = generate(linear(np.ones((40, 2000))), "cortex-m4").program
    assert program.layers[0].lowered.layout != "unrolled"


# ---- size and speed ------------------------------------------------------------------------------------------------


def sparse_layer(limit: int):
    """784 inputs, 16 units, one weight in ten is not zero; the magnitudes reach ``limit``."""
    rng = np.random.default_rng(1)
    weights = np.where(rng.random((16, 784)) < 0.1, rng.integers(1, limit + 1, (16, 784)), 0)
    return linear(weights * rng.choice([-1, 1], weights.shape), rng.integers(-99, 100, 16))


@pytest.mark.parametrize(
    ("target", "limit", "most"),
    [("cortex-m0", 1, 2.3), ("cortex-m4", 1, 2.1), ("rv32imc", 1, 2.0), ("cortex-m0", 7, 3.2), ("cortex-m4", 7, 2.3)],
)
def test_instructions_a_weight(target, limit, most, tmp_path):
    row = TARGETS[target]
    core, runner = core_for(row), RUNNERS["unicorn"]
    require(runner.is_installed(core), "unicorn is not installed")
    toolchain = find_toolchain(row)
    require("gcc" in toolchain.name, f"instructions for {target} are fitted to GCC, which is not installed")
    network = sparse_layer(limit)
    export = generate(network, row, "model", layout="unrolled")
    files = dict(export.files)
    program = build(files, tmp_path, network=network, name="model", target=row, core=core, toolchain=toolchain)
    harness = Harness(program, runner)
    rows = np.random.default_rng(0).integers(0, 256, (1, 784))
    counts = runner.count(program.elf, core, harness.infer_request(rows), ("model_sums",))
    weights = np.count_nonzero(network.layers[0].weights)
    assert counts["model_sums"].maximum <= most * weights
    effort = export.program.layers[0].details.effort
    assert counts["model_sums"].maximum == pytest.approx(effort.instructions, rel=0.1)
    footprint = measure(program.model_object, ["model_sums"])
    assert footprint.code == pytest.approx(effort.code_bytes, rel=0.15)


# ---- exactness -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("values", WEIGHTS.values(), ids=WEIGHTS.keys())
@settings(max_examples=2, deadline=None, phases=[Phase.generate])  # each example is a compilation
@given(seeds=st.lists(st.integers(0, 2**32 - 1), min_size=6, max_size=6, unique=True))
def test_c_equals_network(values, seeds, tmp_path_factory):
    networks = [random_network(seed, list(values)) for seed in seeds]
    assert_exact(small(networks), tmp_path_factory.mktemp("unrolled"), "unrolled")


def small(networks):
    """Those whose weights need no limit beyond the usual."""
    return [one for one in networks if all(np.count_nonzero(layer.weights) < 3000 for layer in one.layers)]


@pytest.mark.parametrize(
    "target", ["cortex-m0", "cortex-m4", "generic", AVR_ON_THE_HOST], ids=["m0", "m4", "generic", "avr"]
)
@pytest.mark.parametrize("values", WEIGHTS.values(), ids=WEIGHTS.keys())
def test_what_is_arranged_for_other_cores_equals_network_too(values, target, tmp_path):
    assert_exact(small([random_network(seed, list(values)) for seed in range(6)]), tmp_path, "unrolled", target)


@pytest.mark.parametrize("steps", [1, 7, 50])
def test_cut_code_equals_network(steps, tmp_path, monkeypatch):
    monkeypatch.setattr(straight_line, "PART_STEPS", steps)
    rng = np.random.default_rng(steps)
    networks = [linear(rng.integers(-limit, limit + 1, (3, 40)), rng.integers(-99, 99, 3)) for limit in (1, 7, 300)]
    for target in ("cortex-m0", AVR_ON_THE_HOST):
        assert_exact(networks, tmp_path, "unrolled", target)


def test_extremes_are_exact(tmp_path):
    wide = np.zeros((3, 65535), dtype=int)
    wide[0, [0, 65534]] = 1
    wide[1, ::1000] = -1
    networks = [
        linear(np.zeros((2, 7))),
        linear([[1]]),
        linear([[-1], [0]], [5, -5]),
        linear(wide, high=9),
        linear([[32767, -32767], [16384, 0]], high=9),
        network_of(Dense(np.zeros((40, 3)), np.arange(-20, 20), Activation.SIGN), Dense(np.eye(3, 40), np.zeros(3))),
    ]
    for target in ("host", "cortex-m0", AVR_ON_THE_HOST):
        assert_exact(networks if target != AVR_ON_THE_HOST else networks[:3], tmp_path, "unrolled", target)


@pytest.mark.parametrize("limit", [1, 7, 127])
@pytest.mark.parametrize("target", CORES)
def test_cores_equal_network(limit, target, tmp_path):
    rng = np.random.default_rng(3)
    weights = rng.integers(-limit, limit + 1, (33, 100)) * (rng.random((33, 100)) < 0.3)
    hidden = Dense(weights, rng.integers(-99, 99, 33), Activation.SIGN)
    network = network_of(hidden, Dense(rng.integers(-1, 2, (4, 33)), rng.integers(-9, 9, 4)))
    assert_exact_on_core(network, tmp_path, "unrolled", target)
