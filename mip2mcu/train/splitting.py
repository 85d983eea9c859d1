"""Data splitting: rows of a subset share one activation pattern, and the subset that costs most is split by 2-means.

    subsets = {all rows};  repeat:
        split the subset with the largest loss of the best network in two
        solve the program on a batch of rows, one pattern a subset; keep the network if validation rows say so

One subset allows constant networks only, a subset a row is the exact program: subsets grow until time or splits end.
Validation rows are drawn once and never solved for. Mixed subsets may be split by class first (``purity``).

Source: Kurtz and Bah (2021), iterative data splitting.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from mip2mcu.errors import UsageError
from mip2mcu.ranges import BoolArray, IntArray
from mip2mcu.train.reduction import Reduction

VALIDATION_SHARE = 0.25
"""Share of the rows that choose the network and are not solved for."""


@dataclass(eq=False)
class Subsets:
    """A partition of rows that is refined step by step; ``of_row`` (k,) is each row's subset."""

    rows: IntArray
    labels: IntArray
    seed: int
    purity: bool = False
    of_row: IntArray = field(init=False)

    def __post_init__(self) -> None:
        self.of_row = np.zeros(len(self.rows), dtype=np.int64)

    @property
    def count(self) -> int:
        """Number of subsets."""
        return int(self.of_row.max(initial=-1)) + 1

    def split(self, loss: IntArray) -> bool:
        """Split the subset whose rows' ``loss`` (k,) adds up to the most; False where every subset is a single row."""
        sizes = np.bincount(self.of_row, minlength=self.count)
        losses = np.where(sizes > 1, np.bincount(self.of_row, weights=loss, minlength=self.count), -1.0)
        if losses.max() < 0:
            return False
        members = np.flatnonzero(self.of_row == int(losses.argmax()))
        self.of_row[members[self._second_half(members)]] = self.count
        return True

    def _second_half(self, members: IntArray) -> BoolArray:
        labels = self.labels[members]
        if self.purity and (labels != labels[0]).any():
            return np.asarray(labels == np.bincount(labels).argmax())
        halves = two_means(self.rows[members], self.seed)
        if halves.all() or not halves.any():  # equal rows: any split does
            halves = np.arange(len(members)) % 2 == 1
        return halves


def two_means(rows: IntArray, seed: int) -> BoolArray:
    """True for the rows of the second of two clusters by scikit-learn's k-means."""
    try:
        from sklearn.cluster import KMeans  # noqa: PLC0415  (an optional package)
    except ImportError:
        raise UsageError(
            "data splitting clusters by scikit-learn, which is not installed: pip install scikit-learn, or choose the "
            "method local"
        ) from None
    if len(np.unique(rows, axis=0)) < 2:
        return np.zeros(len(rows), dtype=bool)
    return np.asarray(KMeans(2, n_init=25, random_state=seed).fit(rows).labels_ == 1)


def validation_rows(reduction: Reduction, seed: int) -> BoolArray:
    """(k,): True for distinct rows that are kept for validation."""
    count = len(reduction.rows)
    kept = np.zeros(count, dtype=bool)
    kept[np.random.default_rng(seed).permutation(count)[: round(VALIDATION_SHARE * count)]] = True
    return kept


def batch(rows: IntArray, size: int, round_number: int, rng: np.random.Generator | None) -> IntArray:
    """``size`` of ``rows``: a random draw, or without ``rng`` the next ones in their order."""
    if len(rows) <= size:
        return rows
    if rng is not None:
        return np.sort(rng.permutation(rows)[:size])
    return np.sort(np.roll(rows, -round_number * size)[:size])
