"""Input stages: filters by hand, texts, the seam between data, training and model, augmentation, selection."""

from __future__ import annotations

import json

import numpy as np
import pytest

from mip2mcu import Dataset, Network, evaluate, train
from mip2mcu.augmentation import Augmentation, augmented
from mip2mcu.errors import DatasetError, ModelError, UsageError
from mip2mcu.filters import Edges, Smooth
from mip2mcu.layers import AveragePool, MaxPool, SumPool
from mip2mcu.model_file import digest
from mip2mcu.selection import medoids
from mip2mcu.stages import fit_stages, shaped, through

IMAGE = np.array([[[[0, 0, 16], [0, 32, 0], [0, 0, 0]]]])


def bars(rows=24, seed=0, side=8):
    """Images of a horizontal or a vertical bar at a random place."""
    rng = np.random.default_rng(seed)
    labels = np.arange(rows) % 2
    images = rng.integers(0, 30, (rows, 1, side, side))
    for image, label in zip(images, labels, strict=True):
        place = rng.integers(1, side - 1)
        image[0, place if label else slice(None), slice(None) if label else place] = 200
    return Dataset.from_arrays(images, labels)


# ---- filters by hand -----------------------------------------------------------------------------------------------


def test_smoothing_by_hand():
    assert Smooth().forward(IMAGE).tolist() == [[[[2, 7, 11], [4, 9, 7], [2, 4, 2]]]]


def test_smoothing_a_series_by_hand():
    assert Smooth().forward(np.array([[[[4, 0, 0, 1]]]])).tolist() == [[[[3, 1, 0, 1]]]]


def test_smoothing_keeps_a_constant():
    assert (Smooth().forward(np.full((1, 2, 5, 4), 255)) == 255).all()


def test_smoothing_refuses_negative_values():
    with pytest.raises(ModelError, match="its inputs reach -1"):
        Smooth().output_range(np.full((1, 2, 2), -1), np.full((1, 2, 2), 1))


def test_slopes_by_hand():
    series = np.array([[[[0, 3, 3, 10, 4, 4]]]])
    assert Edges(1, 0).totals(series).tolist() == [[[[6, 10, 8, 1, 0, 0]], [[0, 0, 0, 6, 6, 0]]]]
    assert Edges(2, 1).forward(series).tolist() == [[[[6, 5, 0]], [[0, 3, 3]]]]


def test_edges_of_a_step_to_the_right():
    image = np.tile(np.array([0, 0, 9, 9]), (4, 1))[None, None]
    rising, falling, *others = Edges(4, 0).totals(image)[0, :, 0, 0].tolist()
    assert (rising, falling) == (4 * 18, 0)
    assert others == [4 * 18, 0, 0, 0, 0, 4 * 18]


def test_edges_beyond_255_are_255():
    image = np.tile(np.array([0, 0, 255, 255]), (4, 1))[None, None]
    assert Edges(4, 2).forward(image)[0, :2, 0, 0].tolist() == [255, 0]


@pytest.mark.parametrize(("extent", "step", "cells"), [(28, 4, 7), (8, 2, 4), (29, 4, 7), (31, 4, 8), (2, 9, 1)])
def test_windows_cover_the_whole_side(extent, step, cells):
    edges = Edges(step, 0)
    assert edges.cells(extent) == cells
    assert -(step // 2) + (cells - 1) * step + 2 * step >= extent


@pytest.mark.parametrize(("step", "shift"), [(0, 0), (65, 0), (1, -1), (1, 17)])
def test_edges_that_are_refused(step, shift):
    with pytest.raises(ModelError, match="are not within"):
        Edges(step, shift)


def test_sums_by_hand():
    assert SumPool((2, 2), (1, 1)).forward(IMAGE).tolist() == [[[[32, 48], [32, 32]]]]
    low, high = SumPool((1, 2), (1, 2)).output_range(np.full((1, 1, 4), -3), np.full((1, 1, 4), 5))
    assert (low.tolist(), high.tolist()) == ([[[-6, -6]]], [[[10, 10]]])


# ---- texts ---------------------------------------------------------------------------------------------------------


def test_texts_become_layers():
    stages = fit_stages(["smooth", "max:2", "edges:1", "mean:2", "sum:2:1"], bars())
    assert [type(stage) for stage in stages] == [Smooth, MaxPool, Edges, AveragePool, SumPool]
    assert (stages[1].window, stages[1].stride) == ((2, 2), (2, 2))


def test_windows_of_series_are_one_row():
    series = shaped(Dataset.from_arrays(np.arange(48).reshape(4, 12), [0, 0, 1, 1]), (2, 1, 6))
    (stage,) = fit_stages(["mean:3:2"], series)
    assert (stage.window, stage.stride) == ((1, 3), (1, 2))
    assert through(series, [stage]).input_shape == (2, 1, 2)


def test_edges_lose_as_few_bits_as_the_training_rows_allow():
    (faint,) = fit_stages(["edges:4"], Dataset.from_arrays(bars().inputs.reshape(-1, 1, 8, 8) // 16, [0, 1] * 12))
    (strong,) = fit_stages(["edges:4"], bars())
    assert faint.shift < strong.shift
    cut = Edges(4, 0).totals(bars().inputs.reshape(-1, 1, 8, 8)) >> strong.shift > 255
    assert cut.mean() <= 0.05


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("blur", "there is no stage 'blur'"),
        ("smooth:2", "'smooth:2' is not understood"),
        ("edges", "'edges' is not understood"),
        ("edges:x", "'edges:x' is not understood"),
        ("mean:0", "'mean:0' is not understood"),
        ("mean:1:2:3", "is not understood"),
        ("edges:65", "windows 65 apart are not possible"),
    ],
)
def test_texts_that_name_no_stage(text, message):
    with pytest.raises(UsageError, match=message):
        fit_stages([text], bars())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("slopes:2", "does not take an image"),
        ("mean:9", "does not fit into"),
    ],
)
def test_data_that_cannot_pass(text, message):
    with pytest.raises(DatasetError, match=message):
        fit_stages([text], bars())


def test_sums_beyond_the_inputs_limit_are_refused():
    with pytest.raises(DatasetError, match=r"SumPool reach 0\.\.65280, beyond 32767: take smaller windows"):
        fit_stages(["sum:16"], bars(side=16))


def test_flat_rows_need_a_shape():
    flat = Dataset.from_arrays(np.arange(64).reshape(4, 16), [0, 0, 1, 1])
    with pytest.raises(DatasetError, match="say how it is to be read, such as --shape 28x28"):
        fit_stages(["smooth"], flat)
    assert fit_stages(["smooth"], shaped(flat, (4, 4)))
    with pytest.raises(DatasetError, match="shape 5x4 is no"):
        shaped(flat, (5, 4))


# ---- training behind stages ----------------------------------------------------------------------------------------


def test_a_network_behind_stages_reads_the_data_s_own_rows(tmp_path):
    data, test = bars(), bars(40, seed=1)
    trained = train(data, stages=["smooth", "edges:2"], node_limit=0)
    network = trained.network
    assert [type(layer).__name__ for layer in network.layers] == ["Smooth", "Edges", "Dense"]
    assert (network.input_shape, network.inputs) == ((1, 8, 8), 64)
    assert trained.report.correct == evaluate(network, data).correct
    assert evaluate(network, test).accuracy > 0.9
    assert dict(trained.report.options)["stages"] == ("smooth", "edges:2")
    network.save(tmp_path / "model.json")
    assert Network.load(tmp_path / "model.json").sha256 == network.sha256


def test_the_quantizer_stays_in_front(tmp_path):
    data = bars()
    np.savez(tmp_path / "bars.npz", X=data.inputs.reshape(-1, 8, 8).astype(np.uint8), y=data.labels)
    read = shaped(Dataset.read(tmp_path / "bars.npz"), (8, 8))
    for copies, stages in ((0, ["edges:2"]), (1, []), (1, ["edges:2"])):
        network = train(read, stages=stages, copies=copies, node_limit=0).network
        assert network.quantizer == read.quantizer
        assert network.quantize(read.raw).tolist() == read.inputs.tolist()


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"kind": "edges", "step": 0, "shift": 0}, "entry 'step' of the model file is 0"),
        ({"kind": "edges", "step": 2, "shift": 99}, "entry 'shift' of the model file is 99"),
        ({"kind": "edges", "step": 2}, "lacks the entry 'shift'"),
        ({"kind": "smooth", "step": 2}, "unknown entry 'step'"),
        ({"kind": "sum_pool", "window": [0, 1], "stride": [1, 1]}, "must be pairs"),
        ({"kind": "blur"}, "is 'blur', expected one of"),
    ],
)
def test_hostile_stages_are_refused(entry, message, tmp_path):
    path = tmp_path / "model.json"
    train(bars(), stages=["edges:2"], node_limit=0).network.save(path)
    document = json.loads(path.read_text())
    document["layers"][0] = entry
    document["sha256"] = digest(document)
    path.write_text(json.dumps(document))
    with pytest.raises(ModelError, match=message):
        Network.load(path)


# ---- augmentation and selection ------------------------------------------------------------------------------------


def test_copies_follow_the_rows_and_repeat_for_a_seed():
    data = bars(6)
    more = augmented(data, Augmentation(2), seed=3)
    assert more.rows == 18
    assert more.inputs[:6].tolist() == data.inputs.tolist()
    assert more.labels.tolist() == data.labels.tolist() * 3
    assert (more.inputs[6:12] != data.inputs).any(axis=1).all()
    assert more.inputs.tolist() == augmented(data, Augmentation(2), seed=3).inputs.tolist()
    assert more.inputs.tolist() != augmented(data, Augmentation(2), seed=4).inputs.tolist()


def test_no_change_gives_the_row_itself():
    data = bars(4)
    more = augmented(data, Augmentation(1, shift=0, turn=0, scale=0), seed=0)
    assert more.inputs[4:].tolist() == data.inputs.tolist()


def test_copies_of_series_shift_all_series_alike():
    series = shaped(Dataset.from_arrays(np.arange(80).reshape(2, 40), [0, 1]), (2, 1, 20))
    more = augmented(series, Augmentation(1, shift=40, noise=0), seed=1).inputs.reshape(-1, 2, 20)
    moved = more[2, 0] - more[0, 0]
    assert (more[2, 1] - more[0, 1]).tolist() == moved.tolist()
    assert len(set(moved[4:-4].tolist())) == 1


def test_training_on_copies_counts_the_given_rows_only():
    trained = train(bars(), copies=2, stages=["edges:2"], node_limit=0)
    assert trained.report.rows == 24
    assert dict(trained.report.options)["copies"] == 2


def test_flat_rows_are_not_augmented():
    flat = Dataset.from_arrays(np.arange(64).reshape(4, 16), [0, 0, 1, 1])
    with pytest.raises(DatasetError, match="only images and series are augmented"):
        augmented(flat, Augmentation(1), seed=0)
    with pytest.raises(UsageError, match="-1 copies of each row are not possible"):
        Augmentation(-1)


def test_medoids_are_the_rows_in_the_middle():
    values = np.array([[0], [1], [2], [100], [101], [103], [50], [51]])
    data = Dataset.from_arrays(values, [0] * 6 + [1] * 2)
    assert medoids(data, 2).inputs[:, 0].tolist() == [1, 101, 50, 51]
    assert medoids(data, 1).rows == 2
    with pytest.raises(UsageError, match="0 medoids of each class are not possible"):
        medoids(data, 0)
