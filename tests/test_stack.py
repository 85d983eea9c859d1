"""The stack of generated C: known when it is compiled, and no more than what lives at the same time."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from mip2mcu.decisions import Vote
from mip2mcu.export import generate
from mip2mcu.layers import Dense
from mip2mcu.network import Network
from mip2mcu.quantizer import Feature, Quantizer, Thermometer
from mip2mcu.verify.footprint import measure
from mip2mcu.verify.stack import worst_stack
from tests.cnns import lenet, pen
from tests.conftest import require
from tests.export_support import compile_quietly, random_network, write

CORES = ("cortex-m0", "cortex-m4", "rv32imc", "rv32ec", "avr")


def compiled(export, folder):
    """The object file, with what the compiler says about the stack beside it."""
    target = export.target
    require(shutil.which(target.compiler), f"{target.compiler} is not installed")
    (source,) = write([export], folder)
    flags = ("-O2", "-ffreestanding", "-ffunction-sections", "-fdata-sections", "-fstack-usage", "-c")
    output = folder / f"{export.name}.o"
    compile_quietly([target.compiler, "-std=c99", *target.gcc_flags], [source], *flags, "-o", str(output))
    return output


def pairs(classes: int = 10) -> Network:
    """A vote of every pair of ``classes`` behind 64 raw features of 6 bits each."""
    rng = np.random.default_rng(1)
    thermometer = Thermometer(0, 16, (1, 3, 5, 8, 11, 14))
    quantizer = Quantizer(tuple(Feature(f"f{i}", thermometer, 0, 0, "int16_t") for i in range(64)))
    rule = Vote(classes, 2)
    weights = rng.integers(-3, 4, (rule.sums_expected(), quantizer.width)) * (rng.random(quantizer.width) < 0.3)
    names = tuple(f"c{c}" for c in range(classes))
    low, layer = np.zeros(quantizer.width), Dense(weights, np.zeros(len(weights)))
    return Network(low, quantizer.input_high, (layer,), rule, names, quantizer=quantizer)


@pytest.mark.parametrize("target", CORES)
def test_the_selftest_takes_little_more_than_its_inputs_and_what_it_calls(target, tmp_path):
    export = generate(pairs(), target, "model", layout="grouped_index8")
    names = ["model_selftest", "model_predict", "model_scores", "model_quantize"]
    stack = worst_stack(compiled(export, tmp_path), names)
    held, scores = export.program.input.length, 4 * export.program.decision.scores
    below = max(stack["model_predict"], stack["model_scores"] + scores)
    assert stack["model_predict"] < stack["model_selftest"] <= held + below + 110


@pytest.mark.parametrize("target", CORES)
def test_every_function_has_a_stack_of_constant_size(target, tmp_path):
    for k, network in enumerate((pen(), random_network(1), random_network(4))):
        usage = compiled(generate(network, target, f"net{k}"), tmp_path).with_suffix(".su").read_text()
        assert usage
        assert {line.split("\t")[2] for line in usage.splitlines()} == {"static"}


@pytest.mark.parametrize("target", CORES[:4])
def test_inner_tensors_on_the_stack_take_256_bytes_at_most(target, tmp_path):
    stack = worst_stack(compiled(generate(lenet(), target, "lenet"), tmp_path), ["lenet_predict"])
    assert stack["lenet_predict"] < 256 + 4 * 10 + 200


@pytest.mark.parametrize("target", CORES)
def test_static_memory_is_the_inputs_and_the_tensors_and_without_it_there_is_none(target, tmp_path):
    network = pen()
    for static in (False, True):
        program = generate(network, target, "model", static_scratch=static).program
        footprint = measure(compiled(generate(network, target, "model", static_scratch=static), tmp_path))
        inputs = program.input.length  # bytes
        expected = -(-inputs // 4) * 4 + program.scratch.bytes if static else 0
        assert footprint.data == 0
        assert footprint.bss == expected
