"""Accuracy is counted exactly."""

from __future__ import annotations

import json

import numpy as np
import pytest

from mip2mcu import evaluation
from mip2mcu.dataset import UNKNOWN_LABEL, Dataset
from mip2mcu.decisions import Argmax, Sign, Vote
from mip2mcu.errors import DatasetError, ModelError
from mip2mcu.evaluation import evaluate, predictions
from mip2mcu.layers import Dense
from mip2mcu.network import Network
from mip2mcu.quantizer import Feature, OneHot, Quantizer, Thermometer


def above_four():
    """One input of 0..9: "high" from 5 on."""
    return Network([0], [9], (Dense([[-1]], [4]),), Sign(), ("low", "high"))


def data(values, labels, classes=("low", "high")):
    return Dataset.from_arrays(np.array(values)[:, None], labels, input_range=(0, 9), classes=classes)


def test_counts_by_hand():
    result = evaluate(above_four(), data([0, 4, 5, 9, 1], ["low", "high", "high", "high", "low"]))
    assert result.confusion.tolist() == [[2, 0, 0], [1, 2, 0]]
    assert (result.rows, result.correct, result.accuracy, result.unclassified) == (5, 4, 0.8, 0)
    assert result.majority == 0.6


def test_margins_are_told_by_quartiles():
    result = evaluate(above_four(), data([0, 4, 5, 9, 1], ["low", "high", "high", "high", "low"]))
    assert result.margins == (0, 1, 3, 4, 5)


def test_unclassified_rows_are_errors():
    circle = Network([0], [9], (Dense([[0], [0], [0]], [1, -1, 1]),), Vote(3), ("a", "b", "c"))
    result = evaluate(circle, data([1, 2], ["a", "c"], ("a", "b", "c")))
    assert result.confusion.tolist() == [[0, 0, 0, 1], [0, 0, 0, 0], [0, 0, 0, 1]]
    assert (result.correct, result.unclassified, result.accuracy) == (0, 2, 0.0)


def test_chunks_give_the_same_counts(monkeypatch):
    rows = data([0, 4, 5, 9, 1, 7, 2], ["low", "high"] * 3 + ["low"])
    whole = evaluate(above_four(), rows)
    monkeypatch.setattr(evaluation, "CHUNK_ROWS", 2)
    assert [len(labels) for labels, _ in predictions(above_four(), rows)] == [2, 2, 2, 1]
    assert evaluate(above_four(), rows).confusion.tolist() == whole.confusion.tolist()


def test_values_beyond_training_are_counted_by_feature():
    quantizer = Quantizer((Feature("t", Thermometer(0, 90, (50,)), 0), Feature("k", OneHot(("x", "y")), 0)))
    network = Network([0] * 3, [1] * 3, (Dense([[1, 1, 1], [0, 0, 0]], [0, 1]),), Argmax(2), ("a", "b"), (), quantizer)
    raw = np.array([[-1, 0], [91, 1], [90, 2]])
    rows = Dataset(quantizer.quantize(raw), [0, 0, 1], ("a", "b"), [0] * 3, [1] * 3, (), quantizer, raw)
    result = evaluate(network, rows)
    assert (result.feature_names, result.saturated) == (("t", "k"), (2, 1))
    assert result.as_dict()["saturated"] == {"t": 2, "k": 1}


def test_the_result_is_json():
    result = evaluate(above_four(), data([0, 9], ["low", "low"]))
    assert json.loads(json.dumps(result.as_dict())) == {
        "rows": 2,
        "correct": 1,
        "accuracy": 0.5,
        "majority_accuracy": 1.0,
        "unclassified": 0,
        "classes": ["low", "high"],
        "confusion": [[1, 1, 0], [0, 0, 0]],
        "statuses": [],
        "margins": [4, 4, 4, 4, 5],
        "saturated": {},
    }


def test_rows_without_labels_are_refused():
    rows = Dataset([[1]], [UNKNOWN_LABEL], ("low", "high"), [0], [9])
    with pytest.raises(DatasetError, match="the data have no labels: name the label column with --label"):
        evaluate(above_four(), rows)


def test_no_rows_are_refused():
    with pytest.raises(DatasetError, match="there are no rows to evaluate"):
        evaluate(above_four(), data([1], ["low"]).rows_at([]))


def test_classes_of_another_order_are_refused():
    with pytest.raises(DatasetError, match="2 classes in another order or number than the model's 2: read them with"):
        evaluate(above_four(), data([1], ["low"], ("high", "low")))


def test_rows_of_another_width_are_refused():
    rows = Dataset.from_arrays([[1, 2]], ["low"], classes=("low", "high"))
    with pytest.raises(ModelError, match=r"inputs have shape \(1, 2\), the network expects \(rows, 1\)"):
        evaluate(above_four(), rows)
