"""What `benchmarks.kernels` measures: single layers with known figures, and a grid of networks.

The figures beside single layers and whole networks are of hand-written kernels and of published libraries, measured
with the same compilers (GCC 12.2 and, for AVR, 5.4, -O2) and emulators on matrices of the same shape and density.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from benchmarks.cost_samples import VALUES, hidden_layer, random_weights
from mip2mcu.decisions import Argmax
from mip2mcu.layers import Activation, Dense
from mip2mcu.network import Network
from mip2mcu.ranges import IntArray

TARGETS = (
    "cortex-m0", "cortex-m3", "cortex-m4", "cortex-m7", "cortex-m33", "cortex-m55", "rv32imc", "rv32ec", "avr",
)  # fmt: skip
"""Cortex-M0+ executes the code of Cortex-M0."""
GRID_TARGETS = ("cortex-m0", "cortex-m3", "cortex-m4", "rv32imc", "rv32ec", "avr")
"""The grid of networks is measured on these: other cores execute what Cortex-M4 does."""
ROWS = 2

Figures: TypeAlias = Mapping[str, int]
"""By target."""


@dataclass(frozen=True)
class Reference:
    """A kernel measured elsewhere, and the layout (as an option names it) that competes with it.

    flash          bytes of weights, or of code for straight-line code
    flash_by       the same where targets differ
    static         inputs in the model's own array
    """

    kernel: str
    layout: str
    instructions: Figures
    flash: int | None = None
    flash_by: Figures = field(default_factory=dict)
    static: bool = False

    def flash_on(self, target: str) -> int | None:
        """Bytes on ``target``; None where unknown."""
        return self.flash_by.get(target, self.flash)


@dataclass(frozen=True)
class LayerTask:
    """A layer as a network of its own, and what it competes with."""

    name: str
    network: Network
    rows: IntArray
    references: tuple[Reference, ...]


def _everywhere(m0: int, m3: int, m55: int | None, rv32imc: int, rv32ec: int | None, avr: int | None) -> Figures:
    """Cores with Thumb-2 and no vectors execute the same code."""
    found = {"cortex-m0": m0, "rv32imc": rv32imc, **dict.fromkeys(("cortex-m3", "cortex-m4", "cortex-m7"), m3)}
    rest = {"cortex-m55": m55, "rv32ec": rv32ec, "avr": avr}
    return {**found, **{name: value for name, value in rest.items() if value is not None}}


TERNARY_KERNELS = (
    Reference("int8 dense", "dense", _everywhere(87_271, 62_844, 64_424, 87_930, 1_555_140, 289_073), 12_544),
    Reference(
        "int8 dense, SMLAD, two rows a pass", "dense_dsp", {"cortex-m4": 28_316, "cortex-m7": 28_316}, 12_544
    ),
    Reference(
        "ternary, 2 bits, zero bytes skipped", "ternary2", _everywhere(72_068, 67_824, 86_815, 45_184, 45_240, 118_557),
        3_136, dict.fromkeys(("cortex-m3", "cortex-m4", "cortex-m7", "cortex-m33", "cortex-m55"), 3200),
    ),
    Reference(
        "two bit planes, walk from set bit to set bit", "ternary2",
        _everywhere(38_018, 11_580, 14_822, 32_353, 37_134, 116_998), 3_200,
    ),
    Reference("16-bit index lists", "sparse_index16", _everywhere(10_130, 6_348, 6_752, 7_611, 7_611, 30_531), 2_528),
    Reference("delta-8 lists", "sparse_delta8", _everywhere(11_321, 7_612, 8_207, 7_611, 7_611, 21_923), 1_296),
    Reference("CSR, delta8 and value8", "csr8", _everywhere(16_157, 10_076, 11_422, 10_027, 148_327, 38_911), 2_496),
    Reference(
        "unrolled, pointer argument", "unrolled", _everywhere(4_104, 2_828, 4_305, 2_834, 3_082, 18_131), 8_800,
        {"avr": 28_168},
    ),
    Reference(
        "unrolled, static input", "unrolled", _everywhere(4_216, 2_462, None, 2_471, 2_482, 6_054), 9_000,
        {"avr": 10_972}, static=True,
    ),
)  # fmt: skip
FEW_BIT_KERNELS = (
    Reference("CSR, delta8 and value8", "csr8", _everywhere(16_540, 10_236, None, 10_187, 147_416, 39_533), 2_536),
    Reference(
        "grouped, 16-bit indices", "grouped_index16", _everywhere(12_262, 7_503, None, 8_867, 8_871, 34_945), 2_728
    ),
    Reference(
        "grouped, delta-8", "grouped_delta8", _everywhere(17_043, 12_540, None, 10_779, 10_802, 31_691), 1_608
    ),
    Reference(
        "unrolled, grouped, static input", "unrolled", _everywhere(4_485, 2_597, None, 2_613, 2_717, 7_076), 10_200,
        {"avr": 12_992}, static=True,
    ),
)  # fmt: skip
BINARY_KERNELS = (
    Reference(
        "XNOR and population count, the best of five", "bit_planes",
        _everywhere(7_080, 5_026, 6_290, 5_075, None, 40_744), 1_600,
    ),
)  # fmt: skip


def layer_tasks() -> tuple[LayerTask, ...]:
    """The layers with known figures; 8-bit inputs are 0 but for one in four."""
    rng = np.random.default_rng(784)
    pixels = rng.integers(1, 256, (ROWS, 784)) * (rng.random((ROWS, 784)) < 0.25)
    bits = rng.integers(0, 2, (ROWS, 800))
    return (
        LayerTask("784 -> 16 ternary, 1,232 weights", _layer(rng, 784, "ternary", 1232, 255), pixels, TERNARY_KERNELS),
        LayerTask("784 -> 16 of -7..7, 1,252 weights", _layer(rng, 784, "few", 1252, 255), pixels, FEW_BIT_KERNELS),
        LayerTask("800 -> 16 binary, binary inputs", _layer(rng, 800, "binary", 12_800, 1), bits, BINARY_KERNELS),
    )


def _layer(rng: np.random.Generator, inputs: int, kind: str, weights: int, high: int) -> Network:
    matrix = random_weights(rng, (16, inputs), kind, weights / (16 * inputs))
    assert np.count_nonzero(matrix) == weights
    return _network(np.full(inputs, high), (Dense(matrix, np.zeros(16)),))


def entropy_bytes(weights: IntArray) -> float:
    """Shannon's bound for independent weights with these frequencies."""
    _, counts = np.unique(weights, return_counts=True)
    shares = counts / counts.sum()
    return float(-(shares * np.log2(shares)).sum() * weights.size / 8)


def _network(high: IntArray, layers: Sequence[Dense]) -> Network:
    units = layers[-1].units
    return Network(np.zeros_like(high), high, tuple(layers), Argmax(units), tuple(f"c{c}" for c in range(units)))


# ---- networks ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class NetworkTask:
    """A network of the grid."""

    inputs: int
    density: float
    weights: str
    input_kind: str
    network: Network
    rows: IntArray

    @property
    def shape(self) -> str:
        """Such as 784-16-10."""
        return f"{self.inputs}-16-10"

    @property
    def name(self) -> str:
        """Names the task in results."""
        return f"{self.shape}, {WEIGHTS[self.weights]}, {100 * self.density:.0f} % of weights, {self.input_kind} inputs"


WEIGHTS = {"ternary": "weights -1..1", "few": "weights -7..7", "many": "int8 weights"}
DENSITIES = (1.0, 0.5, 0.25, 0.1)


def network_tasks(
    inputs: Sequence[int] = (784, 64), densities: Sequence[float] = DENSITIES
) -> tuple[NetworkTask, ...]:
    """The grid: sign units behind weights of -1..1 and -7..7, requantised ReLU units behind int8 weights."""
    return tuple(
        network_task(n, density, weights, input_kind)
        for n in inputs
        for weights in WEIGHTS
        for density in densities
        for input_kind in ("8-bit", "binary")
    )


def network_task(inputs: int, density: float, weights: str, input_kind: str) -> NetworkTask:
    """A network with exactly that share of non-zero weights; without zeros, ternary weights are binary."""
    rng = np.random.default_rng([inputs, round(100 * density), list(WEIGHTS).index(weights), len(input_kind)])
    low, high = np.zeros(inputs, dtype=np.int64), np.full(inputs, 255 if input_kind == "8-bit" else 1)
    assert weights in VALUES
    matrix = random_weights(rng, (16, inputs), weights, density)
    activation = Activation.RELU if weights == "many" else Activation.SIGN
    hidden = hidden_layer(rng, matrix, low, high, activation)
    output = Dense(random_weights(rng, (10, 16), weights, density), rng.integers(-9, 10, 10))
    rows = rng.integers(low, high + 1, (ROWS, inputs))
    return NetworkTask(inputs, density, weights, input_kind, _network(high, (hidden, output)), rows)


# ---- figures of whole networks -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class NetworkReference:
    """The fastest and the smallest that were measured for a kind of network, packing not included.

    smallest   bytes of the smallest
    layouts    the best of these competes for speed; the planner's choice where empty
    """

    kernel: str
    inputs: int
    density: float
    weights: str
    input_kind: str
    instructions: Figures
    smallest: Figures
    layouts: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """Names the kind in results."""
        return f"{self.inputs}-16-10, {self.kernel}"


_BITS = ("bit_planes,auto", "bit_columns,auto")


def _arm(m0: int, m3: int, m4: int) -> Figures:
    return {"cortex-m0": m0, "cortex-m3": m3, "cortex-m4": m4}


BEST_NETWORKS = (
    NetworkReference(
        "binary x binary: carry-save, SWAR", 784, 1.0, "ternary", "binary", _arm(5_940, 4_259, 4_291),
        _arm(1_960, 1_896, 1_896), _BITS,
    ),
    NetworkReference(
        "binary x ternary: carry-save, one population count", 784, 0.25, "ternary", "binary",
        _arm(7_292, 5_169, 5_170),
        _arm(3_592, 3_528, 3_528),
    ),
    NetworkReference(
        "8-bit x ternary: unrolled, index lists", 784, 0.25, "ternary", "8-bit", _arm(6_976, 6_554, 6_545),
        _arm(3_492, 3_508, 3_508),
    ),
    NetworkReference(
        "int8: CMSIS-NN (M0, M3) and SMLAD by hand (M4), plain loop", 784, 1.0, "many", "8-bit",
        _arm(81_000, 45_800, 24_100),
        _arm(12_980, 12_960, 12_960),
    ),
    NetworkReference(
        "binary x binary: deferred sum (M0, smallest) and carry-save (AVR)", 64, 1.0, "ternary", "binary",
        {"cortex-m0": 1_244, "avr": 4_432}, {"cortex-m0": 512, "avr": 534}, _BITS,
    ),
    NetworkReference(
        "binary x ternary: one population count", 64, 0.25, "ternary", "binary",
        {"cortex-m0": 1_718, "cortex-m4": 1_061, "avr": 6_598}, {"cortex-m0": 656, "avr": 692},
    ),
    NetworkReference(
        "8-bit x ternary: unrolled, index lists", 64, 0.25, "ternary", "8-bit",
        {"cortex-m0": 858, "cortex-m4": 783, "avr": 2_556},
        {"cortex-m0": 612, "avr": 794},
    ),
    NetworkReference(
        "int8: plain loop (M0, AVR), CMSIS-NN (M4)", 64, 1.0, "many", "8-bit",
        {"cortex-m0": 8_683, "cortex-m4": 3_840, "avr": 29_779}, {"cortex-m0": 1_436, "avr": 1_708},
    ),
)  # fmt: skip
PACKING = {784: {"cortex-m0": 6_377, "cortex-m3": 4_513, "cortex-m4": 4_513}}
"""Instructions that turn so many bytes into bits."""
