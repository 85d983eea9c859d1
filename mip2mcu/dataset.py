"""`Dataset`: labelled integer rows in stated ranges, ready for a formulation, with the quantizer that made them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import isfinite, prod
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mip2mcu.columns import (
    FittedColumn,
    NumericColumn,
    fit_categories,
    fit_numbers,
    numeric_column,
    raw_column,
    whole_column,
)
from mip2mcu.decisions import CLASS_LIMIT
from mip2mcu.errors import DatasetError
from mip2mcu.layers import UNIT_LIMIT
from mip2mcu.network import INPUT_LIMIT
from mip2mcu.quantizer import Quantizer, text_fault
from mip2mcu.ranges import IntArray, frozen
from mip2mcu.tables import CELL_LIMIT, Part, Table, label_texts, read_table

CODINGS = ("auto", "thermometer", "affine", "raw")
"""How numbers become inputs; "auto": raw for 8-bit integers of an NPZ (images), else thermometer bits."""

UNKNOWN_LABEL = -1
"""Label of a row whose file has no labels."""

PLAIN_CLASSES = 20
"""So many classes or fewer are believed, whatever the labels look like."""

_INTEGER = re.compile(r"-?[0-9]{1,15}")
_FIT_DATA = "quantize the data or widen input_range"
_FIT_MODEL = "correct the row, or make the model anew with a wider --input-range"


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
        for name in ("inputs", "labels", "input_low", "input_high", "raw"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, frozen(getattr(self, name)))
        shape = self.inputs.shape
        if len(shape) != 2 or self.labels.shape != shape[:1]:
            raise DatasetError(f"inputs of shape {shape} and labels of shape {self.labels.shape} do not go together")
        if self.input_low.shape != shape[1:] or self.input_high.shape != shape[1:]:
            raise DatasetError(f"{shape[1]} inputs need {shape[1]} lower and {shape[1]} upper ends of their ranges")
        object.__setattr__(self, "classes", tuple(self.classes))
        object.__setattr__(self, "input_shape", tuple(self.input_shape) or (shape[1],))
        _check_classes(self.classes)
        if len(self.labels) and not UNKNOWN_LABEL <= self.labels.min() <= self.labels.max() < len(self.classes):
            reach = f"{self.labels.min()}..{self.labels.max()}"
            raise DatasetError(f"labels reach {reach}, expected class indices below {len(self.classes)}")
        _check_ends(self.input_low, self.input_high)
        if place := _outside(self.inputs, self.input_low, self.input_high):
            k, i = place
            raise DatasetError(
                f"feature {i} has value {self.inputs[k, i]} in row {k}, outside input_range "
                f"{self.input_low[i]}..{self.input_high[i]}: {_FIT_DATA}"
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
        inputs = inputs.reshape(len(inputs), prod(shape))
        texts = label_texts("y", np.asarray(y))
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
        if like is not None:
            return _read_like(path, label, like, part or "test")
        return _fitted(read_table(path, label=label, part=part or "train"), coding, bits, input_range)

    @classmethod
    def read_split(
        cls,
        path: str | Path,
        share: float = 0.25,
        *,
        seed: int = 0,
        label: str | None = None,
        coding: str = "auto",
        bits: int = 8,
        input_range: tuple[int, int] | None = None,
    ) -> tuple[Dataset, Dataset]:
        """Read one file as (training rows, test rows): of the shuffled rows, the last ``share`` is tested on.

        Rows are permuted by ``numpy.random.default_rng(seed)``; codings are fitted on the training rows alone.
        """
        table = read_table(path, label=label)
        tested = round(share * table.rows) if 0 < share < 1 else 0
        if not 0 < tested < table.rows:
            raise DatasetError(
                f"a share of {share} of the {table.rows} rows of {path} leaves nothing to train or to test on: "
                "give a share between 0 and 1, such as 0.25"
            )
        order = np.random.default_rng(seed).permutation(table.rows).tolist()
        kept, held_out = table.rows_at(order[:-tested]), table.rows_at(order[-tested:])
        _check_classes_are_kept(table, kept)
        training = _fitted(kept, coding, bits, input_range)
        return training, _like(held_out, training)

    def rows_at(self, indices: ArrayLike) -> Dataset:
        """The rows ``indices``, with all else unchanged."""
        indices = np.asarray(indices)
        if indices.size == 0:
            indices = np.zeros(0, dtype=np.int64)
        raw = None if self.raw is None else self.raw[indices]
        return replace(self, inputs=self.inputs[indices], labels=self.labels[indices], raw=raw, notes=())


def _fitted(table: Table, coding: str, bits: int, input_range: tuple[int, int] | None) -> Dataset:
    """The training data set of a table: codings are fitted to it, unless ``input_range`` says to take it as it is."""
    if coding not in CODINGS:
        raise DatasetError(f"coding {coding!r} is unknown, choose one of {', '.join(CODINGS)}")
    if not 1 <= bits <= 255:
        raise DatasetError(f"{bits} thermometer bits a column are not possible, choose 1..255")
    if table.labels is None:
        raise DatasetError(f"{table.source} has no labels y: training needs them")
    classes = _class_order(table.labels)
    _check_classes(classes)
    _check_measurement(classes, table.rows)
    if len(classes) < 2:
        raise DatasetError(f"{table.source} has the one class {classes[0]!r} only: training needs at least two")
    if input_range is not None:
        return _plain(table, classes, *input_range)
    quantizer, raw, notes = fit_quantizer(table, coding, bits)
    return _quantized(table, quantizer, raw, classes, notes)


def fit_quantizer(table: Table, coding: str, bits: int) -> tuple[Quantizer, IntArray, tuple[str, ...]]:
    """Fit the coding of every column of a training table.

    Returns the quantizer, the raw integers (rows, features) and notes for a person.
    """
    types = {column.dtype for column in table.columns if not isinstance(column, tuple)}
    if coding == "auto":
        coding = "raw" if types in ({np.dtype(np.uint8)}, {np.dtype(np.int8)}) else "thermometer"
    numeric = [numeric_column(n, column, table.number) for n, column in zip(table.names, table.columns, strict=True)]
    common = _common_range(table, numeric) if coding == "raw" else None
    fitted: list[FittedColumn] = []
    for name, column, numbers in zip(table.names, table.columns, numeric, strict=True):
        if numbers is not None:
            fitted.append(fit_numbers(name, numbers, coding, bits, common))
        else:
            fitted.append(fit_categories(name, tuple(column)))
    notes = [note for column in fitted for note in column.notes]
    quantizer = Quantizer(tuple(column.feature for column in fitted))
    constant = sum(feature.coding.width == 0 for feature in quantizer.features)
    if constant:
        notes.append(
            f"{constant} columns are constant and give no input" if constant > 1
            else "1 column is constant and gives no input"
        )
    if quantizer.width == 0:
        raise DatasetError(f"every column of {table.source} is constant: there is nothing to learn from")
    if quantizer.width > UNIT_LIMIT:
        raise DatasetError(
            f"the columns of {table.source} give {quantizer.width} inputs, at most {UNIT_LIMIT} are possible: "
            "choose fewer thermometer bits or coding affine"
        )
    return quantizer, np.stack([column.raw for column in fitted], axis=1), tuple(notes)


def _common_range(table: Table, numeric: Sequence[NumericColumn | None]) -> tuple[int, int]:
    """Range shared by all numeric columns, in raw integers, at most 256 values wide; fractions need another coding."""
    ends: list[int] = []
    for name, numbers in zip(table.names, numeric, strict=True):
        if numbers is None:
            continue
        if numbers.decimals or not numbers.exact:
            raise DatasetError(
                f"column {name!r} holds fractions: raw inputs are integers, choose --coding affine or thermometer"
            )
        ends += [int(numbers.known.min()), int(numbers.known.max())]
    low, high = (min(ends), max(ends)) if ends else (0, 0)
    if high - low > 255:
        raise DatasetError(
            f"values of {table.source} reach {low}..{high}, too wide for raw 8-bit inputs: "
            "choose --coding affine or thermometer"
        )
    return low, high


def _quantized(
    table: Table, quantizer: Quantizer, raw: IntArray, classes: tuple[str, ...], notes: tuple[str, ...]
) -> Dataset:
    if table.rows * quantizer.width > CELL_LIMIT:
        raise DatasetError(
            f"{table.source} gives {table.rows} rows of {quantizer.width} inputs, more than {CELL_LIMIT} numbers: "
            "take fewer rows or fewer thermometer bits"
        )
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
    lows, highs = np.full(len(table.columns), low), np.full(len(table.columns), high)
    _check_ends(lows, highs)
    return _integers(table, classes, lows, highs, way_out=_FIT_DATA)


def _integers(table: Table, classes: tuple[str, ...], low: IntArray, high: IntArray, *, way_out: str) -> Dataset:
    columns = [whole_column(n, column, table.number) for n, column in zip(table.names, table.columns, strict=True)]
    inputs = np.stack(columns, axis=1)
    if place := _outside(inputs, low, high):
        k, i = place
        raise DatasetError(
            f"column {table.names[i]!r} holds {table.columns[i][k]} in data row {table.number(k)}, outside input_range "
            f"{low[i]}..{high[i]}: {way_out}"
        )
    return Dataset(
        inputs=inputs,
        labels=_table_labels(table, classes),
        classes=classes,
        input_low=low,
        input_high=high,
        input_shape=table.shape if len(table.shape) == 3 else (),
    )


def _read_like(path: str | Path, label: str | None, like: Fitted, part: Part) -> Dataset:
    features = None if like.quantizer is None else [f.name for f in like.quantizer.features]
    return _like(read_table(path, label=label, features=features, part=part), like)


def _like(table: Table, like: Fitted) -> Dataset:
    """A table whose columns are the features of ``like``, in its codings and classes."""
    if like.quantizer is None:
        if len(table.columns) != len(like.input_low):
            label = table.label
            beside = "" if label is None else f" beside its label column {label[:60]!r}"
            column = "" if label is None else " and a label column, the last one or named with --label"
            raise DatasetError(
                f"{table.source} has {len(table.columns)} features a row{beside}, the model expects "
                f"{len(like.input_low)}: give those that it was trained on{column}"
            )
        return _integers(table, like.classes, like.input_low, like.input_high, way_out=_FIT_MODEL)
    raw = [raw_column(f, c, table.number) for f, c in zip(like.quantizer.features, table.columns, strict=True)]
    return _quantized(table, like.quantizer, np.stack(raw, axis=1), like.classes, ())


def _check_ends(low: IntArray, high: IntArray) -> None:
    if len(low) and (low.min() < -INPUT_LIMIT or high.max() > INPUT_LIMIT):
        raise DatasetError(
            f"input_range reaches {low.min()}..{high.max()}, inputs are at most {INPUT_LIMIT} in magnitude: "
            "quantize the data"
        )
    if (low > high).any():
        raise DatasetError("an input_range has its lower end above its upper end: give (least, most)")


def _outside(inputs: IntArray, low: IntArray, high: IntArray) -> tuple[int, int] | None:
    """Row and column of the first input beyond its range."""
    found = np.argwhere((inputs < low) | (inputs > high))
    return (int(found[0, 0]), int(found[0, 1])) if len(found) else None


def _class_order(labels: Sequence[str]) -> tuple[str, ...]:
    """Distinct labels: by value where all are integers, else by text."""
    distinct = set(labels)
    if all(_INTEGER.fullmatch(text) for text in distinct):
        return tuple(sorted(distinct, key=lambda text: (int(text), text)))
    return tuple(sorted(distinct))


def _check_classes(classes: Sequence[str]) -> None:
    if len(classes) > CLASS_LIMIT:
        raise DatasetError(
            f"the labels have {len(classes)} different values ({', '.join(classes[:3])[:60]}, ...), more than "
            f"{CLASS_LIMIT} classes: is it the right column? --label names another"
        )
    for label in classes:
        if fault := text_fault(label):
            raise DatasetError(f"the label {str(label)[:40]!r} {fault}: rename the class")
    if len(set(classes)) < len(classes):
        raise DatasetError("two classes have the same label: name each once")


def _check_measurement(classes: Sequence[str], rows: int) -> None:
    """Raise `DatasetError` where the labels look like a measurement: many numbers, with fractions or few rows each."""
    many = len(classes) > PLAIN_CLASSES and (rows < 3 * len(classes) or _fractions(classes))
    if many and _numbers(classes):
        raise DatasetError(
            f"the labels of {rows} rows are {len(classes)} different numbers ({', '.join(classes[:3])[:60]}, ...), "
            "which looks like a measurement: is it the right column? --label names another; or label ranges of it"
        )


def _check_classes_are_kept(table: Table, kept: Table) -> None:
    """Raise `DatasetError` where a class of ``table`` has no row among those that are ``kept`` for training."""
    if table.labels is None or kept.labels is None:
        return
    _check_measurement(_class_order(table.labels), table.rows)
    lost = set(table.labels) - set(kept.labels)
    if lost:
        raise DatasetError(
            f"all rows of class {min(lost)[:60]!r} are among the {table.rows - kept.rows} of {table.rows} that are "
            "kept for testing: take another seed or a smaller share, or leave the class out"
        )


def _numbers(labels: Sequence[str]) -> bool:
    try:
        return all(isfinite(float(text)) for text in labels)
    except ValueError:
        return False


def _fractions(labels: Sequence[str]) -> bool:
    return not all(_INTEGER.fullmatch(text) for text in labels)


def _table_labels(table: Table, classes: tuple[str, ...]) -> IntArray:
    if table.labels is None:
        return np.full(table.rows, UNKNOWN_LABEL, dtype=np.int64)
    return _label_indices(table.labels, classes, table.source)


def _label_indices(labels: Sequence[str], classes: tuple[str, ...], source: str) -> IntArray:
    index = {name: c for c, name in enumerate(classes)}
    unknown = [text for text in labels if text not in index]
    if unknown:
        raise DatasetError(
            f"{source}: label {unknown[0][:60]!r} is none of the classes {', '.join(classes[:10])[:200]}: "
            "correct the row, or name the label column with --label"
        )
    return np.array([index[text] for text in labels], dtype=np.int64)
