"""Generated C equals `Network` on random networks: every decision rule, layout, activation and coding."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from mip2mcu.errors import ExportError
from mip2mcu.export import generate
from mip2mcu.export.layouts import LAYOUTS
from mip2mcu.export.packing import pack_bits
from tests.export_support import assert_equal_to_network, compile_host, exports_of, random_network, random_rows


def check(seeds, folder, target="host", layout=None):
    networks = [random_network(seed) for seed in seeds]
    for seed, network, compiled in zip(
        seeds, networks, compile_host(exports_of(networks, target, layout), folder), strict=True
    ):
        rng = np.random.default_rng(seed)
        assert_equal_to_network(compiled, network, random_rows(network, 40, rng))
        if network.quantizer is not None:
            check_quantizer(compiled, network, rng)


def check_quantizer(compiled, network, rng):
    rows, features = 40, len(network.quantizer.features)
    bits = 31 if network.quantizer.raw_type == "int32_t" else 15
    raw = rng.integers(-(2**bits), 2**bits, (rows, features)) >> rng.integers(0, bits, (rows, features))
    for i, feature in enumerate(network.quantizer.features):
        raw[0, i] = getattr(feature.coding, "low", 0)
        raw[1, i] = getattr(feature.coding, "high", 1)
    inputs = network.quantize(raw)
    expected = pack_bits(inputs) if compiled.program.packed else inputs
    np.testing.assert_array_equal(compiled.quantize(raw), expected)


@settings(max_examples=8, deadline=None, phases=[Phase.generate])  # each example is a compilation
@given(seeds=st.lists(st.integers(0, 2**32 - 1), min_size=8, max_size=8, unique=True))
def test_c_equals_network_on_random_networks(seeds, tmp_path_factory):
    check(seeds, tmp_path_factory.mktemp("exact"))


@pytest.mark.parametrize("target", ["generic", "cortex-m4"])
def test_c_of_other_targets_is_exact_on_the_host_too(target, tmp_path):
    check(range(20), tmp_path, target)


def accepted(seeds, layout):
    """Those of the random networks whose every layer ``layout`` accepts."""
    found = []
    for seed in seeds:
        with suppress(ExportError):
            generate(random_network(seed), layout=layout)
            found.append(seed)
    return found


FOR_DENSE_LAYERS = [name for name in LAYOUTS if accepted(range(12), name)]


@pytest.mark.parametrize("target", ["cortex-m", "generic"])
@pytest.mark.parametrize("layout", FOR_DENSE_LAYERS)
def test_every_layout_is_exact_on_every_network_that_it_accepts(layout, target, tmp_path):
    seeds = accepted(range(100, 140), layout)[:6]
    assert len(seeds) >= 3
    check(seeds, tmp_path, target, layout)
