"""What the stages of BeMi ask for, in exact integers: confidence, margins, links of a network on reduced data."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from math import floor

import numpy as np

from mip2mcu.dataset import Dataset
from mip2mcu.ranges import BoolArray, IntArray, frozen
from mip2mcu.train.reduction import Reduction, WeightDomain, reduce
from mip2mcu.train.sign_network import SignNetwork

STAGES = ("confident", "margins", "links")


@dataclass(frozen=True, eq=False)
class Goal:
    """The data and the rules of all stages.

    hidden      units of each hidden layer
    published   the program of the paper; see `mip2mcu.train.bemi`
    keep        share of the margins that the last stage keeps
    threshold   of the signed sum of a confident output
    """

    reduction: Reduction
    hidden: tuple[int, ...]
    published: bool
    keep: float
    threshold: int

    @property
    def stages(self) -> tuple[str, ...]:
        """Names of the stages; weights that cannot be zero have no last one."""
        return STAGES[:2] if self.reduction.domain.binary else STAGES

    @property
    def widths(self) -> tuple[int, ...]:
        """Units of each layer, outputs last."""
        classes = self.reduction.counts.shape[1]
        return (*self.hidden, 1 if classes == 2 else classes)

    @cached_property
    def samples(self) -> list[tuple[int, int]]:
        """(row, class) for every class that occurs on a row."""
        return [(int(k), int(c)) for k, c in np.argwhere(self.reduction.counts)]

    def sign(self, c: int, output: int) -> int:
        """y: +1 where ``output`` is that of class ``c``, else -1."""
        return 1 if c == output else -1

    @cached_property
    def signs(self) -> IntArray:
        """y of each sample and output, (samples, outputs)."""
        return np.array([[self.sign(c, j) for j in range(self.widths[-1])] for _, c in self.samples])

    # ---- bounds ----

    def weight_high(self, layer: int) -> IntArray:
        """Largest weights (inputs,) of a unit of ``layer``, counted from 1."""
        if layer == 1:
            return self.reduction.weight_high
        return np.full(self.widths[layer - 2], self.reduction.domain.bound)

    def bias_high(self, layer: int) -> int:
        """With this bias a confident unit fires, or rests, on every row whatever its weights are."""
        if self.published:
            return 0
        values = np.abs(self.reduction.rows) if layer == 1 else np.ones((1, self.widths[layer - 2]), dtype=np.int64)
        return int((values @ self.weight_high(layer)).max()) + self.margin_high(layer) + 1

    def margin_high(self, layer: int, kept: BoolArray | None = None) -> int:
        """No unit that tells two rows apart has a larger margin; without a bias, none at all on the ``kept`` samples.

        Without ``kept``, or where it keeps none: on all samples.
        """
        high = self.weight_high(layer)
        if layer > 1:
            return int(high.sum())
        rows = self.reduction.rows
        if self.published:
            own = [] if kept is None else self.kept_rows(kept)
            return int((np.abs(rows[own] if own else rows) @ high).min())
        span = rows.max(axis=0, initial=0) - rows.min(axis=0, initial=0) if len(rows) else np.zeros(0, dtype=np.int64)
        return int(span @ high) // 2

    def price(self, layer: int) -> int:
        """What a margin of 1 in ``layer`` is worth: all layers' reaches are alike; as published, 1 throughout."""
        reaches = [max(1, self.margin_high(at)) for at in range(1, len(self.widths) + 1)]
        return 1 if self.published else max(1, max(reaches) // reaches[layer - 1])

    # ---- exact values ----

    def signed_outputs(self, network: SignNetwork) -> IntArray:
        """y s of each sample and output, (samples, outputs)."""
        sums = network.sums(network.inputs_of(self.reduction.rows, network.depth - 1), network.depth - 1)
        return self.signs * sums[[k for k, _ in self.samples]]

    def counts(self) -> IntArray:
        """How often each sample occurs, (samples,)."""
        return np.array([self.reduction.counts[k, c] for k, c in self.samples], dtype=np.int64)

    def confident(self, network: SignNetwork) -> BoolArray:
        """Samples (samples,) on which all outputs are confident."""
        enough: BoolArray = np.asarray((self.signed_outputs(network) >= self.threshold).all(axis=1))
        return enough

    def first(self, network: SignNetwork) -> int:
        """The first stage's objective: confident outputs, or, to be minimised, what they lack."""
        outputs = self.signed_outputs(network)
        if self.published:
            return int(self.counts() @ (outputs >= self.threshold).sum(axis=1))
        return int(self.counts() @ np.maximum(0, self.threshold - outputs).sum(axis=1))

    def margins(self, network: SignNetwork, kept: BoolArray) -> list[IntArray]:
        """The margin of each unit, layer by layer, over the ``kept`` samples; outputs by their classes, may be < 0."""
        rows = self.kept_rows(kept)
        values, found = self.reduction.rows[rows], []
        for layer in range(network.depth - 1):
            sums = network.sums(values, layer)
            high = self.margin_high(layer + 1, kept)
            found.append(np.where(sums >= 0, sums, -1 - sums).min(axis=0, initial=high))
            values = np.where(sums >= 0, 1, -1)
        outputs = self.signed_outputs(network)[kept]
        high = self.margin_high(network.depth, kept)
        found.append((outputs - (self.signs[kept] < 0)).min(axis=0, initial=high))
        return found

    def kept_rows(self, kept: BoolArray) -> list[int]:
        """Rows of the ``kept`` samples, each once."""
        return list(dict.fromkeys(k for (k, _), keep in zip(self.samples, kept, strict=True) if keep))

    def second(self, margins: list[IntArray]) -> int:
        """The second stage's objective."""
        if self.published:
            return sum(int(layer.sum()) for layer in margins)
        return sum(self.price(at) * int(layer.min()) for at, layer in enumerate(margins, 1))

    def floors(self, margins: list[IntArray]) -> list[IntArray]:
        """What each unit's margin must be in the last stage."""
        if self.published:
            return margins
        floors = [np.full_like(layer, floor(self.keep * int(layer.min()) + 1e-9)) for layer in margins]
        floors[-1] = np.maximum(floors[-1], self.threshold - 1)
        return floors

    def links(self, network: SignNetwork) -> int:
        """The last stage's objective: non-zero single weights."""
        deeper = sum(int(np.count_nonzero(weights)) for weights in network.weights[1:])
        return self.reduction.links(network.weights[0]) + deeper


def goal_of(
    dataset: Dataset, domain: WeightDomain, hidden: tuple[int, ...], *, published: bool, keep: float
) -> Goal:
    """The goal on ``dataset``, whose rows are reduced. Without a bias, constant columns that are not 0 are kept."""
    reduction = _without_bias(dataset, domain) if published else reduce(dataset, domain)
    inputs = hidden[-1] if hidden else int(reduction.copies.sum()) if published else 0
    threshold = max(1, -(-domain.bound * (inputs + 1) // 4)) if hidden or published else 1
    return Goal(reduction, hidden, published, keep, threshold)


def _without_bias(dataset: Dataset, domain: WeightDomain) -> Reduction:
    """`reduce` as if a row of zeros, of every class, stood among the data: only columns of zeros are constant."""
    classes = len(dataset.classes)
    zeros = np.zeros((classes, dataset.inputs.shape[1]), dtype=np.int64)
    padded = replace(
        dataset,
        inputs=np.concatenate([dataset.inputs, zeros]),
        labels=np.concatenate([dataset.labels, np.arange(classes)]),
        input_low=np.minimum(dataset.input_low, 0),
        input_high=np.maximum(dataset.input_high, 0),
        quantizer=None,
        raw=None,
    )
    reduction = reduce(padded, domain)
    is_zero = np.abs(reduction.rows).sum(axis=1) == 0
    counts = reduction.counts - is_zero[:, None]
    present = counts.sum(axis=1) > 0
    return replace(reduction, rows=frozen(reduction.rows[present]), counts=frozen(counts[present]))
