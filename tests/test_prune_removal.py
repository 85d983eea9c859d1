from __future__ import annotations

import numpy as np
import pytest

from mip2mcu.errors import UsageError
from mip2mcu.prune.budget import counts_for
from mip2mcu.prune.removal import pruned, removed
from mip2mcu.prune.selection import (
    Problem,
    above,
    best_of,
    by_chance,
    by_magnitude,
    by_spread,
)
from tests.float_networks import conv_network, dense_network, labelled_by


def kept_of(network, seed=0, share=0.6):
    rng = np.random.default_rng(seed)
    counts = counts_for(network.widths, share)
    return [np.sort(rng.permutation(w)[:c]) for w, c in zip(network.widths, counts, strict=True)]


def silenced(network, kept):
    """The whole network with the outgoing weights of removed units set to 0: what removal must compute."""
    for k, own in zip(network.prunable, kept, strict=True):
        after = network.reader(k)
        outgoing = network.outgoing(k).copy()
        outgoing[:, np.setdiff1d(np.arange(network.at(k).units), own)] = 0
        layer = network.at(after)
        network = network.with_layer(after, layer.with_matrix(outgoing.reshape(layer.matrix.shape), layer.bias))
    return network


@pytest.mark.parametrize("make", [dense_network, conv_network, lambda: conv_network(average=True)])
def test_removal_equals_silence(make):
    network = make()
    kept, rows = kept_of(network), np.random.default_rng(1).integers(0, 16, (30, int(np.prod(network.input_shape))))
    smaller = removed(network, kept)
    assert smaller.widths == tuple(len(own) for own in kept)
    assert np.allclose(smaller.scores(rows), silenced(network, kept).scores(rows))


@pytest.mark.parametrize("make", [dense_network, conv_network])
def test_a_refit_with_every_unit_kept_changes_nothing(make):
    network = make()
    data = labelled_by(network)
    everything = [np.arange(width) for width in network.widths]
    same = pruned(network, everything, data.inputs.astype(float), ridge=1e-9)
    centred = [n.scores(data.inputs) - n.scores(data.inputs).mean(axis=1, keepdims=True) for n in (network, same)]
    assert np.allclose(*centred, atol=1e-4)


@pytest.mark.parametrize("make", [lambda: dense_network((8, 12, 10, 3)), conv_network])
def test_folding_is_better_than_nothing_and_a_refit_better_than_folding(make):
    network = make()
    data = labelled_by(network, rows=600)
    kept, rows = kept_of(network, share=0.75), data.inputs.astype(float)

    def missed(smaller):
        scores = [n.scores(rows) - n.scores(rows).mean(axis=1, keepdims=True) for n in (network, smaller)]
        return ((scores[0] - scores[1]) ** 2).mean()

    errors = [missed(pruned(network, kept, rows, repair)) for repair in ("none", "fold", "refit")]
    assert errors[0] > errors[1] > errors[2]


def test_a_unit_that_is_a_copy_can_go_without_loss_after_a_refit():
    network = dense_network((5, 6, 4, 3))
    first = network.layers[0]
    weights, bias = first.weights.copy(), first.bias.copy()
    weights[5], bias[5] = 2 * weights[0], 2 * bias[0]
    network = network.with_layer(0, first.with_matrix(weights, bias))
    data = labelled_by(network)
    smaller = pruned(network, [np.arange(5), np.arange(4)], data.inputs.astype(float), ridge=1e-9)
    assert smaller.accuracy(data.inputs, data.labels) == 1.0


def test_emptying_a_layer_is_refused():
    network = dense_network()
    with pytest.raises(UsageError, match="layer 0 would lose all of its 5 units"):
        removed(network, [np.zeros(0, dtype=int), np.arange(4)])
    with pytest.raises(UsageError, match=r"empties a layer of 16 units: the smallest share possible is 3.2 %"):
        counts_for((32, 16), 0.02)
    with pytest.raises(UsageError, match="cannot be kept"):
        counts_for((32, 16), 0)
    with pytest.raises(UsageError, match="repair 'magic' is unknown"):
        pruned(network, kept_of(network), np.zeros((3, 6)), "magic")


def test_counts_are_shares_rounded_to_multiples():
    assert counts_for((32, 16), 0.45) == (14, 7)
    assert counts_for((32, 16), 0.45, 4) == (16, 8)
    assert counts_for((32, 3), 0.9, 4) == (28, 3)
    assert counts_for((32, 16), 0.032) == (1, 1)


def test_best_units_and_ties():
    selection = best_of([np.array([0.5, 0.9, 0.5]), np.array([1.0, 2.0])], (2, 1))
    assert [own.tolist() for own in selection.kept] == [[0, 1], [1]]


def test_a_threshold_keeps_as_many_as_reach_it():
    scores = [np.array([0.05, 0.9, 0.5]), np.array([0.3, 0.2])]
    assert [own.tolist() for own in above(scores, 0.3).kept] == [[1, 2], [0]]
    with pytest.raises(UsageError, match=r"no unit of layer 1 .* at least 0.5: .* possible is 0.3"):
        above(scores, 0.5)


@pytest.mark.parametrize("method", [by_chance, by_magnitude, by_spread])
@pytest.mark.parametrize("make", [dense_network, conv_network])
def test_simple_methods_keep_as_many_units_as_asked_for(make, method):
    network = make()
    data = labelled_by(network)
    problem = Problem(network, data.inputs.astype(float), data.labels, counts_for(network.widths, 0.5))
    assert tuple(len(own) for own in method(problem).kept) == problem.counts


@pytest.mark.parametrize("method", [by_magnitude, by_spread])
def test_units_that_nobody_reads_have_no_score(method):
    network = dense_network()
    second = network.layers[1]
    weights = second.weights.copy()
    weights[:, [1, 3]] = 0
    network = network.with_layer(1, second.with_matrix(weights, second.bias))
    data = labelled_by(network)
    problem = Problem(network, data.inputs.astype(float), data.labels, (3, 4))
    assert method(problem).scores[0][[1, 3]].tolist() == [0, 0]
