"""Fewer training rows that stand for all: k-medoids, class by class.

The medoids of a class are rows of it such that the distances of all its rows to their nearest medoid add up to little.
Distances are squared Euclidean, in exact integers. Greedy building, then rounds of reassignment and a better medoid for
each group, as long as the sum falls.
"""

from __future__ import annotations

import numpy as np

from mip2mcu.dataset import Dataset
from mip2mcu.errors import UsageError
from mip2mcu.ranges import IntArray, exact_product

SAMPLE = 2000
"""Most rows of a class that medoids are chosen among; of more, so many are drawn."""


def medoids(dataset: Dataset, count: int, seed: int = 0) -> Dataset:
    """``count`` rows of each class of ``dataset``, in its order; classes with fewer rows keep all."""
    if count < 1:
        raise UsageError(f"{count} medoids of each class are not possible: give a number of at least 1")
    rng = np.random.default_rng(seed)
    kept = []
    for c in range(len(dataset.classes)):
        rows = np.flatnonzero(dataset.labels == c)
        if len(rows) > SAMPLE:
            rows = np.sort(rng.permutation(rows)[:SAMPLE])
        kept.append(rows if len(rows) <= count else rows[_medoids(_distances(dataset.inputs[rows]), count)])
    return dataset.rows_at(np.sort(np.concatenate(kept)))


def _distances(rows: IntArray) -> IntArray:
    """Squared distances (rows, rows)."""
    squares = (rows * rows).sum(axis=1)
    return squares[:, None] + squares[None, :] - 2 * exact_product(rows, rows)


def _medoids(distances: IntArray, count: int) -> IntArray:
    """Indices (count,) in ascending order; ties go to the lower index."""
    chosen = [int(np.argmin(distances.sum(axis=0)))]
    nearest = distances[:, chosen[0]]
    while len(chosen) < count:
        gains = np.maximum(nearest[:, None] - distances, 0).sum(axis=0)
        gains[chosen] = -1
        chosen.append(int(np.argmax(gains)))
        nearest = np.minimum(nearest, distances[:, chosen[-1]])
    while True:
        groups = np.argmin(distances[:, chosen], axis=1)
        better = []
        for group, medoid in enumerate(chosen):
            members = np.flatnonzero(groups == group)
            sums = distances[np.ix_(members, members)].sum(axis=0)
            own = int(members[np.argmin(sums)]) if len(members) else medoid
            better.append(own)
        total = int(distances[:, better].min(axis=1).sum())
        if len(set(better)) < count or total >= int(nearest.sum()):
            return np.sort(np.array(chosen))
        chosen, nearest = better, distances[:, better].min(axis=1)
