"""Smaller data with the same optimum: constant columns dropped, identical columns merged, duplicate rows counted.

A merged column stands for m equal inputs: its weight is the sum of theirs, an integer in [-m P, m P], which `expand`
hands out again with as few links as possible. Rows that occur several times are kept once, with a count a class;
rows that occur under several labels keep all their counts, so contradictions enter every objective and bound.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from mip2mcu.dataset import Dataset
from mip2mcu.errors import DatasetError, UsageError
from mip2mcu.layers import WEIGHT_LIMIT
from mip2mcu.ranges import IntArray, frozen


@dataclass(frozen=True)
class WeightDomain:
    """What a weight may be: whole numbers in {-bound..bound}, or -1 and +1 alone (``binary``, bound 1)."""

    bound: int = 1
    binary: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.bound <= WEIGHT_LIMIT:
            raise UsageError(
                f"a weight bound of {self.bound} is not possible: give a number of 1..{WEIGHT_LIMIT}"
            )
        if self.binary and self.bound != 1:
            raise UsageError(f"binary weights are -1 and +1: a weight bound of {self.bound} contradicts them")

    @property
    def step(self) -> int:
        """Distance of neighbouring values."""
        return 2 if self.binary else 1


DEFAULT_BOUND = 3
"""Weight bound where none is asked for: three bits a weight."""


def weight_domain(weights: str, bound: int | None) -> WeightDomain:
    """The domain of ``weights`` "integer" or "binary"; without a bound 3 for the first, 1 for the second."""
    if weights not in ("integer", "binary"):
        raise UsageError(f"weights {weights!r} are unknown, choose integer or binary")
    binary = weights == "binary"
    return WeightDomain(bound if bound is not None else 1 if binary else DEFAULT_BOUND, binary)


@dataclass(frozen=True, eq=False)
class Reduction:
    """The reduced rows of a data set.

    rows    int64 (k, columns): distinct rows of the distinct, varying columns
    counts  int64 (k, classes): how often each row occurs under each label
    groups  the inputs that each column stands for
    fixed   int64 (inputs,): values of the constant inputs, 0 elsewhere
    domain  of a single weight
    """

    rows: IntArray
    counts: IntArray
    groups: tuple[IntArray, ...]
    fixed: IntArray
    domain: WeightDomain

    @property
    def copies(self) -> IntArray:
        """Inputs that each column stands for, (columns,)."""
        return np.array([len(group) for group in self.groups], dtype=np.int64)

    @property
    def weight_high(self) -> IntArray:
        """Largest weight of each column, (columns,); the smallest is its negative."""
        return self.copies * self.domain.bound

    def links(self, weights: IntArray) -> int:
        """Fewest non-zero single weights that make up the columns' ``weights`` (..., columns)."""
        if self.domain.binary:
            return int(np.broadcast_to(self.copies, weights.shape).sum())
        return int((-(-np.abs(weights) // self.domain.bound)).sum())

    def expand(self, weights: IntArray, bias: IntArray) -> tuple[IntArray, IntArray]:
        """Weights (units, inputs) and bias (units,) of the full network from those of the columns.

        On the training rows both give the same sums. Constant inputs get the weight 0; binary weights have none, so
        there they get +1, and the bias takes their values back.
        """
        full = np.zeros((len(weights), len(self.fixed)), dtype=np.int64)
        constant = np.ones(len(self.fixed), dtype=bool)
        alone = np.flatnonzero(self.copies == 1)
        single = np.array([self.groups[column][0] for column in alone], dtype=np.int64)
        constant[single] = False
        full[:, single] = weights[:, alone]
        for column in np.flatnonzero(self.copies > 1):
            group = self.groups[column]
            constant[group] = False
            full[:, group] = self._shares(weights[:, column], len(group))
        if self.domain.binary:
            full[:, constant] = 1
            bias = bias - int(self.fixed[constant].sum())
        return full, bias

    def collapse(self, weights: IntArray, bias: IntArray) -> tuple[IntArray, IntArray]:
        """The columns' weights (units, columns) and bias of a full layer: the inverse of `expand`."""
        merged = [weights[:, group].sum(axis=1) for group in self.groups]
        columns = np.stack(merged, axis=1) if merged else np.zeros((len(weights), 0), dtype=np.int64)
        return columns, bias + weights @ self.fixed

    def on(self, dataset: Dataset, *, merge_rows: bool = True) -> Reduction:
        """Other rows in the same columns; those that are identical here must be so in ``dataset``, as in its rows."""
        columns = dataset.inputs[:, [int(group[0]) for group in self.groups]]
        rows, row_of = _distinct_rows(columns) if merge_rows else (columns, np.arange(len(columns)))
        counts = np.zeros((len(rows), self.counts.shape[1]), dtype=np.int64)
        np.add.at(counts, (row_of, dataset.labels), 1)
        return replace(self, rows=frozen(rows), counts=frozen(counts))

    def part(self, chosen: IntArray) -> Reduction:
        """Some of the distinct rows."""
        return replace(self, rows=frozen(self.rows[chosen]), counts=frozen(self.counts[chosen]))

    def _shares(self, weights: IntArray, copies: int) -> IntArray:
        """(units, copies): single weights in the domain that add up to ``weights`` (units,)."""
        if self.domain.binary:
            plus = (weights + copies) // 2
            return np.where(np.arange(copies) < plus[:, None], 1, -1)
        filled = np.clip(
            np.abs(weights)[:, None] - self.domain.bound * np.arange(copies), 0, self.domain.bound
        )
        return np.sign(weights)[:, None] * filled


def check_classes(dataset: Dataset) -> None:
    """Raise `DatasetError` unless there are at least two classes and rows of each."""
    if dataset.rows == 0:
        raise DatasetError("the data have no rows: training needs at least one of each class")
    if (dataset.labels < 0).any():
        raise DatasetError("the data have no labels: training needs them")
    present = np.bincount(dataset.labels, minlength=len(dataset.classes)) > 0
    if present.sum() < 2:
        raise DatasetError("the rows are all of one class: training needs at least two")
    if not present.all():
        missing = dataset.classes[int(np.argmin(present))]
        raise DatasetError(
            f"class {missing!r} has no training rows: add some, or leave it out of the classes"
        )


def reduce(
    dataset: Dataset, domain: WeightDomain, *, merge_columns: bool = True, merge_rows: bool = True
) -> Reduction:
    """Merge what training cannot tell apart; raises `DatasetError` for data that `check_classes` refuses.

    merge_columns, merge_rows   switches that show what each is worth; constant columns are always dropped
    """
    check_classes(dataset)
    inputs = np.asarray(dataset.inputs)
    varying = np.flatnonzero((inputs != inputs[0]).any(axis=0))
    groups = _groups(inputs, varying) if merge_columns else tuple(frozen(varying[[i]]) for i in range(len(varying)))
    fixed = inputs[0].copy()
    fixed[varying] = 0
    nothing = np.zeros((0, len(groups))), np.zeros((0, len(dataset.classes)))
    empty = Reduction(frozen(nothing[0]), frozen(nothing[1]), groups, frozen(fixed), domain)
    return empty.on(dataset, merge_rows=merge_rows)


def _groups(inputs: IntArray, varying: IntArray) -> tuple[IntArray, ...]:
    """Identical columns together, in the order of their first one."""
    first, group_of = _distinct(inputs[:, varying].T)
    ends = np.cumsum(np.bincount(group_of, minlength=len(first)))
    return tuple(frozen(group) for group in np.split(varying[np.argsort(group_of, kind="stable")], ends)[:-1])


def _distinct_rows(columns: IntArray) -> tuple[IntArray, IntArray]:
    """Distinct rows in the order of their first occurrence, and for every row the index of its distinct one."""
    if columns.shape[1] == 0:
        return columns[:1], np.zeros(len(columns), dtype=np.int64)
    first, row_of = _distinct(columns)
    return columns[first], row_of


def _distinct(rows: IntArray) -> tuple[IntArray, IntArray]:
    """Indices of the first of equal rows, upwards, and for every row the place of its own in them.

    Rows are compared as strings of bytes, in the narrowest type: ten times as fast as number by number.
    """
    low, high = np.min_scalar_type(rows.min(initial=0)), np.min_scalar_type(rows.max(initial=0))
    narrow = rows.astype(np.result_type(low, high), order="C")
    keys = narrow.view(np.dtype((np.void, narrow.shape[1] * narrow.itemsize))).reshape(-1)
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    return first[order], rank[inverse.reshape(-1)]
