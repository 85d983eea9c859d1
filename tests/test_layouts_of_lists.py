"""Layouts that walk over packed weights or lists of them: their C equals `Network`, on the host and on cores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from mip2mcu.layers import Activation, Dense
from tests.layout_support import (
    EVERY_CORE,
    assert_avr_compiles_quietly,
    assert_defined,
    assert_exact,
    assert_exact_on_core,
    linear,
    network_of,
    random_network,
    random_sparse,
)

TERNARY, FEW_BITS, INT8 = (-1, 1), tuple(range(-7, 8)), tuple(range(-127, 128))
PLAIN = ("host", "generic")
"""Targets whose C runs on this machine: int of 32 bits, int of 16 bits."""


@dataclass(frozen=True)
class Case:
    """A layout with sets of weights that it takes, the largest of them, and targets with code of their own."""

    layout: str
    values: tuple[Sequence[int], ...]
    largest: int
    targets: tuple[str, ...] = PLAIN


CODINGS = [f"{coding}/{kind}" for coding in ("delta8", "index8", "index16") for kind in ("fast", "compact")]
CASES = [
    *(Case(f"sparse_{coding}", (TERNARY,), 1) for coding in CODINGS),
    *(Case(f"grouped_{c}", (FEW_BITS, (-90, -64, -5, -1, 2, 64), (-300, 300)), 32767) for c in CODINGS),
    *(Case(f"csr8/{kind}", (INT8, (-255, -128, -3, 7, 90, 255), TERNARY), 255) for kind in ("fast", "compact")),
    Case("ternary2/fast", (TERNARY,), 1, (*PLAIN, "cortex-m4")),
    Case(
        "compressed",
        (TERNARY, FEW_BITS, INT8, (-300, -3, -2, -1, -1, -1, 1, 1, 1, 1, 1, 2, 2, 9), (5,), (-2, 3)),
        32767,
    ),
]
WITH_VALUES = [pytest.param(c, values, id=f"{c.layout}-{k}") for c in CASES for k, values in enumerate(c.values)]
WITH_TARGET = [pytest.param(case, target, id=f"{case.layout}-{target}") for case in CASES for target in case.targets]
EACH = pytest.mark.parametrize("case", CASES, ids=lambda case: case.layout)


@pytest.mark.parametrize(("case", "values"), WITH_VALUES)
@settings(max_examples=1, deadline=None, phases=[Phase.generate])  # each example is a compilation
@given(seeds=st.lists(st.integers(0, 2**32 - 1), min_size=6, max_size=6, unique=True))
def test_c_equals_network(case, values, seeds, tmp_path_factory):
    assert_exact([random_network(seed, values) for seed in seeds], tmp_path_factory.mktemp("lists"), case.layout)


@pytest.mark.parametrize(("case", "target"), WITH_TARGET)
def test_c_of_each_kind_equals_network(case, target, tmp_path):
    networks = [random_network(seed, values) for seed in range(6) for values in case.values]
    assert_exact(networks, tmp_path, case.layout, target)


@pytest.mark.parametrize(("case", "target"), WITH_TARGET)
def test_extremes_are_exact(case, target, tmp_path):
    wide = np.zeros((3, 65535), dtype=int)
    wide[0, [0, 20000, 65534]] = 1, -min(2, case.largest), min(3, case.largest)
    wide[1] = -case.largest
    networks = [
        linear(np.zeros((2, 7))),
        linear([[case.largest]]),
        linear([[-case.largest], [0]], [5, -5]),
        linear(np.full((1, 256), min(15, case.largest))),
    ]
    if target != "host":  # whose indices have 32 bits
        networks += [linear(wide, high=high) for high in ((1, 9) if case.largest == 1 else (1,))]
        networks.append(linear([[0] * 65534 + [-1]], low=-1, high=1))
    assert_exact(networks, tmp_path, case.layout, target)


@EACH
@pytest.mark.parametrize("target", EVERY_CORE)
def test_cores_equal_network(case, target, tmp_path):
    rng = np.random.default_rng(3)
    hidden = Dense(random_sparse(rng, (33, 300), case.values[0]), rng.integers(-99, 99, 33), Activation.SIGN)
    last = Dense(rng.choice([*case.values[-1][:3], 0], (4, 33)), rng.integers(-9, 9, 4))
    assert_exact_on_core(network_of(hidden, last), tmp_path, case.layout, target)


@EACH
def test_avr_compiles_quietly(case, tmp_path):
    assert_avr_compiles_quietly(random_network(4, case.values[0]), tmp_path, case.layout)


@pytest.mark.parametrize(("case", "target"), WITH_TARGET)
def test_c_reads_no_other_memory(case, target, tmp_path):
    assert_defined([random_network(seed, case.values[-1]) for seed in range(20, 26)], tmp_path, case.layout, target)
