"""Reads CSV and NPZ files into a `Table`: named columns of text or numbers, and the labels as text.

Files are untrusted: sizes are bounded before anything is loaded, NPZ entries are never unpickled, and whatever cannot
be read becomes a `DatasetError` of one sentence with the line and the way out.
"""

from __future__ import annotations

import csv
import re
import zipfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mip2mcu.errors import DatasetError
from mip2mcu.layers import UNIT_LIMIT
from mip2mcu.quantizer import text_fault

FILE_LIMIT = 1024**3
"""Largest data file, unpacked, in bytes."""
CELL_LIMIT = 2**27
"""Most values of a table, and most network inputs of all its rows together: one gigabyte each as int64."""
MISSING = ("", "?")
"""Texts of a CSV cell that stand for a missing value."""
NUMBER = re.compile(r"([+-]?)(?=\.?[0-9])([0-9]*)(?:\.([0-9]*))?(?:[eE]([+-]?[0-9]{1,4}))?")
"""A decimal number in ASCII digits; groups: sign, whole part, fraction, power of ten."""

_NOT_FINITE = re.compile(r"[+-]?(nan|inf|infinity)", re.IGNORECASE)

Part: TypeAlias = Literal["train", "test"]
Column: TypeAlias = "tuple[str, ...] | NDArray[np.generic]"


def is_number(text: str) -> bool:
    """True for a decimal number in ASCII digits, with or without exponent."""
    return NUMBER.fullmatch(text) is not None


def is_not_finite(text: str) -> bool:
    """True for the spellings of NaN and infinity."""
    return _NOT_FINITE.fullmatch(text) is not None


@dataclass(frozen=True)
class Table:
    """What a data file holds.

    names      column names without the label
    columns    one a name: a tuple of texts (CSV) or a numeric array (NPZ), all of the same length
    labels     one text a row, or None where the file has no labels
    shape      shape of one row where an NPZ stores more than one dimension, else (columns,)
    label      name of the column that the labels were taken from; None for an NPZ and without labels
    order      where a row stands in the file, one index a row; None: in the order of the file
    """

    source: str
    names: tuple[str, ...]
    columns: tuple[Column, ...]
    labels: tuple[str, ...] | None
    shape: tuple[int, ...]
    label: str | None = None
    order: tuple[int, ...] | None = None

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.columns[0])

    def number(self, k: int) -> int:
        """Which row of the file row ``k`` is, from 1 on."""
        return 1 + (k if self.order is None else self.order[k])

    def rows_at(self, indices: Sequence[int]) -> Table:
        """The rows ``indices``, in that order."""
        columns = tuple(
            tuple(column[k] for k in indices) if isinstance(column, tuple) else column[list(indices)]
            for column in self.columns
        )
        labels = None if self.labels is None else tuple(self.labels[k] for k in indices)
        return replace(self, columns=columns, labels=labels, order=tuple(self.number(k) - 1 for k in indices))


def read_table(
    path: str | Path, *, label: str | None = None, features: Sequence[str] | None = None, part: Part = "train"
) -> Table:
    """Read ``path`` (.csv or .npz).

    label       name of the label column of a CSV; default: ``label``, else the last column
    features    names of a model's features: only these columns are taken, in this order; a CSV that holds nothing else
                is read without labels
    part        which half of an NPZ that stores ``X_train, y_train, X_test, y_test``
    """
    path = Path(path)
    try:
        _check_file(path)
        if zipfile.is_zipfile(path):
            return _read_npz(path, features, part)
        return _read_csv(path, label, features)
    except OSError as error:
        raise DatasetError(f"cannot read {path}: {error.strerror or error}") from None


def _check_file(path: Path) -> None:
    if path.is_dir():
        raise DatasetError(f"{path} is a folder, name a CSV or NPZ file")
    if path.exists() and not path.is_file():
        raise DatasetError(f"{path} is a pipe or device: write the data to a file first")
    if not path.is_file():
        raise DatasetError(f"there is no data file {path}")
    size = path.stat().st_size
    if size == 0:
        raise DatasetError(f"{path} is empty")
    if size > FILE_LIMIT:
        raise DatasetError(f"{path} has {size} bytes, more than the limit of {FILE_LIMIT}")


# ---- CSV -----------------------------------------------------------------------------------------------------------


def _read_csv(path: Path, label: str | None, features: Sequence[str] | None) -> Table:
    header, rows = _csv_rows(path)
    label_index = _label_column(path, header, label, features)
    wanted = [i for i in range(len(header)) if i != label_index]
    if features is not None:
        place = {name: i for i, name in enumerate(header)}
        absent = [name for name in features if name not in place]
        if absent:
            raise DatasetError(
                f"{path} lacks the column {absent[0][:60]!r} that the model needs ({len(absent)} missing in all)"
            )
        wanted = [place[name] for name in features]
    columns = list(zip(*rows, strict=True))
    labels = None if label_index is None else columns[label_index]
    if labels is not None and any(text in MISSING for text in labels):
        row = next(k for k, text in enumerate(labels, start=1) if text in MISSING)
        raise DatasetError(f"{path} has no label in data row {row}: remove the row or label it")
    return Table(
        source=str(path),
        names=tuple(header[i] for i in wanted),
        columns=tuple(columns[i] for i in wanted),
        labels=labels,
        shape=(len(wanted),),
        label=None if label_index is None else header[label_index],
    )


def _csv_rows(path: Path) -> tuple[list[str], list[list[str]]]:
    """Header and rows, all cells stripped; every row as long as the header. Blank lines are skipped."""
    rows: list[list[str]] = []
    header: list[str] = []
    line = 0
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.reader(stream, strict=True)
            for cells in reader:
                row = [cell.strip() for cell in cells]
                line = reader.line_num
                if not header:
                    if any(row):
                        header = row
                        _check_header(path, header)
                elif len(row) == len(header):
                    rows.append(row)
                elif any(row):
                    raise DatasetError(
                        f"{path}, line {line}: {len(row)} values where the header has {len(header)} columns: "
                        "correct the row, or quote values that hold commas"
                    )
                if len(rows) * len(header) > CELL_LIMIT:
                    raise DatasetError(f"{path} has more than {CELL_LIMIT} values: take fewer rows")
    except UnicodeDecodeError:
        raise DatasetError(f"{path} is no UTF-8 text: save it as CSV in UTF-8, or as NPZ") from None
    except csv.Error as error:
        raise DatasetError(f"{path} is no well-formed CSV after line {line}: {error}") from None
    if not header:
        raise DatasetError(f"{path} is empty")
    if not rows:
        raise DatasetError(f"{path} has a header but no rows")
    return header, rows


def _check_header(path: Path, header: list[str]) -> None:
    if len(header) == 1:
        raise DatasetError(f"{path} has a single column {header[0][:60]!r}: values must be separated by commas")
    if "" in header:
        raise DatasetError(f"{path} has no name for column {header.index('') + 1}: name it in the first line")
    if len(header) > UNIT_LIMIT + 1:
        raise DatasetError(f"{path} has {len(header)} columns, at most {UNIT_LIMIT} features are possible")
    if _is_data(header):
        raise DatasetError(
            f"{path} has no header: its first line holds values ({', '.join(header[:3])[:60]}); "
            "add a line of column names"
        )
    for name in header:
        if fault := text_fault(name):
            raise DatasetError(f"{path} has a column name {name[:40]!r} that {fault}: rename it")
    name, count = Counter(header).most_common(1)[0]
    if count > 1:
        raise DatasetError(f"{path} has {count} columns named {name[:60]!r}: rename them")


def _is_data(header: list[str]) -> bool:
    """True where a first line looks like values: nothing but numbers, or numbers that do not count upwards.

    Tables without names get their columns numbered when they are saved (0, 1, 2, ..., label): that is a header.
    """
    numbers = [name for name in header if is_number(name)]
    counting = all(text.isdecimal() and len(text) < 10 for text in numbers)
    return len(numbers) == len(header) or "?" in header or not counting or sorted(set(numbers), key=int) != numbers


def _label_column(path: Path, header: list[str], label: str | None, features: Sequence[str] | None) -> int | None:
    if label is not None:
        if label not in header:
            last = ", ".join(name[:40] for name in header[-5:])
            raise DatasetError(f"{path} has no label column {label!r}, its last columns are {last}")
        return header.index(label)
    known = set(features or ())
    if "label" in header and "label" not in known:
        return header.index("label")
    if features is None:
        return len(header) - 1
    others = [i for i, name in enumerate(header) if name not in known]
    return others[-1] if others else None


# ---- NPZ -----------------------------------------------------------------------------------------------------------


def _read_npz(path: Path, features: Sequence[str] | None, part: Part) -> Table:
    values, labels = _npz_arrays(path, part)
    if values.ndim < 2 or values.size == 0:
        raise DatasetError(f"{path}: X has shape {values.shape}, expected (rows, features)")
    if values.dtype.kind not in "iufb":
        raise DatasetError(f"{path}: X is of type {values.dtype}, expected numbers")
    count, shape = len(values), values.shape[1:]
    if prod(shape) > UNIT_LIMIT:
        raise DatasetError(f"{path} has {prod(shape)} features a row, at most {UNIT_LIMIT} are possible")
    values = values.reshape(count, prod(shape))
    names = tuple(features) if features is not None else tuple(f"x{i}" for i in range(values.shape[1]))
    if len(names) != values.shape[1]:
        raise DatasetError(
            f"{path} has {values.shape[1]} features a row, the model expects {len(names)}: "
            "give those that it was trained on"
        )
    texts = None if labels is None else label_texts(str(path), labels)
    if texts is not None and len(texts) != count:
        raise DatasetError(f"{path} has {count} rows in X but {len(texts)} labels in y")
    return Table(str(path), names, tuple(values.T), texts, shape)


def _npz_arrays(path: Path, part: Part) -> tuple[NDArray[np.generic], NDArray[np.generic] | None]:
    """X and, where there is one, y; nothing is unpickled, and no header is believed before it is checked."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = {entry.filename.removesuffix(".npy"): entry for entry in archive.infolist()}
            suffix = f"_{part}" if {"X_train", "X_test"} <= set(entries) else ""
            if f"X{suffix}" not in entries:
                held = ", ".join(sorted(entries)[:6])[:80] or "nothing"
                raise DatasetError(f"{path} holds {held}: expected X and y, or X_train, y_train, X_test, y_test")
            labels = entries.get(f"y{suffix}")
            return _npz_array(archive, entries[f"X{suffix}"]), None if labels is None else _npz_array(archive, labels)
    except (DatasetError, OSError):
        raise
    except Exception as error:  # zipfile, zlib, lzma, ast and numpy each have their own for damaged bytes
        reason = str(error).splitlines()[0][:80] if str(error) else type(error).__name__
        raise DatasetError(
            f"{path} is no NPZ file of plain numeric arrays ({reason}): write it with numpy.savez"
        ) from None


def read_arrays(path: Path) -> dict[str, NDArray[np.generic]]:
    """All arrays of an NPZ file by name, with the same precautions as for data."""
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > FILE_LIMIT:
                raise ValueError(f"it unpacks to more than {FILE_LIMIT} bytes")
            return {entry.filename.removesuffix(".npy"): _npz_array(archive, entry) for entry in archive.infolist()}
    except FileNotFoundError:
        raise DatasetError(f"there is no file {path}") from None
    except OSError as error:
        raise DatasetError(f"cannot read {path}: {error.strerror}") from None
    except Exception as error:  # as above
        reason = str(error).splitlines()[0][:80] if str(error) else type(error).__name__
        raise DatasetError(
            f"{path} is no NPZ file of plain numeric arrays ({reason}): write it with numpy.savez"
        ) from None


def _npz_array(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> NDArray[np.generic]:
    """Read one array after its header: numpy would allocate whatever a header says."""
    with archive.open(entry) as stream:
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(stream)
    size = prod(shape) * max(1, dtype.itemsize)
    if dtype.hasobject:
        raise ValueError(f"{entry.filename} holds Python objects")
    if min(shape, default=0) < 0 or size > entry.file_size:
        raise ValueError(f"{entry.filename} promises {size} bytes and has {entry.file_size}")
    if prod(shape) > CELL_LIMIT or size > FILE_LIMIT:
        raise ValueError(f"{entry.filename} of shape {shape} is larger than {CELL_LIMIT} values: take fewer rows")
    with archive.open(entry) as stream:
        return np.lib.format.read_array(stream, allow_pickle=False)


def label_texts(source: str, labels: NDArray[np.generic]) -> tuple[str, ...]:
    """Labels (rows,) of an array as texts; raises `DatasetError` for fractions, missing values and other types."""
    if labels.ndim != 1 or labels.dtype.kind not in "iufbSU":
        raise DatasetError(
            f"{source} has labels of shape {labels.shape} and type {labels.dtype}, expected integers or text (rows,)"
        )
    if labels.dtype.kind == "f":
        if not (np.abs(labels) < 2**53).all() or (labels != np.rint(labels)).any():
            raise DatasetError(
                f"{source} has labels that are fractional numbers; mip2mcu classifies, give classes as integers or text"
            )
        labels = labels.astype(np.int64)
    values = labels.tolist()
    texts = tuple((v.decode(errors="replace") if isinstance(v, bytes) else str(v)).strip() for v in values)
    if any(text in MISSING for text in texts):
        row = next(k for k, text in enumerate(texts, start=1) if text in MISSING)
        raise DatasetError(f"{source} has no label in row {row}: remove the row or label it")
    return texts
