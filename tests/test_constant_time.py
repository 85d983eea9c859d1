"""Layouts that run the same steps whatever the inputs are: what the exporter says of them holds on the cores."""

from contextlib import suppress

import numpy as np
import pytest

from mip2mcu.decisions import Argmax
from mip2mcu.errors import ExportError
from mip2mcu.export import TARGETS, generate
from mip2mcu.export.layouts import FIXED_STEPS, LAYOUTS
from mip2mcu.layers import Activation, Dense
from mip2mcu.network import Network
from mip2mcu.verify.cores import core_for
from mip2mcu.verify.harness import Harness, build
from mip2mcu.verify.runners import counting_runner, find_runner
from mip2mcu.verify.toolchains import find_toolchain
from tests.conftest import require
from tests.verify_support import require_compiler

RNG = np.random.default_rng(12)


def network_of(layers, high):
    inputs = layers[0].weights.shape[1]
    return Network(np.zeros(inputs), np.full(inputs, high), layers, Argmax(3), tuple("abc"))


def signs(inputs, units):
    return Dense(RNG.integers(-1, 2, (units, inputs)), RNG.integers(-9, 10, units), Activation.SIGN)


LAST = Dense(RNG.integers(-1, 2, (3, 70)), [3, -1, 0])
NETWORKS = {"values": network_of((LAST,), 255), "bits": network_of((LAST,), 1)}
HIDDEN = network_of((signs(70, 40), Dense(RNG.choice([-1, 1], (3, 40)), [0, 1, 0])), 1)


def rows_of(network):
    """Dense, sparse and extreme rows."""
    rows = RNG.integers(0, network.input_high + 1, (12, network.inputs))
    rows[4:8] *= RNG.random((4, network.inputs)) < 0.1
    rows[8], rows[9] = 0, network.input_high
    return rows


def counted(entry, network, target, folder):
    """Instructions or cycles of sums on `rows_of` the network."""
    row = TARGETS[target]
    require_compiler(row.compiler)
    core = core_for(row)
    counter = counting_runner(core)
    require(counter, f"nothing that counts on {target} is installed")
    program = build(
        entry.files, folder, network=network, name="model", target=row, core=core, toolchain=find_toolchain(row)
    )
    assert program.constant_time == entry.program.constant_time
    request = Harness(program, find_runner(core)).sums_request(rows_of(network))
    return set(counter.count(program.elf, core, request, ("model_sums",))["model_sums"].calls)


def takes(target, layout, network):
    with suppress(ExportError):
        generate(network, target, layout=layout)
        return True
    return False


def first_core(layout):
    """The least able Cortex-M that has the layout for a network below."""
    cores = ("cortex-m0", "cortex-m4", "cortex-m55")
    return next((core for core in cores if any(takes(core, layout, n) for n in NETWORKS.values())), None)


PLACES = [(first_core(layout), layout) for layout in sorted(FIXED_STEPS - {"bit_columns"})] + [
    ("avr", "grouped_delta8"), ("avr", "compressed"), ("avr", "unrolled"), ("avr", "bit_planes"),
    ("rv32ec", "grouped_index8"), ("rv32ec", "ternary2"), ("rv32imc", "dense"), ("cortex-m4", "csr8"),
]  # fmt: skip


@pytest.mark.parametrize(("target", "layout"), PLACES)
def test_a_layer_of_fixed_steps_takes_the_same_time_for_all_inputs(target, layout, tmp_path):
    networks = [network for network in NETWORKS.values() if takes(target, layout, network)]
    assert networks
    for network in networks:
        entry = generate(network, target, layout=layout)
        assert entry.program.constant_time
        assert len(counted(entry, network, target, tmp_path)) == 1


@pytest.mark.parametrize("target", ["cortex-m0", "cortex-m4", "rv32imc"])
def test_hidden_bits_take_the_same_time_for_all_inputs_on_cores_of_32_bits(target, tmp_path):
    for layout in ("bit_columns,bit_planes", "bit_planes"):
        entry = generate(HIDDEN, target, layout=layout)
        assert entry.program.constant_time
        assert len(counted(entry, HIDDEN, target, tmp_path)) == 1


def test_what_may_depend_on_the_inputs_is_not_said_to_be_constant():
    def claims(network, target, layout):
        return generate(network, target, layout=layout).program.constant_time

    assert not claims(HIDDEN, "avr", "bit_planes")  # a comparison is a branch there
    assert not claims(NETWORKS["values"], "rv32ec", "dense")  # a product is a loop over bits there
    assert claims(NETWORKS["values"], "rv32imc", "dense")
    assert not claims(HIDDEN, "cortex-m0", "dense")  # +1 and -1
    assert not claims(HIDDEN, "cortex-m0", "unrolled,bit_planes")  # one comparison after the other, without a loop
    assert set(LAYOUTS) - FIXED_STEPS == {"conv", "conv_dsp", "pool", "filter"}
