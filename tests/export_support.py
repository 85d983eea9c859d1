"""Random networks, and generated C as a Python object: compiled for the host and called through ctypes."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path

import numpy as np

from mip2mcu.decisions import Argmax, Sign, Vote
from mip2mcu.export import Export, generate
from mip2mcu.export.scratch import Home
from mip2mcu.layers import Activation, Dense, Requantisation
from mip2mcu.network import Network
from mip2mcu.quantizer import Affine, Feature, OneHot, Quantizer, Thermometer, fit_affine
from tests.conftest import require

WARNINGS = [
    "-Wall",
    "-Wextra",
    "-Wpedantic",
    "-Wconversion",
    "-Wsign-conversion",
    "-Wshadow",
    "-Wcast-qual",
    "-Wundef",
    "-Wdouble-promotion",
    "-Werror",
]
C_TYPES = {
    "uint8_t": np.uint8,
    "int8_t": np.int8,
    "int16_t": np.int16,
    "int32_t": np.int32,
    "uint32_t": np.uint32,
}

GUARD_BYTES = 64
"""Behind the scratch memory: must keep its content."""


def write(exports: list[Export], folder: Path) -> list[Path]:
    """The .c and .h files of ``exports`` in ``folder``; returns the .c files."""
    for entry in exports:
        for name, text in entry.files.items():
            if name != "README.md":
                (folder / name).write_text(text, encoding="ascii")
    return [folder / f"{entry.name}.c" for entry in exports]


def compile_quietly(compiler: list[str], sources: list[Path], *flags: str) -> None:
    """Compile ``sources`` with every warning an error; the compiler's words are the test's failure."""
    require(shutil.which(compiler[0]), f"{compiler[0]} is not installed")
    command = [*compiler, *WARNINGS, *flags, *(str(source) for source in sources)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""


class Compiled:
    """One exported network of a shared object; methods mirror `Network`, one row a call inside."""

    def __init__(self, library: ctypes.CDLL, entry: Export) -> None:
        self.entry = entry
        self.program = entry.program
        self._library = library
        self._input_type = C_TYPES[self.program.input.c_type]
        self._home = self.program.scratch.home
        self._scratch = np.full(self.program.scratch.bytes + GUARD_BYTES, 0xA5, dtype=np.uint8)

    def _function(self, name, result=ctypes.c_int):
        function = getattr(self._library, f"{self.entry.name}_{name}")
        function.restype = result
        return function

    def _pointer(self, array):
        return array.ctypes.data_as(ctypes.c_void_p)

    def _call(self, name, row, *own, result=ctypes.c_int):
        """Result for one row of inputs, with scratch memory where it takes any, whose end it must respect."""
        encoded = self.encode(row)
        inputs = [self._pointer(encoded)]
        if self._home is Home.STATIC:
            length = len(encoded) * encoded.itemsize
            ctypes.memmove((ctypes.c_uint8 * length).in_dll(self._library, f"{self.entry.name}_input"), *inputs, length)
            inputs = []
        returned = self._function(name, result)(*inputs, *own, *self._scratch_argument())
        assert (self._scratch[self.program.scratch.bytes :] == 0xA5).all()
        return returned

    def _scratch_argument(self):
        return [self._pointer(self._scratch)] if self._home is Home.CALLER else []

    def encode(self, row):
        """One input row as the C array; packed through NAME_pack where inputs are bits."""
        if not self.program.packed:
            return row.astype(self._input_type)
        words = np.full(self.program.input.length, 0xDEADBEEF, dtype=np.uint32)
        bits = row.astype(np.uint8)
        assert self._function("pack")(self._pointer(bits), self._pointer(words)) == 0
        return words

    def _vectors(self, name, rows, length):
        out = np.full((len(rows), length), 0x5A5A5A5A, dtype=np.int32)
        for k, row in enumerate(rows):
            assert self._call(name, row, self._pointer(out[k])) == 0
        return out

    def sums(self, rows):
        return self._vectors("sums", rows, self.program.sums)

    def scores(self, rows):
        return self._vectors("scores", rows, self.program.decision.scores)

    def predict(self, rows):
        return [self._call("predict", row) for row in rows]

    def margin(self, rows):
        return [self._call("margin", row, result=ctypes.c_int32) for row in rows]

    def quantize(self, raw):
        """The C arrays (rows, input length) of raw rows."""
        out = np.full((len(raw), self.program.input.length), 0x5A, dtype=self._input_type)
        raw = np.ascontiguousarray(raw.astype(C_TYPES[self.program.quantizer.raw_type]))
        for k in range(len(raw)):
            assert self._function("quantize")(self._pointer(raw[k]), self._pointer(out[k])) == 0
        return out

    def selftest(self):
        return self._function("selftest")(*self._scratch_argument())

    def check(self):
        return self._function("check")()


def compile_host(exports: list[Export], folder: Path) -> list[Compiled]:
    """Compile ``exports`` into one shared object in ``folder`` and open it."""
    sources = write(exports, folder)
    shared = folder / "models.so"
    compile_quietly(["gcc", "-std=c99"], sources, "-Wmissing-prototypes", "-O1", "-shared", "-fPIC", "-o", str(shared))
    library = ctypes.CDLL(str(shared))
    return [Compiled(library, entry) for entry in exports]


def assert_equal_to_network(compiled: Compiled, network: Network, rows) -> None:
    """C and Python agree to the last bit on ``rows``, the stored vectors and the tables hold."""
    np.testing.assert_array_equal(compiled.sums(rows), network.sums(rows))
    np.testing.assert_array_equal(compiled.scores(rows), network.scores(rows))
    assert compiled.predict(rows) == network.predict(rows).tolist()
    assert compiled.margin(rows) == network.margin(rows).tolist()
    assert compiled.selftest() == 0
    assert compiled.check() == 0


def random_rows(network: Network, count: int, rng) -> np.ndarray:
    """Rows within the input ranges, the two corners among them."""
    rows = rng.integers(network.input_low, network.input_high + 1, (count, network.inputs))
    return np.concatenate([[network.input_low, network.input_high], rows])


# ---- random networks -----------------------------------------------------------------------------------------------


def random_decision(rng):
    classes = int(rng.integers(2, 7))
    kind = rng.integers(0, 5)
    if kind == 0:
        return Sign()
    if kind == 1:
        return Vote(classes, 2, bool(rng.integers(0, 2)))
    if kind == 2:
        return Vote(max(classes, 3), 3, bool(rng.integers(0, 2)))
    return Argmax(classes if kind == 3 else 1)


def random_quantizer(rng) -> Quantizer:
    features = []
    for i in range(int(rng.integers(1, 8))):
        kind = rng.integers(0, 3)
        low = int(rng.integers(-500, 500))
        span = int(rng.choice([0, 1, 17, 255, 256, 1000, 14000]))
        if kind == 0:
            features.append(Feature(f"a{i}", fit_affine(low, low + span), low, 1, "int16_t"))
        elif kind == 1:
            count = int(rng.integers(0, min(span, 6) + 1))
            thresholds = sorted(rng.choice(span, count, replace=False) + low + 1) if span else []
            coding = Thermometer(low, low + span, tuple(int(t) for t in thresholds))
            features.append(Feature(f"t{i}", coding, low, 0, "int16_t"))
        else:
            categories = tuple(f"c{k}" for k in range(int(rng.integers(0, 5))))
            features.append(Feature(f"o{i}", OneHot(categories), len(categories), 0, "int16_t"))
    if sum(f.coding.width for f in features) == 0:
        features.append(Feature("wide", Affine(-(2**31), 2**31 - 1, 16, 63, 14), 5, 3, "int32_t"))
    return Quantizer(tuple(features))


def random_ranges(rng):
    inputs = int(rng.choice([1, 2, 31, 32, 33, 64, 70]))
    kind = rng.integers(0, 5)
    if kind <= 1:
        return np.zeros(inputs, dtype=int), np.ones(inputs, dtype=int)
    if kind == 2:
        return np.zeros(inputs, dtype=int), np.full(inputs, 255)
    low = rng.integers(-128, 1, inputs)
    return low, low + rng.integers(0, 128 if kind == 3 else 2, inputs)


def random_weights(rng, shape):
    limit = int(rng.choice([1, 1, 3, 7, 127, 300]))
    if limit == 1 and rng.integers(0, 2):
        return rng.choice([-1, 1], shape)
    return rng.integers(-limit, limit + 1, shape)


def random_layer(rng, low, high, units):
    weights = random_weights(rng, (units, len(low)))
    bias = rng.integers(-40, 41, units)
    kind = rng.integers(0, 3)
    if kind < 2:
        return Dense(weights, bias, Activation.SIGN)
    top = np.maximum(Dense(weights, bias).sum_range(low, high)[1], 1)
    pre = np.array([max(0, int(t).bit_length() - 16) for t in top])
    mult = rng.integers(1, 32768, units)
    return Dense(weights, bias, Activation.RELU, Requantisation(pre, mult, rng.integers(10, 31, units)))


def random_network(seed: int) -> Network:
    """A network of 1 to 3 layers with any decision rule, input kind and activation, determined by ``seed``."""
    rng = np.random.default_rng(seed)
    quantizer = random_quantizer(rng) if rng.integers(0, 3) == 0 else None
    if quantizer is None:
        low, high = random_ranges(rng)
    else:
        low, high = np.zeros(quantizer.width, dtype=int), quantizer.input_high
    decision = random_decision(rng)
    layers, ends = [], (low, high)
    for _ in range(int(rng.integers(0, 3))):
        layers.append(random_layer(rng, *ends, int(rng.choice([1, 5, 32, 40]))))
        ends = layers[-1].output_range(*ends)
    units = decision.sums_expected()
    layers.append(Dense(random_weights(rng, (units, len(ends[0]))), rng.integers(-40, 41, units)))
    classes = tuple(f"class {c}" for c in range(decision.classes))
    return Network(low, high, tuple(layers), decision, classes, quantizer=quantizer)


def exports_of(networks, target="host", layout=None) -> list[Export]:
    """One export each, named net0, net1, ..."""
    return [generate(network, target, f"net{k}", layout=layout) for k, network in enumerate(networks)]
