from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mip2mcu.errors import NoSolutionError, SolverError, UsageError
from mip2mcu.mip.solver import Solver, solve_matrix
from mip2mcu.prune.arrays import from_weights
from mip2mcu.prune.budget import counts_for
from mip2mcu.prune.decoupling import Scoring, backward_starts, oamip, oamip_scores
from mip2mcu.prune.float_network import FloatPool, window_counts
from mip2mcu.prune.heads import head_layers, mean_pool_to, with_head
from mip2mcu.prune.linear import Builder, intervals, rows_of
from mip2mcu.prune.oamip import Batch, class_batch, score_batch, score_model, unsure_batch
from mip2mcu.prune.selection import Problem
from tests.float_networks import conv_network, dense_network, labelled_by


def problem(network, **options):
    data = labelled_by(network, rows=120)
    return Problem(network, data.inputs.astype(float), data.labels, counts_for(network.widths, 0.5), **options)


def batch_of(network, count=3):
    data = labelled_by(network)
    return Batch(data.inputs[:count].astype(float), data.labels[:count])


@pytest.mark.parametrize("make", [conv_network, lambda: conv_network(average=True), dense_network])
def test_rows_are_what_layers_compute(make):
    network = make()
    rng = np.random.default_rng(0)
    for k, layer in enumerate(network.layers):
        if k and hasattr(layer, "average") and not layer.average:
            continue
        values = rng.normal(size=(1, *network.shapes[k]))
        rows = rows_of(layer, network.shapes[k])
        given = (np.where(rows.column < 0, 0.0, values.reshape(-1)[rows.column]) * rows.value).sum(axis=1)
        want = layer.forward(values) if hasattr(layer, "average") else layer.sums(values)
        assert np.allclose(given + rows.constant, want.reshape(-1))


def test_a_padding_value_is_part_of_the_constant():
    network = conv_network()
    layer = type(network.layers[0])(network.layers[0].weights, network.layers[0].bias, padding=(1, 1, 1, 1),
                                    padding_value=2.5)  # fmt: skip
    rows = rows_of(layer, (1, 8, 8))
    assert np.allclose(rows.constant, layer.sums(np.zeros((1, 1, 8, 8))).reshape(-1))


@pytest.mark.parametrize("make", [conv_network, dense_network])
def test_intervals_hold_every_sum_between_their_ends(make):
    network = make()
    rng = np.random.default_rng(0)
    size = int(np.prod(network.input_shape))
    found = intervals(network, np.zeros((1, size)), np.full((1, size), 15.0))
    values = rng.integers(0, 16, (100, *network.input_shape)).astype(float)
    for k, layer in enumerate(network.layers):
        sums = layer.forward(values) if hasattr(layer, "average") else layer.sums(values)
        assert (sums >= found.sums[k][0] - 1e-9).all()
        assert (sums <= found.sums[k][1] + 1e-9).all()
        values = layer.forward(values)


@pytest.mark.parametrize("make", [conv_network, lambda: conv_network(average=True), dense_network])
@pytest.mark.parametrize("relaxed", [True, False])
def test_with_all_scores_at_one_the_program_is_the_network(make, relaxed):
    network = make()
    batch = batch_of(network)
    model = score_model(network, batch, relaxed=relaxed)
    low = model.matrix.low.copy()
    for columns in model.scores:
        low[columns] = 1.0
    fixed = type(model.matrix)(**{**vars(model.matrix), "low": low})
    values, record = solve_matrix(fixed, Solver(time_limit=20))
    assert record.status == "optimal"
    want = network.scores(batch.inputs)
    assert np.abs(values[model.classes] - want).max() <= 0.02 * np.abs(want).max()


@pytest.mark.parametrize("relaxed", [True, False])
def test_scores_of_units_that_no_image_activates_are_zero(relaxed):
    network = from_weights([[[1, 0], [0, 1], [-1, -1]], [[2, -1, 5], [-1, 2, 5]]], [[0, 0, -1], [0, 0]])
    batch = Batch(np.array([[9.0, 1.0], [1.0, 9.0]]), np.array([0, 1]))
    (scores,), record = score_batch(network, batch, Solver(), relaxed=relaxed)
    assert record.status == "optimal"
    assert scores[2] == pytest.approx(0, abs=1e-3)
    assert scores[:2].min() > 0.02


def test_the_weight_of_the_loss_raises_scores():
    network = dense_network((6, 8, 5, 3))
    batch = batch_of(network, 5)
    light, heavy = (np.concatenate(score_batch(network, batch, Solver(), loss_weight=w)[0]) for w in (0.01, 100.0))
    assert light.mean() < heavy.mean()


def test_one_hidden_layer_pays_for_its_own_mean():
    network = from_weights([np.eye(3), np.eye(3)], [np.zeros(3), np.zeros(3)])
    batch = Batch(np.array([[4.0, 0, 0]]), np.array([0]))
    (scores,), record = score_batch(network, batch, Solver(), loss_weight=1e-6)
    assert record.objective == pytest.approx(-2.0, abs=1e-3)
    assert scores == pytest.approx([0, 0, 0], abs=1e-3)


def test_what_the_first_layer_gives_takes_no_variables():
    network = dense_network((6, 10, 8, 3))
    data = labelled_by(network)
    model = score_model(network, Batch(data.inputs[:3].astype(float), data.labels[:3]))
    later = 2 * 8 + 3  # sums and activities of the second layer, scores of the classes
    assert model.matrix.columns == 10 + 8 + 3 + 2 * 3 + 3 * later
    assert (np.diff(model.matrix.start) > 0).all()


def test_a_limit_that_ends_the_program_at_once_is_told_with_the_way_out():
    asked = problem(conv_network(), solver=Solver(time_limit=0.0))
    with pytest.raises(NoSolutionError, match=r"allow more time or nodes, .* or decouple the scores, best by layers"):
        oamip(asked)
    with pytest.raises(NoSolutionError, match=r"a simpler formulation$"):
        oamip(asked, Scoring("layers"))


def test_other_solvers_are_refused():
    network = dense_network()
    with pytest.raises(SolverError, match="take highs"):
        score_batch(network, batch_of(network), Solver(name="cbc"))


def test_the_batch_holds_one_image_a_class_of_those_least_sure():
    network = from_weights([np.eye(2), np.eye(2)], [np.zeros(2), np.zeros(2)])
    inputs = np.array([[9.0, 0], [3, 2], [0, 9], [2, 3]])
    labels = np.array([0, 0, 1, 1])
    batch = unsure_batch(network, inputs, labels, seed=0)
    assert sorted(batch.labels.tolist()) == [0, 1]
    assert [3.0, 2.0] in batch.inputs.tolist()
    assert [2.0, 3.0] in batch.inputs.tolist()
    assert class_batch(inputs, labels, 1, 5, seed=0).labels.tolist() == [1, 1]


@pytest.mark.parametrize("make", [dense_network, conv_network])
@pytest.mark.parametrize("decouple", ["none", "classes", "layers", "backward"])
def test_decoupled_scores_cover_every_layer(make, decouple, monkeypatch):
    monkeypatch.setattr("mip2mcu.prune.heads.STEPS", 20)
    network = make()
    asked = problem(network, solver=Solver(time_limit=20))
    scores, solves = oamip_scores(asked, Scoring(decouple))
    assert [len(own) for own in scores] == list(network.widths)
    assert all(0 <= own.min() <= own.max() <= 1 for own in scores)
    classes, layers = len(np.unique(asked.labels)), len(network.widths)
    backward = len(backward_starts(layers))
    assert len(solves) == {"none": 1, "classes": classes, "layers": layers, "backward": backward}[decouple]
    assert tuple(len(own) for own in oamip(asked, Scoring(decouple)).kept) == asked.counts


def test_backward_begins_at_the_third_last_layer_and_takes_two_more_at_a_time():
    assert [backward_starts(hidden) for hidden in range(7)] == [[], [0], [0], [0], [1, 0], [2, 0], [3, 1, 0]]


def test_backward_is_one_program_on_networks_of_three_hidden_layers_and_prunes_between_programs_on_deeper_ones():
    shallow, deep = problem(dense_network((6, 5, 4, 4, 3))), problem(dense_network((6, 5, 4, 4, 4, 3)))
    whole, backward = (oamip_scores(shallow, Scoring(d))[0] for d in ("none", "backward"))
    assert all(a == pytest.approx(b, abs=1e-3) for a, b in zip(whole, backward, strict=True))
    assert [record.stage for record in oamip_scores(deep, Scoring("backward"))[1]] == [
        "scores from layer 1 on",
        "scores from layer 0 on",
    ]


def test_a_head_has_the_published_layers():
    pool, conv, second, dense, last = head_layers((6, 28, 28), 10)
    assert (pool, second) == (FloatPool((4, 4), (4, 4), True), FloatPool((4, 4), (3, 3), True))
    assert [conv.weights.shape, dense.weights.shape, last.weights.shape] == [(6, 6, 1, 1), (24, 24), (10, 24)]
    assert [layer.weights.shape for layer in head_layers((7,), 3)] == [(3, 7)]


@given(st.integers(1, 60), st.integers(1, 60))
def test_mean_pools_reach_every_value(side, wanted):
    wanted = min(side, wanted)
    pool = mean_pool_to((side, side), [wanted, 1])
    assert window_counts((side, side), pool.window, pool.stride) == (wanted, 1)
    assert pool.stride[0] * (wanted - 1) + pool.window[0] == side


def test_a_head_learns_the_classes_from_one_layer():
    network = dense_network((6, 32, 3))
    data = labelled_by(network, rows=600)
    block = with_head(network, 0, data.inputs.astype(float), data.labels)
    assert block.layers[0] is network.layers[0]
    chance = np.bincount(data.labels).max() / data.rows
    assert block.accuracy(data.inputs, data.labels) > chance + 0.1


def test_results_do_not_depend_on_the_number_of_workers():
    network = dense_network()
    one, two = (oamip_scores(problem(network, workers=n), Scoring("classes"))[0] for n in (1, 2))
    assert all((a == b).all() for a, b in zip(one, two, strict=True))


def test_scoring_options_that_cannot_be_meant():
    nan = float("nan")
    for options in ({"decouple": "pixels"}, {"images": 0}, {"loss_weight": 0.0}, {"threshold": nan}, {"threshold": 2}):
        with pytest.raises(UsageError):
            Scoring(**options)


def test_a_builder_leaves_out_what_is_no_term():
    build = Builder()
    x = build.variables(2, 0.0, 1.0)
    build.rows([(np.array([[0, -1]]), np.array([[2.0, 3.0]])), (x[1:], np.zeros(1))], 1.0, 4.0)
    matrix = build.matrix()
    assert (matrix.column.tolist(), matrix.value.tolist(), matrix.start.tolist()) == ([0], [2.0], [0, 1])
