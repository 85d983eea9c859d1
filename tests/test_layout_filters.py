"""Filters in C: smoothing, edges and sums of windows equal the reference on images and series."""

from __future__ import annotations

import numpy as np
import pytest

from mip2mcu.decisions import Argmax
from mip2mcu.export import generate
from mip2mcu.filters import Edges, Smooth
from mip2mcu.layers import AveragePool, Dense, SumPool
from mip2mcu.network import Network
from tests.export_support import assert_equal_to_network, compile_host, random_rows
from tests.layout_support import assert_avr_compiles_quietly, assert_defined, assert_exact_on_core


def filtered(stages, shape, low=0, high=255):
    elements = int(np.prod(shape))
    inner = shape
    for stage in stages:
        inner = stage.output_shape(inner)
    size = int(np.prod(inner))
    last = Dense(np.arange(2 * size).reshape(2, size) % 7 - 3, [0, 1])
    layers = (*stages, last)
    return Network(np.full(elements, low), np.full(elements, high), layers, Argmax(2), ("a", "b"), shape)


NETWORKS = {
    "smooth": filtered([Smooth()], (1, 5, 7)),
    "smooth twice, two channels": filtered([Smooth(), Smooth()], (2, 4, 3)),
    "smooth series": filtered([Smooth()], (3, 1, 9), high=1000),
    "smooth one column": filtered([Smooth()], (1, 4, 1)),
    "smooth one value": filtered([Smooth()], (2, 1, 1)),
    "sums": filtered([SumPool((2, 3), (1, 2))], (2, 5, 7), low=-9, high=100),
    "sums of many": filtered([SumPool((1, 16), (1, 8))], (2, 1, 40), low=-128, high=127),
    "edges": filtered([Edges(4, 4)], (1, 28, 28)),
    "edges of bits": filtered([Edges(2, 0)], (1, 8, 8), high=1),
    "edges of signed values": filtered([Edges(3, 5)], (2, 7, 10), low=-1000, high=3000),
    "edges of step 1": filtered([Edges(1, 0)], (1, 5, 4), high=16),
    "edges of a small image": filtered([Edges(8, 3)], (1, 2, 3)),
    "edges, wide sums": filtered([Edges(16, 12)], (1, 20, 20), low=-32767, high=32767),
    "slopes": filtered([Edges(5, 1)], (6, 1, 33)),
    "slopes of a short series": filtered([Edges(9, 0)], (2, 1, 2)),
    "slopes of slopes": filtered([Edges(1, 0), Edges(2, 0)], (1, 1, 12), high=40),
    "smoothed, edges, pooled": filtered([Smooth(), Edges(2, 2), AveragePool((2, 2), (2, 2))], (1, 12, 12)),
}


@pytest.fixture(scope="module", params=["cortex-m4", "avr"])
def compiled(request, tmp_path_factory):
    """All networks as compiled for this machine from the C of a target with 32-bit and one with 8-bit words."""
    target = "generic" if request.param == "avr" else request.param
    exports = [generate(network, target, f"filter{k}") for k, network in enumerate(NETWORKS.values())]
    return dict(zip(NETWORKS, compile_host(exports, tmp_path_factory.mktemp("filters")), strict=True))


@pytest.mark.parametrize("name", NETWORKS)
def test_filters_are_exact(name, compiled):
    network = NETWORKS[name]
    assert_equal_to_network(compiled[name], network, random_rows(network, 60, np.random.default_rng(0)))


def test_filters_stay_within_their_arrays(tmp_path):
    assert_defined(list(NETWORKS.values()), tmp_path, "auto")


@pytest.mark.parametrize("target", ["cortex-m0", "rv32ec", "avr"])
@pytest.mark.parametrize("name", ["smoothed, edges, pooled", "slopes"])
def test_filters_are_exact_on_a_core(name, target, tmp_path):
    assert_exact_on_core(NETWORKS[name], tmp_path, "auto", target)


@pytest.mark.parametrize("name", NETWORKS)
def test_filters_raise_no_warning_on_avr(name, tmp_path):
    assert_avr_compiles_quietly(NETWORKS[name], tmp_path, "auto")


def test_edges_hold_two_lines_of_blocks_only():
    layer = generate(NETWORKS["edges"], "avr").program.layers[0]
    (blocks,) = layer.lowered.work
    assert (blocks.c_type, blocks.length) == ("uint16_t", 2 * 8 * 8)
