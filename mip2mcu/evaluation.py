"""Accuracy of a network on labelled rows, counted exactly."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from mip2mcu.dataset import UNKNOWN_LABEL, Dataset
from mip2mcu.decisions import VOTE_STATUSES, Vote
from mip2mcu.errors import DatasetError
from mip2mcu.network import Network
from mip2mcu.ranges import IntArray

CHUNK_ROWS = 4096
"""Rows that pass through a network at a time, so that memory stays bounded."""

QUARTILES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""What is told of the rows' margins."""


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Counts of a network's predictions.

    confusion       int64 (classes, classes + 1): true class by predicted class; the last column is "unclassified"
    saturated       values a feature beyond what training has seen (numbers outside the range, unseen categories)
    feature_names   names of the features in ``saturated``; both are empty without a quantizer
    statuses        rows of each of `mip2mcu.decisions.VOTE_STATUSES`; empty where the rule is no vote
    margins         least, lower quartile, median, upper quartile, largest of margins: first minus second score
    """

    classes: tuple[str, ...]
    confusion: IntArray
    saturated: tuple[int, ...] = ()
    feature_names: tuple[str, ...] = ()
    statuses: tuple[int, ...] = ()
    margins: tuple[int, ...] = ()

    @property
    def rows(self) -> int:
        """Number of labelled rows."""
        return int(self.confusion.sum())

    @property
    def correct(self) -> int:
        """Rows whose predicted class is the true one."""
        return int(np.trace(self.confusion))

    @property
    def accuracy(self) -> float:
        """Share of correct rows, 0..1."""
        return self.correct / self.rows

    @property
    def unclassified(self) -> int:
        """Rows that the decision rule leaves unclassified; they count as errors."""
        return int(self.confusion[:, -1].sum())

    @property
    def majority(self) -> float:
        """Accuracy of always answering the most frequent true class: the trivial baseline."""
        return int(self.confusion.sum(axis=1).max()) / self.rows

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "rows": self.rows,
            "correct": self.correct,
            "accuracy": self.accuracy,
            "majority_accuracy": self.majority,
            "unclassified": self.unclassified,
            "classes": list(self.classes),
            "confusion": self.confusion.tolist(),
            "statuses": list(self.statuses),
            "margins": list(self.margins),
            "saturated": {n: s for n, s in zip(self.feature_names, self.saturated, strict=True) if s},
        }


def predictions(network: Network, dataset: Dataset) -> Iterator[tuple[IntArray, IntArray]]:
    """Pairs (labels, predicted classes), chunk by chunk."""
    for labels, sums in _sums(network, dataset):
        yield labels, network.decision.predict(sums)


def _sums(network: Network, dataset: Dataset) -> Iterator[tuple[IntArray, IntArray]]:
    """Pairs (labels, sums of the last layer), chunk by chunk."""
    for start in range(0, dataset.rows, CHUNK_ROWS):
        rows = slice(start, start + CHUNK_ROWS)
        yield dataset.labels[rows], network.sums(dataset.inputs[rows])


def evaluate(network: Network, dataset: Dataset) -> Evaluation:
    """Predict every row of ``dataset`` and count; raises `DatasetError` where the rows have no labels."""
    if dataset.rows == 0:
        raise DatasetError("there are no rows to evaluate: give data with at least one")
    if (dataset.labels == UNKNOWN_LABEL).any():
        raise DatasetError("the data have no labels: name the label column with --label, or use data that have one")
    if dataset.classes != network.classes:
        raise DatasetError(
            f"the data have {len(dataset.classes)} classes in another order or number than the model's "
            f"{len(network.classes)}: read them with like=network"
        )
    count = len(network.classes)
    confusion = np.zeros((count, count + 1), dtype=np.int64)
    margins = []
    statuses = np.zeros(len(VOTE_STATUSES), dtype=np.int64)
    for labels, sums in _sums(network, dataset):
        np.add.at(confusion, (labels, network.decision.predict(sums)), 1)
        margins.append(network.decision.margin(sums))
        if isinstance(network.decision, Vote):
            np.add.at(statuses, network.decision.statuses(sums, labels), 1)
    spread = tuple(np.quantile(np.concatenate(margins), QUARTILES, method="lower").tolist())
    voted = tuple(statuses.tolist()) if isinstance(network.decision, Vote) else ()
    if dataset.quantizer is None or dataset.raw is None:
        return Evaluation(network.classes, confusion, statuses=voted, margins=spread)
    saturated = dataset.quantizer.saturated(dataset.raw).sum(axis=0)
    names = tuple(f.name for f in dataset.quantizer.features)
    return Evaluation(network.classes, confusion, tuple(saturated.tolist()), names, voted, spread)
