"""MISRA C:2012: generated C and firmware break no required rule, and the advisory ones that firmware/MISRA.md lists."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from mip2mcu.errors import ExportError
from mip2mcu.export import Export, ExportOptions, generate
from mip2mcu.export.layouts import LAYOUTS
from mip2mcu.layers import Activation, Dense, MaxPool, Requantisation
from mip2mcu.network import Network
from mip2mcu.resources import resource_folder
from mip2mcu.verify.harness import model_under_test
from tests.cnns import pen, random_cnn
from tests.export_support import random_network
from tests.fuzzing import budget
from tests.layout_support import network_of
from tests.misra_support import advised, broken, findings_in, findings_in_model, require_cppcheck
from tests.test_firmware import digits_network
from tests.test_layout_pool import pooled
from tests.test_prove import CASES, OWN, WIDE, margin_vote
from tests.verify_support import (
    binary_quantized_network,
    packed_network,
    quantized_network,
    two_class_network,
    vote_network,
)

FIRMWARE = resource_folder("firmware")
EVERY_TARGET = ("cortex-m0", "avr", "rv32imc", "cortex-m4", "generic", "rv32ec", "host")


@pytest.fixture(scope="module", autouse=True)
def _cppcheck():
    require_cppcheck()


def requantised(low=0, high=255) -> Network:
    """Two layers of ReLU units, each scaled in its own way."""
    rng = np.random.default_rng(9)
    pre = np.array([1, 0, 0, 0, 2]) + (2 if high > 255 else 0)
    scales = Requantisation(pre, rng.integers(1000, 20000, 5), rng.integers(14, 18, 5))
    first = Dense(rng.integers(-3, 4, (5, 21)), rng.integers(-20, 20, 5), Activation.RELU, scales)
    scales = Requantisation([0] * 5, [1000] * 5, [14] * 5)
    second = Dense(rng.integers(-1, 2, (5, 5)), rng.integers(-20, 20, 5), Activation.RELU, scales)
    return network_of(first, second, Dense(rng.integers(-1, 2, (3, 5)), [0, 1, 2]), low=low, high=high)


def with_layout(network: Network, target: str, layout: str | None = None, **options) -> Export:
    return generate(network, target, "model", options=ExportOptions(layout=layout, **options))


CHAINS = {
    "cortex-m0": ("dense", "grouped_index16", "compressed", "sparse_index8", "unrolled"),
    "avr": ("sparse_delta8", "grouped_index8", "csr8", "compressed", "dense"),
    "generic": ("ternary2", "grouped_delta8", "csr8", "sparse_index16", "unrolled"),
}
"""The layouts of a model's layers, on one target a family of code."""
SINGLE = {
    "dense_dsp": "cortex-m4",
    "bit_planes": "avr",
    "bit_columns,bit_planes": "rv32imc",
    "conv": "rv32ec",
    "pool": "generic",
    "filter": "avr",
}
"""On which target the test reads what takes a network of its own; longer runs read all on all."""


def chain(layouts: tuple[str, ...]) -> Network:
    """A layer for each of ``layouts``, of weights that it takes."""
    rng, layers, inputs = np.random.default_rng(5), [], 21
    for layout in layouts:
        values = (-1, 1) if layout.startswith(("sparse", "ternary2")) else WIDE
        weights = np.where(rng.random((7, inputs)) < 0.5, rng.choice(values, (7, inputs)), 0)
        layers.append(Dense(weights, rng.integers(-9, 9, 7), Activation.SIGN))
        inputs = 7
    return network_of(*layers[:-1], Dense(layers[-1].weights, layers[-1].bias))


def few() -> list[Export]:
    """Every layout, input stage, coding of raw features, decision rule, home of scratch memory, family of targets."""
    return [
        *(with_layout(chain(layouts), target, ",".join(layouts)) for target, layouts in CHAINS.items()),
        *(with_layout(CASES[name], target, None if name in OWN else name) for name, target in SINGLE.items()),
        with_layout(pen(), "cortex-m4", "0=conv_dsp", static_scratch=True),
        with_layout(random_cnn(22), "generic"),  # scratch memory of the caller
        with_layout(pooled(MaxPool((2, 3), (1, 2)), (2, 5, 9), -9, 9), "avr"),
        with_layout(requantised(-128, 127), "avr", "dense"),
        with_layout(quantized_network(), "avr"),
        with_layout(binary_quantized_network(), "cortex-m0"),
        with_layout(vote_network(), "cortex-m0"),
        with_layout(margin_vote(), "generic"),
        with_layout(two_class_network(), "host"),
    ]


def many(count: int) -> list[Export]:
    """All layouts on all targets in both kinds of code, and ``count`` random networks of each kind on each target."""
    exports = []
    for target in EVERY_TARGET:
        for name, network in CASES.items():
            kinds = [None] if name in OWN else [name.replace(",", f"{k},") + k for k in ("", "/compact", "/fast")]
            exports += [(network, target, kind) for kind in kinds]
        for name in LAYOUTS:
            exports += [(requantised(*ends), target, name) for ends in ((0, 255), (-128, 127), (-1000, 3000))]
        exports += [(random_network(seed), target, None) for seed in range(count)]
        exports += [(random_cnn(seed), target, None) for seed in range(count)]
    return [made for case in exports if (made := _unless_refused(*case)) is not None]


def _unless_refused(network: Network, target: str, layout: str | None) -> Export | None:
    try:
        return with_layout(network, target, layout)
    except ExportError:
        return None


def findings_of(exports: list[Export], folder: Path):
    """What is found in each, two at a time."""
    folders = [folder / str(k) for k in range(len(exports))]
    for each in folders:
        each.mkdir()
    with ThreadPoolExecutor(2) as pool:
        return set().union(*pool.map(findings_in_model, exports, folders))


def listed(heading: str) -> set[str]:
    """The rules in the table of firmware/MISRA.md under ``heading``."""
    text = (FIRMWARE / "MISRA.md").read_text(encoding="utf-8")
    section = text.split(f"## {heading}\n")[1].split("\n## ")[0]
    return set(re.findall(r"^\| (\d+\.\d+) \|", section, re.MULTILINE))


def test_generated_c_breaks_no_required_rule_and_the_listed_advisory_ones(tmp_path):
    assert {"conv_dsp", *sum(CHAINS.values(), ()), *",".join(SINGLE).split(",")} == set(LAYOUTS)
    findings = findings_of(few(), tmp_path)
    assert broken(findings) == []
    assert advised(findings) == listed("Generated C")


if budget(1) > 1:  # a longer run: FUZZ is the number of random networks a target

    def test_no_layout_breaks_a_required_rule_on_any_target(tmp_path):
        findings = findings_of(many(budget(1)), tmp_path)
        assert broken(findings) == []
        assert advised(findings) <= listed("Generated C")


BARE_METAL = ("verify_main.c", "platform_semihosting.c", "runtime.c")
PROGRAMS = {
    "cortex-m": (quantized_network, "cortex-m4", (*BARE_METAL, "cortex-m/startup.c")),
    "riscv": (binary_quantized_network, "rv32imc", (*BARE_METAL, "riscv/startup.c")),
    "avr": (packed_network, "avr", ("verify_main.c", "avr/platform.c")),
    "demo": (digits_network, "cortex-m0", ("cortex-m-demo/main.c", "runtime.c", "cortex-m/startup.c")),
}
"""The programs that firmware/ is the source of, around a model each."""
ON_THE_COMPUTER = {"avr/simulator.c", "host/platform.c", "qemu/count.c", "proof/proof_main.c", "proof/proof_selftest.c"}
"""Never part of a firmware."""


def findings_of_program(program: str, folder: Path):
    make, target, sources = PROGRAMS[program]
    name = "digits" if program == "demo" else "model"
    files = {**generate(make(), target, name).files, "tested_model.h": model_under_test(name)}
    for file, text in files.items():
        (folder / file).write_text(text, encoding="utf-8")
    paths = [*(FIRMWARE / source for source in sources), folder / f"{name}.c"]
    # What the startup of cores with a floating-point unit does is read too.
    return findings_in(paths, target, folder, FIRMWARE, macros=["-D__ARM_FP=4"] if program == "demo" else [])


def test_firmware_breaks_no_required_rule_and_the_listed_advisory_ones(tmp_path):
    sources = {source for _, _, each in PROGRAMS.values() for source in each}
    assert sources | ON_THE_COMPUTER == {str(path.relative_to(FIRMWARE)) for path in FIRMWARE.rglob("*.c")}
    findings = set()
    for program in PROGRAMS:
        (tmp_path / program).mkdir()
        findings |= findings_of_program(program, tmp_path / program)
    assert broken(findings) == []
    own = {found for found in findings if found.file not in ("model.c", "digits.c", "model.h", "digits.h")}
    assert advised(own) == listed("Firmware")
