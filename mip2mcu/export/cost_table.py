"""What the parts of a program take on each measured core: the tables of the cost model, a JSON file a core.

``cost_tables/CORE.json`` holds, beside the core's name and the number of programs that were measured, the ``items`` of
`mip2mcu.export.costs` by key. Of each: ``instructions`` (cycles on AVR) a turn of each part, ``bytes`` of code a
statement of each part, bytes of ``stack``. Compiled by GCC 12.2 (AVR: 5.4) with -O2. The files are made by
`python -m benchmarks.fit_costs` alone: their digest tells a number that was changed by hand or on the way.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from hashlib import sha256
from importlib.resources import files
from math import isfinite
from typing import Any, TypeAlias

from mip2mcu.errors import ExportError

Parts: TypeAlias = Mapping[str, float]
Entry: TypeAlias = tuple[Parts, Parts, int]
"""Of a key: instructions a turn and bytes a statement of each part, bytes of stack."""

FOLDER = files("mip2mcu.export") / "cost_tables"
"""Where the files are."""
CORES = tuple(sorted(file.name.removesuffix(".json") for file in FOLDER.iterdir() if file.name.endswith(".json")))
"""The cores that were measured."""


@cache
def costs_on(core: str) -> Mapping[str, Entry]:
    """The items of ``core`` by key; none where it was not measured. Raises `ExportError` for a damaged file."""
    return read_table((FOLDER / f"{core}.json").read_text(encoding="utf-8"), core) if core in CORES else {}


def read_table(text: str, core: str) -> dict[str, Entry]:
    """The items in the ``text`` of a file for ``core``; raises `ExportError` where the fit cannot have written it."""
    try:
        table = json.loads(text)
        found = {key: _entry(item) for key, item in table["items"].items()}
        sound = table["core"] == core and table["sha256"] == digest(table["items"])
    except (ValueError, TypeError, KeyError, AttributeError):
        sound, found = False, {}
    if not sound:
        raise ExportError(
            f"the cost table of {core} is not as it was written: reinstall mip2mcu, or in a checkout run "
            f"python -m benchmarks.fit_costs --core {core}"
        )
    return found


def digest(items: Mapping[str, Any]) -> str:
    """SHA-256 of ``items`` as they stand in a file, whatever its line ends and spaces."""
    return sha256(json.dumps(items, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _entry(item: Mapping[str, Any]) -> Entry:
    return _parts(item["instructions"]), _parts(item["bytes"]), _whole(item["stack"])


def _parts(parts: Mapping[str, Any]) -> Parts:
    """``parts``, all of them finite numbers, or raises `ValueError`."""
    if not all(type(value) in (int, float) and isfinite(value) for value in parts.values()):
        raise ValueError
    return dict(parts)


def _whole(size: Any) -> int:
    """``size``, a number of bytes, or raises `ValueError`."""
    if type(size) is not int or size < 0:
        raise ValueError
    return size
