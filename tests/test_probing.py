"""Weights that stand in code: the selftest's vectors are chosen so that it notices when one of them changes."""

from dataclasses import replace

import numpy as np
import pytest

from mip2mcu.decisions import Argmax
from mip2mcu.export import generate
from mip2mcu.export.drawing import Drawing
from mip2mcu.export.probing import changes_of
from mip2mcu.export.selftest import hash_of
from mip2mcu.layers import Activation, Dense, Requantisation
from mip2mcu.network import Network
from tests.export_support import compile_host


def network_of(inputs, hidden, high, limit, relu=False, seed=1):
    """Sparse units whose sums are spread around 0, in front of three sums."""
    rng = np.random.default_rng(seed)
    weights = np.where(rng.random((hidden, inputs)) < 0.3, rng.integers(-limit, limit + 1, (hidden, inputs)), 0)
    bias = -(weights.sum(axis=1) * high) // 2 + rng.integers(-2, 3, hidden)
    scale = Requantisation(np.zeros(hidden, int), np.full(hidden, 900), np.full(hidden, 14))
    first = Dense(weights, bias, Activation.RELU if relu else Activation.SIGN, scale if relu else None)
    last = Dense(rng.choice([-1, 1], (3, hidden)), rng.integers(-3, 4, 3))
    return Network(np.zeros(inputs), np.full(inputs, high), (first, last), Argmax(3), tuple("abc"))


NETWORKS = {
    "bytes": network_of(40, 8, 255, 1),
    "bits": network_of(40, 8, 1, 1),
    "few bits": network_of(30, 6, 15, 3),
    "scaled": network_of(40, 8, 255, 1, relu=True),
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
    rows = Drawing.of(network, packed=False).rows(selftest.probes.seeds)

    def hashed(some):
        state = 0
        for row in rows:
            state = hash_of(some, row, state)
        return state

    assert hashed(network) == selftest.expected
    every = [(k, *change) for k in (0, 1) for change in np.stack(list(vars(changes_of(network, k)).values()), axis=1)]
    assert len(every) == selftest.probes.changes > 100
    assert selftest.probes.noticed >= 0.99 * selftest.probes.changes
    sample = np.random.default_rng(0).permutation(len(every))[:60]
    missed = [every[m] for m in sample if hashed(changed(network, *every[m])) == selftest.expected]
    assert len(missed) <= selftest.probes.changes - selftest.probes.noticed


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


def test_c_with_a_sign_changed_in_its_code_fails_its_selftest(tmp_path):
    exports = []
    for number in range(12):
        entry = generate(NETWORKS["bytes"], "host", f"net{number}", layout="unrolled")
        text = entry.files[f"net{number}.c"]
        places = [at for at in range(len(text)) if text.startswith((" += value;", " -= value;"), at)]
        at = places[number * len(places) // 12]
        text = text[: at + 1] + ("-" if text[at + 1] == "+" else "+") + text[at + 2 :]
        exports.append(replace(entry, files={**entry.files, f"net{number}.c": text}))
    exports.append(generate(NETWORKS["bytes"], "host", "right", layout="unrolled"))
    assert [compiled.selftest() for compiled in compile_host(exports, tmp_path)] == [-1] * 12 + [0]
