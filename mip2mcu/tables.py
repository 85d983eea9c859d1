"""Reads CSV and NPZ files into a `Table`: named columns of text or numbers, and the labels as text.

Files are untrusted: sizes are bounded before anything is loaded, NPZ entries are never unpickled, and whatever cannot
be read becomes a `DatasetError` of one sentence with the line and the way out.
"""

from __future__ import annotations

import csv
import re
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mip2mcu.errors import DatasetError
from mip2mcu.layers import UNIT_LIMIT

FILE_LIMIT = 1024**3
"""Largest data file, unpacked, in bytes."""
MISSING = ("", "?")
"""Texts of a CSV cell that stand for a missing value."""

_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,4})?")
_NOT_FINITE = re.compile(r"[+-]?(nan|inf|infinity)", re.IGNORECASE)

Part: TypeAlias = Literal["train", "test"]
Column: TypeAlias = "tuple[str, ...] | NDArray[np.generic]"


def is_number(text: str) -> bool:
    """True for a decimal number in ASCII digits, with or without exponent."""
    return _NUMBER.fullmatch(text) is not None


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
    """

    source: str
    names: tuple[str, ...]
    columns: tuple[Column, ...]
    labels: tuple[str, ...] | None
    shape: tuple[int, ...]

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.columns[0])


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
    if path.is_dir():
        raise DatasetError(f"{path} is a folder, name a CSV or NPZ file")
    if not path.is_file():
        raise DatasetError(f"there is no data file {path}")
    if path.stat().st_size == 0:
        raise DatasetError(f"{path} is empty")
    if path.stat().st_size > FILE_LIMIT:
        raise DatasetError(f"{path} has {path.stat().st_size} bytes, more than the limit of {FILE_LIMIT}")
    try:
        if zipfile.is_zipfile(path):
            return _read_npz(path, features, part)
        return _read_csv(path, label, features)
    except OSError as error:
        raise DatasetError(f"cannot read {path}: {error.strerror or error}") from None


# ---- CSV -----------------------------------------------------------------------------------------------------------


def _read_csv(path: Path, label: str | None, features: Sequence[str] | None) -> Table:
    header, rows = _csv_rows(path)
    label_index = _label_column(path, header, label, features)
    wanted = [i for i in range(len(header)) if i != label_index]
    if features is not None:
        absent = [name for name in features if name not in header]
        if absent:
            raise DatasetError(
                f"{path} lacks the column {absent[0]!r} that the model needs ({len(absent)} missing in all)"
            )
        wanted = [header.index(name) for name in features]
    if not wanted:
        raise DatasetError(f"{path} has only the label column {header[0]!r}, add a column with a feature")
    if len(wanted) > UNIT_LIMIT:
        raise DatasetError(f"{path} has {len(wanted)} feature columns, at most {UNIT_LIMIT} are possible")
    columns = list(zip(*rows, strict=True))
    labels = None if label_index is None else columns[label_index]
    if labels is not None and any(text in MISSING for text in labels):
        line = next(k for k, text in enumerate(labels) if text in MISSING) + 2
        raise DatasetError(f"{path} has no label in line {line}: remove the row or label it")
    return Table(str(path), tuple(header[i] for i in wanted), tuple(columns[i] for i in wanted), labels, (len(wanted),))


def _csv_rows(path: Path) -> tuple[list[str], list[list[str]]]:
    """Header and rows, all cells stripped; every row as long as the header."""
    csv.field_size_limit(1_000_000)
    rows: list[list[str]] = []
    header: list[str] = []
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.reader(stream, strict=True)
            for cells in reader:
                if not cells:
                    continue
                row = [cell.strip() for cell in cells]
                if not header:
                    header = row
                elif len(row) != len(header):
                    raise DatasetError(
                        f"{path}, line {reader.line_num}: {len(row)} values where the header has {len(header)} columns"
                    )
                else:
                    rows.append(row)
    except UnicodeDecodeError:
        raise DatasetError(f"{path} is no UTF-8 text: save it as CSV in UTF-8, or as NPZ") from None
    except csv.Error as error:
        raise DatasetError(f"{path} is no well-formed CSV: {error}") from None
    _check_header(path, header, len(rows))
    return header, rows


def _check_header(path: Path, header: list[str], rows: int) -> None:
    if not header:
        raise DatasetError(f"{path} is empty")
    if all(is_number(name) for name in header):
        raise DatasetError(f"{path} has no header: its first line holds only numbers; add a line of column names")
    if len(header) == 1:
        raise DatasetError(f"{path} has a single column {header[0][:60]!r}: values must be separated by commas")
    twice = [name for name in header if header.count(name) > 1] if len(set(header)) < len(header) else []
    if twice:
        raise DatasetError(f"{path} has two columns named {twice[0]!r}: rename one")
    if rows == 0:
        raise DatasetError(f"{path} has a header but no rows")


def _label_column(path: Path, header: list[str], label: str | None, features: Sequence[str] | None) -> int | None:
    if label is not None:
        if label not in header:
            raise DatasetError(
                f"{path} has no label column {label!r}, its columns are {', '.join(header[-5:])} (last five)"
            )
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
    arrays = _npz_arrays(path)
    split = {"X_train", "X_test"} <= set(arrays)
    x_name, y_name = (f"X_{part}", f"y_{part}") if split else ("X", "y")
    if x_name not in arrays:
        raise DatasetError(
            f"{path} holds {', '.join(sorted(arrays)) or 'nothing'}: "
            "expected X and y, or X_train, y_train, X_test, y_test"
        )
    values = arrays[x_name]
    if values.ndim < 2 or values.size == 0:
        raise DatasetError(f"{path}: {x_name} has shape {values.shape}, expected (rows, features)")
    if values.dtype.kind not in "iufb":
        raise DatasetError(f"{path}: {x_name} is of type {values.dtype}, expected numbers")
    count, shape = len(values), values.shape[1:]
    if prod(shape) > UNIT_LIMIT:
        raise DatasetError(f"{path} has {prod(shape)} features a row, at most {UNIT_LIMIT} are possible")
    values = values.reshape(count, -1)
    names = tuple(features) if features is not None else tuple(f"x{i}" for i in range(values.shape[1]))
    if len(names) != values.shape[1]:
        raise DatasetError(f"{path} has {values.shape[1]} features a row, the model expects {len(names)}")
    labels = _npz_labels(path, arrays[y_name], count) if y_name in arrays else None
    return Table(str(path), names, tuple(values.T), labels, shape)


def _npz_arrays(path: Path) -> dict[str, NDArray[np.generic]]:
    try:
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                _check_npz_entry(path, archive, entry)
        with np.load(path, allow_pickle=False) as content:
            wanted = [n for n in ("X", "y", "X_train", "y_train", "X_test", "y_test") if n in content.files]
            return {name: content[name] for name in wanted}
    except (ValueError, zipfile.BadZipFile, EOFError, KeyError, MemoryError, NotImplementedError) as error:
        raise DatasetError(
            f"{path} is no NPZ file of plain numeric arrays ({type(error).__name__}): write it with numpy.savez"
        ) from None


def _check_npz_entry(path: Path, archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> None:
    """Refuse an entry whose header promises more data than it holds: numpy would allocate what the header says."""
    if entry.file_size > FILE_LIMIT:
        raise DatasetError(
            f"{path}: entry {entry.filename!r} unpacks to {entry.file_size} bytes, the limit is {FILE_LIMIT}"
        )
    if not entry.filename.endswith(".npy"):
        return
    with archive.open(entry) as stream:
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(stream)
    if prod(shape) * dtype.itemsize > entry.file_size:
        raise ValueError("header and size differ")


def _npz_labels(path: Path, labels: NDArray[np.generic], rows: int) -> tuple[str, ...]:
    if labels.ndim != 1 or len(labels) != rows:
        raise DatasetError(f"{path} has {rows} rows but labels of shape {labels.shape}")
    if labels.dtype.kind == "f":
        if not np.isfinite(labels).all() or (labels != np.rint(labels)).any():
            raise DatasetError(
                f"{path}: the labels are fractional numbers; mip2mcu classifies, give classes as integers or text"
            )
        labels = labels.astype(np.int64)
    return tuple(str(value) for value in labels.tolist())
