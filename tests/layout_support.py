"""Networks for the tests of sparse layouts, and the comparison of their C with `Network` on the host and on cores."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

import numpy as np

from mip2mcu.decisions import Argmax
from mip2mcu.export import TARGETS, Export, generate
from mip2mcu.export.packing import pack_bits
from mip2mcu.export.scratch import Home
from mip2mcu.layers import Activation, Dense, Requantisation
from mip2mcu.network import Network
from mip2mcu.verify.cores import core_for
from mip2mcu.verify.harness import Harness, build
from mip2mcu.verify.runners import RUNNERS
from mip2mcu.verify.toolchains import find_toolchain
from tests.conftest import require
from tests.export_support import (
    assert_equal_to_network,
    compile_host,
    compile_quietly,
    exports_of,
    random_rows,
    write,
)

CORES = ("cortex-m0", "rv32imc")
"""Instruction sets on which every layout is compared with `Network`."""
EVERY_CORE = (*CORES, "cortex-m4", "avr")
"""One instruction set a variant of code."""


def network_of(*layers: Dense, low=0, high=255) -> Network:
    """``layers`` behind inputs of [low, high], decided by ARGMAX."""
    inputs, units = layers[0].weights.shape[1], layers[-1].units
    classes = tuple(f"c{c}" for c in range(units))
    return Network(np.full(inputs, low), np.full(inputs, high), layers, Argmax(units), classes)


def linear(weights, bias=None, low=0, high=255) -> Network:
    """One dense layer."""
    weights = np.array(weights)
    return network_of(Dense(weights, np.zeros(len(weights)) if bias is None else np.array(bias)), low=low, high=high)


def random_sparse(rng, shape, values: Sequence[int]):
    """Weights (units, inputs) drawn from ``values`` at a random density, some rows of them block-diagonal or zero."""
    density = rng.choice([0.002, 0.02, 0.1, 0.3, 1.0])
    weights = np.where(rng.random(shape) < density, rng.choice(values, shape), 0)
    if rng.integers(0, 3) == 0:
        block = max(1, shape[1] // shape[0])
        weights *= np.arange(shape[1]) // block == np.arange(shape[0])[:, None]
    if rng.integers(0, 3) == 0:
        weights[rng.integers(0, shape[0])] = 0
    return weights


def _random_weights(rng, low, high, units: int, values: Sequence[int]):
    """Weights for inputs of [low, high], halved until neither sums nor their differences leave int32_t in any order."""
    weights = random_sparse(rng, (units, len(low)), values)
    while (np.abs(weights) @ np.maximum(np.abs(low), np.abs(high))).max() + 300 >= 2**30:
        weights = np.trunc(weights / 2).astype(int)
    return weights


def _random_layer(rng, low, high, units: int, values: Sequence[int]) -> Dense:
    weights = _random_weights(rng, low, high, units, values)
    bias = rng.integers(-300, 301, units)
    if rng.integers(0, 2):
        return Dense(weights, bias, Activation.SIGN)
    top = np.maximum(Dense(weights, bias).sum_range(low, high)[1], 1)
    pre = np.array([max(0, int(t).bit_length() - 16) for t in top])
    scale = Requantisation(pre, rng.integers(1, 32768, units), rng.integers(10, 31, units))
    return Dense(weights, bias, Activation.RELU, scale)


def random_network(seed: int, values: Sequence[int]) -> Network:
    """One or two layers with weights out of ``values`` behind inputs of any kind, determined by ``seed``."""
    rng = np.random.default_rng(seed)
    inputs = int(rng.choice([1, 3, 40, 255, 256, 257, 700, 1500]))
    kinds = [(0, 255), (0, 1), (-1, 1), (-128, 127), (-1000, 3000)]
    low, high = (np.full(inputs, end) for end in kinds[rng.integers(0, len(kinds))])
    layers, ends = [], (low, high)
    if rng.integers(0, 2):
        layers.append(_random_layer(rng, *ends, int(rng.choice([1, 5, 33, 300])), values))
        ends = layers[-1].output_range(*ends)
    units = int(rng.choice([1, 2, 10]))
    layers.append(Dense(_random_weights(rng, *ends, units, values), rng.integers(-300, 301, units)))
    return Network(low, high, tuple(layers), Argmax(units), tuple(f"c{c}" for c in range(units)))


def assert_exact(networks: Sequence[Network], folder, layout: str, target="host") -> list[Export]:
    """The C of ``networks`` in ``layout`` for ``target`` equals them on this machine; returns what was generated."""
    exports = exports_of(networks, target, layout)
    for network, compiled in zip(networks, compile_host(exports, folder), strict=True):
        assert_equal_to_network(compiled, network, random_rows(network, 12, np.random.default_rng(7)))
    return exports


def assert_exact_on_core(network: Network, folder, layout: str, target: str) -> None:
    """The C of ``network`` in ``layout`` equals it on an emulated core."""
    require(target in TARGETS, f"there is no target {target} yet")
    core, row = core_for(TARGETS[target]), TARGETS[target]
    runner = RUNNERS["unicorn" if core.simavr_mcu is None else "simavr"]
    require(runner.is_installed(core), f"{runner.name} is not installed")
    toolchain = find_toolchain(row)
    files = generate(network, target, "model", layout=layout).files
    program = build(files, folder, network=network, name="model", target=row, core=core, toolchain=toolchain)
    harness = Harness(program, runner)
    rows = random_rows(network, 6, np.random.default_rng(7))
    results = harness.infer(rows)
    np.testing.assert_array_equal(results.sums, network.sums(rows))
    np.testing.assert_array_equal(results.predicted, network.predict(rows))
    np.testing.assert_array_equal(results.margin, network.margin(rows))
    if harness.description.input_packed:
        np.testing.assert_array_equal(harness.pack(rows), pack_bits(rows))
    assert harness.selftest() == 0
    assert harness.check() == 0


def assert_defined(networks: Sequence[Network], folder, layout: str, target="host") -> None:
    """No run of the C of ``networks`` reads outside of its arrays or does what C leaves undefined; selftests pass."""
    exports = exports_of(networks, target, layout)
    memory = [entry.program.scratch.home is Home.CALLER for entry in exports]
    lines = [f'#include "{entry.name}.h"' for entry in exports]
    lines += [f"static {e.name}_scratch_t memory{k};" for k, e in enumerate(exports) if memory[k]]
    calls = [f"{e.name}_selftest({f'&memory{k}' if memory[k] else ''})" for k, e in enumerate(exports)]
    main = folder / "main.c"
    main.write_text("\n".join([*lines, f"int main(void) {{ return {' | '.join(calls)}; }}", ""]), encoding="ascii")
    program = folder / "program"
    checks = ("-std=c99", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-o", str(program))
    compile_quietly(["gcc"], [*write(exports, folder), main], *checks)
    result = subprocess.run([program], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")


def assert_avr_compiles_quietly(network: Network, folder, layout: str) -> None:
    """The C of ``network`` in ``layout`` raises no warning in avr-gcc, optimised for speed and for size."""
    sources = write([generate(network, "avr", "model", layout=layout)], folder)
    for level in ("-O2", "-Os"):
        flags = ("-mmcu=atmega2560", "-std=c99", level, "-c", "-o", str(folder / "model.o"))
        compile_quietly(["avr-gcc"], sources, *flags)


def tables(export: Export, layer: int = 0) -> dict[str, list[int]]:
    """The values of a layer's tables, by their names without the layer's prefix."""
    return {t.name.split("_", 1)[1]: list(t.values) for t in export.program.layers[layer].tables}
