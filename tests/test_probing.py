"""Weights that stand in code: the selftest's vectors are chosen so that it notices when one of them changes."""

import re
from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from mip2mcu.decisions import Argmax, Vote
from mip2mcu.export import generate
from mip2mcu.export.drawing import Drawing
from mip2mcu.export.layouts import Encoding
from mip2mcu.export.probing import can_matter, changes_of, choose
from mip2mcu.export.reachable import can_flip
from mip2mcu.export.selftest import Coded, hash_of_layer
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


def pairs(classes=4, inputs=24, seed=0):
    """A vote of pairs with two hidden layers of 4 units each: sums of 4 signs, behind units that seldom change."""
    rng, members = np.random.default_rng(seed), classes * (classes - 1) // 2
    signs, block = (rng.choice([-1, 1], (4 * members, width)) for width in (inputs, 4 * members))
    own = np.kron(np.eye(members, dtype=int), np.ones((4, 4), dtype=int))
    layers = (
        Dense(signs * (rng.random(signs.shape) < 0.3), np.zeros(4 * members), Activation.SIGN),
        Dense(block * own, np.zeros(4 * members), Activation.SIGN),
        Dense((block * own)[::4], np.zeros(members)),
    )
    return Network(np.zeros(inputs), np.full(inputs, 255), layers, Vote(classes), tuple("abcdefgh"[:classes]))


NETWORKS = {
    "bytes": network_of(40, 8, 255, 1),
    "bits": network_of(40, 8, 1, 1),
    "few bits": network_of(30, 6, 15, 3),
    "scaled": network_of(40, 8, 255, 1, relu=True),
    "one-sided": network_of(90, 8, 1, 1, shift=11),
    "pairs": pairs(),
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


def probes_of(network):
    return generate(network, "cortex-m", layout="unrolled").program.selftest.probes


@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
def test_every_change_of_a_weight_in_code_gives_another_hash_or_is_proved_to_be_without_effect(network):
    found = probes_of(network)
    assert sum(probes.noticed for probes in found.values()) > 240
    for k, probes in found.items():
        coded = Coded(k, k, "int8_t", Encoding.VALUES)
        right = hash_of_layer(network, coded, probes, 0)
        every = np.stack(list(vars(changes_of(network.layers[k])).values()), axis=1).tolist()
        missed = [
            change for change in every if hash_of_layer(changed(network, k, *change), coded, probes, 0) == right
        ]
        assert probes.noticed == probes.changes == len(every) - len(missed) > 60
        assert probes.without_effect == len(missed)
        low, high = (end.reshape(-1) for end in network.layer_ranges[k])
        assert not any(can_flip(network.layers[k], *change, low, high) for change in missed)


def test_a_change_in_a_deep_layer_that_is_missed_changes_its_outputs_for_no_inputs_at_all():
    network = pairs(classes=6, seed=2)
    values = np.array(list(product((-1, 0, 1), repeat=4)))
    layer, probes = network.layers[1], probes_of(network)[1]
    coded = Coded(1, 1, "int8_t", Encoding.VALUES)
    right, missed = hash_of_layer(network, coded, probes, 0), 0
    for unit, position, delta in zip(*vars(changes_of(layer)).values(), strict=True):
        other = changed(network, 1, unit, position, delta)
        if hash_of_layer(other, coded, probes, 0) == right:
            rows = np.zeros((len(values), 60), dtype=int)
            rows[:, unit // 4 * 4 : unit // 4 * 4 + 4] = values
            np.testing.assert_array_equal(layer.forward(rows), other.layers[1].forward(rows))
            missed += 1
    assert missed == probes.without_effect


def ends(network):
    return network.input_low, network.input_high


def test_sums_that_one_row_in_millions_reaches_are_reached():
    network = NETWORKS["one-sided"]
    probes = probes_of(network)[0]
    assert len(probes.patterns) > 0
    rows = Drawing.of(*ends(network)).vectors(probes.vectors, probes.patterns)
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


def test_changes_that_no_inputs_can_show_are_counted_by_themselves():
    layer = Dense([[1, 1], [1, -1]], [9, 0], Activation.SIGN)  # the first fires whatever the inputs are
    drawing = Drawing.of(np.array([0, 0]), np.array([3, 3]))
    every = changes_of(layer)
    changes = every.only(np.flatnonzero(can_matter(layer, every, drawing)))
    by_unit = {unit: set(changes.delta[changes.unit == unit].tolist()) for unit in (0, 1)}
    assert by_unit == {0: {-18}, 1: {-2, -1, 1, 2}}  # a bias of -9 makes the first rest, without one it fires
    probes = choose(layer, drawing)
    assert (probes.noticed, probes.changes, probes.without_effect) == (9, 9, 9)


def test_the_only_layer_is_tested_by_the_networks_own_vectors():
    network = Network(np.zeros(9), np.full(9, 255), (Dense(np.arange(-9, 9).reshape(2, 9), [1, 0]),), Argmax(2), "ab")
    selftest = generate(network, "cortex-m", layout="unrolled").program.selftest
    assert selftest.layers == selftest.tables == ()
    assert selftest.probes[0].noticed == selftest.probes[0].changes > 60


def test_inner_ranges_that_differ_are_kept_wherever_the_tensors_lie(tmp_path):
    rng = np.random.default_rng(5)
    first = Dense(rng.integers(-1, 2, (9, 12)), [*[0] * 7, 99, -99], Activation.SIGN)  # the last two never change
    scale = Requantisation(np.zeros(9, int), np.full(9, 9000), np.full(9, 12))  # unit j gives at most 20 j or so
    second = Dense(np.diag(np.arange(9)), rng.integers(0, 9, 9), Activation.RELU, scale)
    last = Dense(rng.integers(-9, 10, (3, 9)), [0, 1, 2])
    wide = Dense(rng.integers(-1, 2, (300, 12)), rng.integers(-2, 3, 300), Activation.SIGN)
    behind = Dense(rng.integers(-1, 2, (3, 300)), [0, 1, 2])
    networks = [
        Network(np.zeros(12), np.ones(12), layers, Argmax(3), tuple("abc"))
        for layers in ((first, second, last), (wide, behind))
    ]
    exports = [
        generate(network, "host", f"net{number}{'s' if static else ''}", layout="unrolled", static_scratch=static)
        for number, network in enumerate(networks)
        for static in (False, True)
    ]
    homes = [export.program.scratch.home.value for export in exports]
    assert homes == ["stack", "static", "caller", "static"]
    drawn = [test.drawn for test in exports[0].program.selftest.layers]
    assert drawn[0] is None
    assert drawn[1].low.values == (-1, -1, -1, -1, -1, -1, -1, 1, -1)
    assert drawn[1].span.values == (3, 3, 3, 3, 3, 3, 3, 1, 1)
    assert len(set(drawn[2].span.values)) > 5
    assert [compiled.selftest() for compiled in compile_host(exports, tmp_path)] == [0, 0, 0, 0]


def test_seeds_give_minima_maxima_and_thinner_rows_within_the_ranges():
    network = Network(np.full(300, -5), np.full(300, 250), (Dense(np.ones((1, 300)), [0]),), Argmax(1), ("a",))
    rows = Drawing.of(*ends(network)).rows(range(12))
    assert (rows[0] == -5).all() and (rows[1] == 250).all()
    assert rows[2:].min() >= -5 and rows[2:].max() <= 250
    shares = [(rows[seed] == -5).mean() for seed in (4, 5, 6, 7)]
    np.testing.assert_allclose(shares, [0, 1 / 2, 3 / 4, 7 / 8], atol=0.1)


def test_packed_rows_have_as_many_bits():
    network = Network(np.zeros(320), np.ones(320), (Dense(np.ones((1, 320)), [0]),), Argmax(1), ("a",))
    rows = Drawing.of(*ends(network), packed=True).rows(range(8))
    np.testing.assert_allclose(rows.mean(axis=1), [0, 1, 1 / 8, 1 / 16, 1 / 2, 1 / 4, 1 / 8, 1 / 16], atol=0.1)


@pytest.mark.parametrize("kind", ["bytes", "bits", "pairs"])
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
