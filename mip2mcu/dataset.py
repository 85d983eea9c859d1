"""`Dataset`: labelled integer rows in stated ranges, ready for a formulation, with the quantizer that made them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mip2mcu.columns import fit_column, raw_column
from mip2mcu.errors import DatasetError
from mip2mcu.quantizer import Feature, OneHot, Quantizer
from mip2mcu.ranges import IntArray, frozen
from mip2mcu.tables import Part, Table, read_table

CODINGS = ("auto", "thermometer", "affine", "raw")
"""How numbers become inputs; "auto": raw for 8-bit integers of an NPZ (images), else thermometer bits."""

UNKNOWN_LABEL = -1
"""Label of a row whose file has no labels."""


class Fitted(Protocol):
    """What knows how to read more data of the same kind: a `Dataset` or a `Network`."""

    @property
    def quantizer(self) -> Quantizer | None: ...  # noqa: D102
    @property
    def classes(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def input_low(self) -> IntArray: ...  # noqa: D102
    @property
    def input_high(self) -> IntArray: ...  # noqa: D102


@dataclass(frozen=True, eq=False)
class Dataset:
    """Integer rows with class labels.

    inputs                  int64 (rows, inputs): what the network sees
    labels                  int64 (rows,): class indices; `UNKNOWN_LABEL` throughout where there are none
    classes                 labels as text, in the order of the indices
    input_low, input_high   int64 (inputs,): declared ranges, which all inputs respect
    input_shape             (inputs,) or (channels, rows, columns)
    quantizer, raw          raw features to inputs, and the raw integers (rows, features); None for plain integers
    notes                   what was imputed, rounded or dropped, one sentence each
    """

    inputs: IntArray
    labels: IntArray
    classes: tuple[str, ...]
    input_low: IntArray
    input_high: IntArray
    input_shape: tuple[int, ...] = ()
    quantizer: Quantizer | None = None
    raw: IntArray | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("inputs", "labels", "input_low", "input_high"):
            object.__setattr__(self, name, frozen(getattr(self, name)))
        object.__setattr__(self, "input_shape", tuple(self.input_shape) or (self.inputs.shape[1],))
        if self.inputs.ndim != 2 or self.labels.shape != (len(self.inputs),):
            raise DatasetError(
                f"inputs of shape {self.inputs.shape} and labels of shape {self.labels.shape} do not go together"
            )
        outside = np.argwhere((self.inputs < self.input_low) | (self.inputs > self.input_high))
        if len(outside):
            k, i = outside[0]
            raise DatasetError(
                f"feature {i} has value {self.inputs[k, i]} in row {k}, outside input_range "
                f"{self.input_low[i]}..{self.input_high[i]}: quantize the data or widen input_range"
            )

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.inputs)

    @classmethod
    def from_arrays(
        cls,
        X: ArrayLike,
        y: Sequence[object] | NDArray[np.generic],
        *,
        input_range: tuple[int, int] = (0, 255),
        classes: Sequence[str] | None = None,
    ) -> Dataset:
        """Plain integers X (rows, inputs) in ``input_range`` with labels y; ``classes`` fixes labels and order."""
        inputs = np.asarray(X)
        if inputs.ndim < 2 or inputs.dtype.kind not in "iub":
            raise DatasetError(
                f"X has shape {inputs.shape} and type {inputs.dtype}, expected integers (rows, features)"
            )
        shape = inputs.shape[1:]
        inputs = inputs.reshape(len(inputs), -1)
        texts = tuple(str(value) for value in np.asarray(y).tolist())
        known = tuple(classes) if classes is not None else _class_order(texts)
        return cls(
            inputs=inputs,
            labels=_label_indices(texts, known, "the labels"),
            classes=known,
            input_low=np.full(inputs.shape[1], input_range[0]),
            input_high=np.full(inputs.shape[1], input_range[1]),
            input_shape=shape if len(shape) == 3 else (),
        )

    @classmethod
    def read(
        cls,
        path: str | Path,
        *,
        label: str | None = None,
        coding: str = "auto",
        bits: int = 8,
        input_range: tuple[int, int] | None = None,
        like: Fitted | None = None,
        part: Part | None = None,
    ) -> Dataset:
        """Read a CSV or NPZ file.

        coding        how numbers become inputs, one of `CODINGS`
        bits          most thermometer bits a column
        input_range   take integers as they are, without quantizer; values outside are an error
        like          a training `Dataset` or a `Network`: its codings and classes are used and nothing is fitted
        part          half of an NPZ with a stored split; default "train", with ``like`` "test"
        """
        if coding not in CODINGS:
            raise DatasetError(f"coding {coding!r} is unknown, choose one of {', '.join(CODINGS)}")
        if not 1 <= bits <= 255:
            raise DatasetError(f"{bits} thermometer bits a column are not possible, choose 1..255")
        part = part or ("train" if like is None else "test")
        if like is not None:
            return _read_like(path, label, like, part)
        table = read_table(path, label=label, part=part)
        if table.labels is None:
            raise DatasetError(f"{path} has no labels y: training needs them")
        classes = _class_order(table.labels)
        if len(classes) < 2:
            raise DatasetError(f"{path} has the one class {classes[0]!r} only: training needs at least two")
        if input_range is not None:
            return _plain(table, classes, *input_range)
        quantizer, notes = fit_quantizer(table, coding, bits)
        return _quantized(table, quantizer, classes, notes)

    def rows_at(self, indices: ArrayLike) -> Dataset:
        """The rows ``indices``, with all else unchanged."""
        indices = np.asarray(indices)
        raw = None if self.raw is None else self.raw[indices]
        return replace(self, inputs=self.inputs[indices], labels=self.labels[indices], raw=raw, notes=())


def fit_quantizer(table: Table, coding: str, bits: int) -> tuple[Quantizer, tuple[str, ...]]:
    """Fit the coding of every column of a training table; returns the quantizer and notes for a person."""
    types = {column.dtype for column in table.columns if not isinstance(column, tuple)}
    eight_bit = types <= {np.dtype(np.uint8), np.dtype(np.int8)} and len(types) == 1
    if coding == "auto":
        coding = "raw" if eight_bit else "thermometer"
    common = None
    if coding == "raw":
        common = _common_range(table)
    features: list[Feature] = []
    notes: list[str] = []
    for name, column in zip(table.names, table.columns, strict=True):
        fitted = fit_column(name, column, coding, bits, common)
        features.append(fitted.feature)
        notes.extend(fitted.notes)
    quantizer = Quantizer(tuple(features))
    constant = sum(f.coding.width == 0 for f in features)
    if constant:
        notes.append(f"{constant} columns are constant and give no input")
    if quantizer.width == 0:
        raise DatasetError(f"every column of {table.source} is constant: there is nothing to learn from")
    return quantizer, tuple(notes)


def _common_range(table: Table) -> tuple[int, int]:
    """Range shared by all numeric columns, in raw integers; fractions need another coding."""
    ends: list[int] = []
    for name, column in zip(table.names, table.columns, strict=True):
        fitted = fit_column(name, column, "affine", 8, None).feature
        if isinstance(fitted.coding, OneHot):
            continue
        if fitted.decimals:
            raise DatasetError(
                f"column {name!r} holds fractions: raw inputs are integers, choose --coding affine or thermometer"
            )
        ends += [fitted.coding.low, fitted.coding.high]
    return (min(ends), max(ends)) if ends else (0, 0)


def _quantized(table: Table, quantizer: Quantizer, classes: tuple[str, ...], notes: tuple[str, ...]) -> Dataset:
    columns = [raw_column(f, c) for f, c in zip(quantizer.features, table.columns, strict=True)]
    raw = np.stack(columns, axis=1)
    raw.setflags(write=False)
    one_to_one = all(f.coding.width == 1 for f in quantizer.features)
    return Dataset(
        inputs=quantizer.quantize(raw),
        labels=_table_labels(table, classes),
        classes=classes,
        input_low=np.zeros(quantizer.width, dtype=np.int64),
        input_high=quantizer.input_high,
        input_shape=table.shape if one_to_one and len(table.shape) == 3 else (),
        quantizer=quantizer,
        raw=raw,
        notes=notes,
    )


def _plain(table: Table, classes: tuple[str, ...], low: int, high: int) -> Dataset:
    """Integers as they are: every column must hold whole numbers within the declared range."""
    count = len(table.columns)
    return _integers(table, classes, np.full(count, low), np.full(count, high))


def _integers(table: Table, classes: tuple[str, ...], low: IntArray, high: IntArray) -> Dataset:
    columns = []
    for name, column in zip(table.names, table.columns, strict=True):
        fitted = fit_column(name, column, "affine", 8, None).feature
        if isinstance(fitted.coding, OneHot) or fitted.decimals:
            raise DatasetError(
                f"column {name!r} of {table.source} holds values that are no integers: leave out --input-range"
            )
        if isinstance(column, tuple) and any(text in ("", "?") for text in column):
            raise DatasetError(
                f"column {name!r} of {table.source} has missing values: leave out --input-range to have them imputed"
            )
        columns.append(raw_column(fitted, column))
    return Dataset(
        inputs=np.stack(columns, axis=1),
        labels=_table_labels(table, classes),
        classes=classes,
        input_low=low,
        input_high=high,
        input_shape=table.shape if len(table.shape) == 3 else (),
    )


def _read_like(path: str | Path, label: str | None, like: Fitted, part: Part) -> Dataset:
    if like.quantizer is None:
        table = read_table(path, label=label, part=part)
        if len(table.columns) != len(like.input_low):
            raise DatasetError(
                f"{path} has {len(table.columns)} features a row, the model expects {len(like.input_low)}"
            )
        return _integers(table, like.classes, like.input_low, like.input_high)
    table = read_table(path, label=label, features=[f.name for f in like.quantizer.features], part=part)
    return _quantized(table, like.quantizer, like.classes, ())


def _class_order(labels: Sequence[str]) -> tuple[str, ...]:
    """Distinct labels: by value where all are integers, else by text."""
    distinct = set(labels)
    if all(text.lstrip("-").isdecimal() and text.isascii() and len(text) < 16 for text in distinct):
        return tuple(sorted(distinct, key=lambda text: (int(text), text)))
    return tuple(sorted(distinct))


def _table_labels(table: Table, classes: tuple[str, ...]) -> IntArray:
    if table.labels is None:
        return np.full(table.rows, UNKNOWN_LABEL, dtype=np.int64)
    return _label_indices(table.labels, classes, table.source)


def _label_indices(labels: Sequence[str], classes: tuple[str, ...], source: str) -> IntArray:
    index = {name: c for c, name in enumerate(classes)}
    unknown = [text for text in labels if text not in index]
    if unknown:
        raise DatasetError(
            f"{source}: label {unknown[0][:60]!r} is none of the classes {', '.join(classes[:10])[:200]}"
        )
    return np.array([index[text] for text in labels], dtype=np.int64)
