"""Small networks, targets and hand-written models that the tests of verification share."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from mip2mcu.decisions import Argmax, Sign, Vote
from mip2mcu.export import TARGETS, Target, generate
from mip2mcu.layers import Activation, Dense
from mip2mcu.network import Network
from mip2mcu.quantizer import Affine, Feature, OneHot, Quantizer, Thermometer
from mip2mcu.verify.cores import core_for
from mip2mcu.verify.harness import Harness, Program, build
from mip2mcu.verify.runners import RUNNERS
from mip2mcu.verify.toolchains import find_toolchain
from tests.conftest import require


def cortex_m(suffix: str) -> Target:
    """The target of that Cortex-M."""
    return TARGETS[f"cortex-m{suffix}"]


def require_compiler(name: str) -> None:
    """Skip where the compiler ``name`` is not installed; "zig" comes with the test requirements."""
    if name != "zig":
        require(shutil.which(name), f"the compiler {name} is not installed")


def require_qemu() -> None:
    require(shutil.which("qemu-system-arm"), "qemu-system-arm is not installed")


# ---- networks ------------------------------------------------------------------------------------------------------


def linear_network(inputs: int = 6, classes: int = 3, high: int = 255, seed: int = 1) -> Network:
    """One dense layer with weights in -9..9."""
    rng = np.random.default_rng(seed)
    layer = Dense(rng.integers(-9, 10, (classes, inputs)), rng.integers(-99, 100, classes))
    return _network([layer], Argmax(classes), high)


def sign_network(inputs: int = 8, hidden: int = 5, high: int = 255, seed: int = 2) -> Network:
    """Ternary weights, one layer of sign units, three classes."""
    rng = np.random.default_rng(seed)
    first = Dense(rng.integers(-1, 2, (hidden, inputs)), rng.integers(-20, 20, hidden), Activation.SIGN)
    return _network([first, Dense(rng.integers(-1, 2, (3, hidden)), [0, 0, 0])], Argmax(3), high)


def packed_network() -> Network:
    """Binary inputs times weights of -1 and +1: inputs are packed bits."""
    rng = np.random.default_rng(6)
    first = Dense(rng.choice([-1, 1], (9, 70)), rng.integers(-20, 20, 9), Activation.SIGN)
    return _network([first, Dense(rng.choice([-1, 1], (3, 9)), [0, 1, 0])], Argmax(3), high=1)


def vote_network(seed: int = 3) -> Network:
    """Four classes, one unit a pair, unclassified where the vote has no winner."""
    rng = np.random.default_rng(seed)
    return _network([Dense(rng.integers(-2, 3, (6, 5)), rng.integers(-3, 4, 6))], Vote(4), high=3)


def two_class_network() -> Network:
    """One unit that decides between two classes."""
    return _network([Dense([[3, -2, 1]], [-4])], Sign(), high=9)


def quantized_network() -> Network:
    """Raw features of every coding in front of a linear layer."""
    quantizer = Quantizer(
        (
            Feature("weight", Affine(-100, 900, 0, 16711, 16), 5, 1, "int16_t"),
            Feature("speed", Thermometer(0, 50, (10, 20, 30)), 7, 0, "int16_t"),
            Feature("colour", OneHot(("blue", "green", "red")), 3, 0, "int16_t"),
        )
    )
    rng = np.random.default_rng(4)
    layer = Dense(rng.integers(-5, 6, (3, quantizer.width)), [1, 2, 3])
    high = quantizer.input_high
    return Network(np.zeros_like(high), high, (layer,), Argmax(3), ("a", "b", "c"), quantizer=quantizer)


def binary_quantized_network() -> Network:
    """Thermometer bits only, so that inputs are packed."""
    quantizer = Quantizer(tuple(Feature(f"f{i}", Thermometer(0, 99, tuple(range(10, 90, 9))), 0) for i in range(5)))
    rng = np.random.default_rng(5)
    layer = Dense(rng.choice([-1, 1], (2, quantizer.width)), [1, 0])
    high = quantizer.input_high
    return Network(np.zeros_like(high), high, (layer,), Argmax(2), ("no", "yes"), quantizer=quantizer)


def _network(layers: list[Dense], decision: Argmax | Sign | Vote, high: int) -> Network:
    inputs = layers[0].weights.shape[1]
    labels = tuple(f"class {c}" for c in range(decision.classes))
    return Network(np.zeros(inputs, dtype=int), np.full(inputs, high), tuple(layers), decision, labels)


# ---- programs ------------------------------------------------------------------------------------------------------


def built(network: Network, target: Target, folder: Path, toolchain: str = "zig") -> Program:
    """The harness around the exported C of ``network``."""
    return build(
        generate(network, target, "model").files,
        folder,
        network=network,
        name="model",
        target=target,
        core=core_for(target),
        toolchain=find_toolchain(target, toolchain),
    )


def harness(network: Network, target: Target, folder: Path, runner: str = "unicorn", toolchain: str = "zig") -> Harness:
    """`built`, on a runner."""
    return Harness(built(network, target, folder, toolchain=toolchain), RUNNERS[runner])


HAND_WRITTEN_HEADER = """
#include <stdint.h>
#define HAND_ABI 1
#define HAND_MODEL_SHA256 "hand"
#define HAND_CLASSES 2
#define HAND_INPUTS 1
#define HAND_INPUT_LENGTH 1
#define HAND_INPUT_PACKED 0
#define HAND_SUMS 1
#define HAND_SCORES 1
#define HAND_SCRATCH_BYTES 0
typedef uint8_t hand_input_t;
int hand_sums(const hand_input_t input[], int32_t sums[]);
int hand_scores(const hand_input_t input[], int32_t scores[]);
int hand_predict(const hand_input_t input[]);
int32_t hand_margin(const hand_input_t input[]);
int hand_selftest(void);
"""

_REST = """
#include "hand.h"
int hand_sums(const hand_input_t input[], int32_t sums[]) { sums[0] = input[0]; return 0; }
int hand_scores(const hand_input_t input[], int32_t scores[]) { return hand_sums(input, scores); }
int32_t hand_margin(const hand_input_t input[]) { return input[0]; }
int hand_selftest(void) { return 0; }
"""


def hand_written(predict: str, target: Target, folder: Path, toolchain: str = "zig") -> Program:
    """The harness around a model whose function hand_predict is the C text ``predict``."""
    return build(
        {"hand.h": HAND_WRITTEN_HEADER, "hand.c": _REST + predict},
        folder,
        network=_network([Dense([[1]], [0])], Sign(), high=255),
        name="hand",
        target=target,
        core=core_for(target),
        toolchain=find_toolchain(target, toolchain),
    )
