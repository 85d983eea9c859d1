"""Weights that stand in code: the selftest's vectors are chosen so that it notices when one of them changes."""

import re
from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from mip2mcu.decisions import Argmax
from mip2mcu.export import generate
from mip2mcu.export.drawing import Drawing
from mip2mcu.export.probing import changes_of
from mip2mcu.export.reachable import can_flip
from mip2mcu.export.selftest import hash_of
from mip2mcu.layers import Activation, Dense, Requantisation
from mip2mcu.network import Network
from tests.export_support import compile_host


def network_of(inputs, hidden, high, limit, relu=False, seed=1, shift=0):
    """Sparse units whose sums are spread around ``shift`` or its opposite, in front of three sums."""
    rng = np.random.default_rng(seed)
    weights = np.where(rng.random((hidden, inputs)) < 0.3, rng.integers(-limit, limit + 1, (hidden, inputs)), 0)
    bias = -(weights.sum(axis=1) * high) // 2 + rng.integers(-2, 3, hidden) + np.resize([shift, -shift], hidden)
    scale = Requantisation(np.zeros(hidden, int), np.full(hidden, 900), np.full(hidden, 14))
    first = Dense(weights, bias, Activation.RELU if relu else Activation.SIGN, scale if relu else None)
    last = Dense(rng.choice([-1, 1], (3, hidden)), rng.integers(-3, 4, 3))
    return Network(np.zeros(inputs), np.full(inputs, high), (first, last), Argmax(3), tuple("abc"))


NETWORKS = {
    "bytes": network_of(40, 8, 255, 1),
    "bits": network_of(40, 8, 1, 1),
    "few bits": network_of(30, 6, 15, 3),
    "scaled": network_of(40, 8, 255, 1, relu=True),
    "one-sided": network_of(90, 8, 1, 1, shift=11),
}


def changed(network, k, unit, position, delta):
    """``network`` with one weight of layer ``k`` changed; the input behind the last is the bias."""
    layer = network.layers[k]
    weights, bias = layer.weights.copy(), layer.bias.copy()
    if position == weights.shape[1]:
        bias[unit] += delta
    else:
        weights[unit, position] += delta
    layers = list(network.layers)
    layers[k] = replace(layer, weights=weights, bias=bias)
    return replace(network, layers=tuple(layers))


@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
def test_every_change_of_a_weight_in_code_gives_another_hash(network):
    selftest = generate(network, "cortex-m", layout="unrolled").program.selftest
    rows = Drawing.of(network, packed=False).vectors(selftest.probes.vectors, selftest.probes.patterns)

    def hashed(some):
        state = 0
        for row in rows:
            state = hash_of(some, row, state)
        return state

    assert hashed(network) == selftest.expected
    every = [(k, *change) for k in (0, 1) for change in np.stack(list(vars(changes_of(network, k)).values()), axis=1)]
    assert selftest.probes.noticed == selftest.probes.changes > 240
    assert 0 <= len(every) - selftest.probes.changes <= 0.1 * len(every)  # those that no inputs can show
    sample = np.random.default_rng(0).permutation(len(every))[:60]
    missed = [every[m] for m in sample if hashed(changed(network, *every[m])) == selftest.expected]
    assert all(k == 0 and not can_flip(network.layers[0], *change, *ends(network)) for k, *change in missed)


def ends(network):
    return network.input_low, network.input_high


def test_sums_that_one_row_in_millions_reaches_are_reached():
    network = NETWORKS["one-sided"]
    selftest = generate(network, "cortex-m", layout="unrolled").program.selftest
    assert len(selftest.probes.patterns) > 0
    rows = Drawing.of(network, packed=False).vectors(selftest.probes.vectors, selftest.probes.patterns)
    sums = network.layers[0].sums(rows)
    low, high = network.layers[0].sum_range(*ends(network))
    assert all(set(sums[:, j]) >= {0, -1} for j in range(8) if low[j] < 0 <= high[j])


def test_which_changes_inputs_can_show_is_known_exactly():
    rng = np.random.default_rng(7)
    for _ in range(20):
        layer = Dense(rng.integers(-3, 4, (2, 5)), rng.integers(-6, 7, 2), Activation.SIGN)
        low, high = np.array([0, -1, 0, 2, 0]), np.array([1, 1, 3, 3, 0])
        rows = np.array(list(product(*(range(a, b + 1) for a, b in zip(low, high, strict=True)))))
        for j, position, delta in product(range(2), range(6), (-2, -1, 1, 2)):
            weights = np.column_stack([layer.weights, layer.bias])
            weights[j, position] += delta
            other = Dense(weights[:, :-1], weights[:, -1], Activation.SIGN)
            shown = (layer.forward(rows) != other.forward(rows)).any()
            assert can_flip(layer, j, position, delta, low, high) == shown


def test_changes_that_no_inputs_can_show_are_not_asked_for():
    silent = Dense([[1, 1], [1, -1]], [9, 0], Activation.SIGN)  # the first fires whatever the inputs are
    network = Network([0, 0], [3, 3], (silent, Dense([[1, 1]], [0])), Argmax(1), ("a",))
    changes = changes_of(network, 0)
    by_unit = {unit: set(changes.delta[changes.unit == unit].tolist()) for unit in (0, 1)}
    assert by_unit == {0: {-18}, 1: {-2, -1, 1, 2}}  # a bias of -9 makes the first rest, without one it fires
    unread = replace(network, layers=(silent, Dense([[1, 0]], [0])))
    assert set(changes_of(unread, 0).unit) == {0}


def test_seeds_give_minima_maxima_and_thinner_rows_within_the_ranges():
    network = Network(np.full(300, -5), np.full(300, 250), (Dense(np.ones((1, 300)), [0]),), Argmax(1), ("a",))
    rows = Drawing.of(network, packed=False).rows(range(12))
    assert (rows[0] == -5).all() and (rows[1] == 250).all()
    assert rows[2:].min() >= -5 and rows[2:].max() <= 250
    shares = [(rows[seed] == -5).mean() for seed in (4, 5, 6, 7)]
    np.testing.assert_allclose(shares, [0, 1 / 2, 3 / 4, 7 / 8], atol=0.1)


def test_packed_rows_have_as_many_bits():
    network = Network(np.zeros(320), np.ones(320), (Dense(np.ones((1, 320)), [0]),), Argmax(1), ("a",))
    rows = Drawing.of(network, packed=True).rows(range(8))
    np.testing.assert_allclose(rows.mean(axis=1), [0, 1, 1 / 8, 1 / 16, 1 / 2, 1 / 4, 1 / 8, 1 / 16], atol=0.1)


@pytest.mark.parametrize("kind", ["bytes", "bits"])
def test_c_with_a_sign_changed_in_its_code_fails_its_selftest(kind, tmp_path):
    exports = []
    for number in range(24):
        entry = generate(NETWORKS[kind], "host", f"net{number}", layout="unrolled")
        text = entry.files[f"net{number}.c"]
        text = text[: text.index("int net")]
        places = [found.start() for found in re.finditer(r" [+-]= \(?value", text)]
        at = places[number * len(places) // 24] + 1
        whole = entry.files[f"net{number}.c"]
        whole = whole[:at] + ("-" if whole[at] == "+" else "+") + whole[at + 1 :]
        exports.append(replace(entry, files={**entry.files, f"net{number}.c": whole}))
    exports.append(generate(NETWORKS[kind], "host", "right", layout="unrolled"))
    assert [compiled.selftest() for compiled in compile_host(exports, tmp_path)] == [-1] * 24 + [0]
