"""Random networks of every kind, in random layouts, for every target; and their comparison with `tests.naive`.

The expected values come from the naive evaluator and the model's JSON document alone: `Network` is not asked.
"""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st

from mip2mcu.errors import ExportError, ModelError, NoRoomError, ToolMissingError
from mip2mcu.export import TARGETS, ExportOptions, generate
from mip2mcu.export.layouts import LAYOUTS
from mip2mcu.layers import Activation, Dense
from mip2mcu.network import Network
from mip2mcu.verify.cores import core_for
from mip2mcu.verify.harness import Harness, build
from mip2mcu.verify.hunting import hunt, random_rows
from mip2mcu.verify.runners import find_runner
from mip2mcu.verify.toolchains import find_toolchain
from mip2mcu.verify.vectors import raw_chunks
from tests import naive
from tests.cnns import random_cnn
from tests.conftest import require
from tests.networks import decisions, networks, requantisation

LAYOUT_NAMES = ["auto", *LAYOUTS, *(f"{name}/{kind}" for name in LAYOUTS for kind in ("compact", "fast"))]
ROWS_OF_A_KIND = 3


def budget(small: int) -> int:
    """Number of examples: ``small``, times the number in the environment variable FUZZ where it is set."""
    return small * int(os.environ.get("FUZZ", "1"))


@dataclass(frozen=True)
class Case:
    """A network and how it becomes a program.

    layouts   one a layer; a layer that its layout refuses gets "auto"
    """

    network: Network
    layouts: tuple[str, ...]
    optimize: str
    static_scratch: bool
    optimisation: str
    seed: int

    def __repr__(self) -> str:
        layers = ", ".join(f"{type(layer).__name__} {getattr(layer, 'weights', np.zeros(0)).shape}"
                           for layer in self.network.layers)
        return (
            f"Case({layers}; {self.network.decision}; {','.join(self.layouts)}; {self.optimize}; "
            f"static {self.static_scratch}; {self.optimisation}; seed {self.seed}; {self.network.sha256[:12]})"
        )


# ---- random networks -----------------------------------------------------------------------------------------------


def _weights(rng, shape, limit: int, density: float, blocks: int):
    """Weights within ``limit``, a share ``density`` of them not zero, in ``blocks`` independent parts."""
    values = rng.integers(-limit, limit + 1, shape) if limit > 0 else rng.choice([-1, 1], shape)
    kept = rng.random(shape) < density
    own = (np.arange(shape[0]) * blocks // shape[0])[:, None] == (np.arange(shape[1]) * blocks // shape[1])[None, :]
    return values * kept * (own if blocks > 1 else True)


@st.composite
def dense_networks(draw):
    """Up to three hidden layers of any activation, of any width, density and range of weights; ensembles among them."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    inputs = draw(st.sampled_from([1, 2, 7, 31, 32, 33, 64, 65, 100, 255, 257]))
    low, high = draw(st.sampled_from([(0, 255), (0, 1), (-1, 1), (-128, 127), (0, 15), (-3000, 3000), (0, 32767)]))
    classes = draw(st.integers(2, 6))
    decision = draw(st.sampled_from(decisions(classes)))
    members = max(1, len(getattr(decision, "members", ())))
    layers = []
    ends = np.full(inputs, low), np.full(inputs, high)
    for depth in range(draw(st.integers(0, 3))):
        units = draw(st.sampled_from([1, 3, 8, 31, 32, 33, 40]))
        limit = draw(st.sampled_from([0, 1, 1, 2, 7, 127, 300, 32767]))
        density = draw(st.sampled_from([0.03, 0.2, 0.6, 1.0]))
        blocks = members if depth and draw(st.booleans()) else 1
        weights = _weights(rng, (units, len(ends[0])), limit, density, blocks)
        spread = draw(st.sampled_from([1, 30, 10**4]))
        bias = rng.integers(-spread, spread + 1, units)
        layer = Dense(weights, bias, Activation.SIGN)
        if draw(st.integers(0, 2)) == 0:
            layer = Dense(weights, bias, Activation.RELU, requantisation(rng, layer, *ends))
        layers.append(layer)
        ends = layer.output_range(*ends)
    units = decision.sums_expected()
    limit = draw(st.sampled_from([0, 1, 3, 127, 1000]))
    weights = _weights(rng, (units, len(ends[0])), limit, draw(st.sampled_from([0.1, 0.5, 1.0])), 1)
    layers.append(Dense(weights, rng.integers(-5, 6, units)))
    labels = tuple(f"c{c}" for c in range(decision.classes))
    try:
        return Network(np.full(inputs, low), np.full(inputs, high), tuple(layers), decision, labels)
    except ModelError:  # a requantised sum beyond its limit
        assume(False)


def any_networks():
    """Dense ones and ensembles, small ones with quantizers and tensors, and larger convolutional ones."""
    return st.one_of(dense_networks(), dense_networks(), networks(), st.builds(random_cnn, st.integers(0, 2**32 - 1)))


@st.composite
def cases(draw):
    """A random network with random choices about its C."""
    network = draw(any_networks())
    return Case(
        network,
        tuple(draw(st.sampled_from(LAYOUT_NAMES)) for _ in network.layers),
        draw(st.sampled_from(["balanced", "speed", "size"])),
        draw(st.booleans()),
        draw(st.sampled_from(["-O0", "-Os", "-O2", "-O3"])),
        draw(st.integers(0, 1000)),
    )


# ---- what is expected ----------------------------------------------------------------------------------------------


def document_of(network: Network) -> dict:
    """The model's JSON document, through a file as users have it."""
    with tempfile.TemporaryDirectory() as folder:
        network.save(Path(folder) / "model.json")
        return json.loads((Path(folder) / "model.json").read_text(encoding="utf-8"))


def rows_of(network: Network, seed: int):
    """A few rows of every kind."""
    kinds = hunt(network, seed=seed, effort=0).rows.values()
    rng = np.random.default_rng(seed)
    chosen = [rows[rng.permutation(len(rows))[:ROWS_OF_A_KIND]].astype(np.int64) for rows in kinds]
    return np.concatenate([*chosen, random_rows(network, 2 * ROWS_OF_A_KIND, rng)])


def _words(bits: list[int]) -> list[int]:
    """Bit i % 32 of word i / 32 is input i."""
    words = [0] * -(-len(bits) // 32)
    for i, bit in enumerate(bits):
        words[i // 32] += bit * 2 ** (i % 32)
    return words


def assert_equal_to_naive(harness: Harness, network: Network, rows, raw) -> None:
    """Everything that the C computes is what the naive evaluator computes."""
    document = document_of(network)
    packed = harness.description.input_packed
    sums = [naive.sums(document, row) for row in rows.tolist()]
    results = harness.infer(rows)
    assert results.status.tolist() == [0] * len(rows)
    assert results.sums.tolist() == sums
    assert results.scores.tolist() == [naive.scores(document, total) for total in sums]
    assert results.predicted.tolist() == [naive.predict(document, total) for total in sums]
    assert results.margin.tolist() == [naive.margin(document, total) for total in sums]
    if packed:
        assert harness.pack(rows).tolist() == [_words(row) for row in rows.tolist()]
    if raw is not None:
        inputs = [naive.quantize(document, row) for row in raw.tolist()]
        assert harness.quantize(raw).tolist() == ([_words(row) for row in inputs] if packed else inputs)
    assert (harness.selftest(), harness.check()) == (0, 0)


# ---- from the case to the comparison -------------------------------------------------------------------------------


def exported(case: Case, target: str):
    """The C of ``case``; layouts that do not take their layer are replaced, one after the other."""
    names = list(case.layouts)
    for k in range(len(names) + 1):
        try:
            chosen = ExportOptions(",".join(names), case.optimize, static_scratch=case.static_scratch)
            return generate(case.network, target, "model", options=chosen)
        except ExportError:
            if k == len(names):
                return None  # no safe C for this network and target: sums beyond 32 bits, memory
            names[k] = "auto"
    return None


def check(case: Case, target: str, folder: Path, toolchain: str | None = None) -> None:
    """Compile the C of ``case`` for ``target``, run it there, compare it with the naive evaluator."""
    row, core = TARGETS[target], core_for(TARGETS[target])
    export = exported(case, target)
    assume(export is not None)
    compiler, runner = find_toolchain(row, toolchain), find_runner(core)
    try:
        program = build(
            export.files,
            folder,
            network=case.network,
            name="model",
            target=row,
            core=core,
            toolchain=compiler,
            optimisation=case.optimisation,
        )
    except NoRoomError:  # the largest AVR chip is too small
        assume(False)
    assume(runner.serves(program.core))  # boards of QEMU are smaller than unicorn's cores
    raw = None
    if case.network.quantizer is not None:
        raw = np.concatenate([rows for _, rows in raw_chunks(case.network.quantizer, None, 12, case.seed, 64)])
        raw = raw[np.random.default_rng(case.seed).permutation(len(raw))[:40]]
    assert_equal_to_naive(Harness(program, runner), case.network, rows_of(case.network, case.seed), raw)


def require_target(target: str) -> None:
    """Skip where nothing compiles for ``target``, or nothing runs its code."""
    try:
        find_toolchain(TARGETS[target])
        find_runner(core_for(TARGETS[target]))
    except ToolMissingError as error:
        require(False, str(error))
