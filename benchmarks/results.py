"""The result file that every benchmark writes, and the table that it prints.

    {"command": ..., "cores": 2, "rows": [{"task", "metric", "value", "unit", "better", "references", "bar"}, ...]}

One row a figure; ``references`` holds the baselines and published figures measured for the same task.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from mip2mcu.files import write_text

FOLDER = Path(__file__).resolve().parent / "results"


@dataclass(frozen=True)
class Row:
    """One figure: what was measured, in which unit, which direction is better, what it is compared with."""

    task: str
    metric: str
    value: float | int | str
    unit: str
    better: str = "higher"
    references: Mapping[str, float | int | str] = field(default_factory=dict)
    bar: str = ""


def data_folder() -> Path:
    """The folder with the benchmark data, named by the environment variable MIP2MCU_DATA."""
    folder = os.environ.get("MIP2MCU_DATA")
    if not folder or not Path(folder).is_dir():
        raise SystemExit("set MIP2MCU_DATA to the folder with the data sets listed in benchmarks/README.md")
    return Path(folder)


def save(name: str, rows: Sequence[Row], *, quick: bool) -> None:
    """Print the table and, unless ``quick``, write ``results/NAME.json``."""
    print(markdown(rows))
    if quick:
        print("(--quick: a share of the work, nothing is written)")
        return
    store(name, rows)


def store(name: str, rows: Sequence[Row]) -> None:
    """Write ``results/NAME.json``."""
    command = f"python -m benchmarks.{name}"
    document = {"command": command, "cores": os.cpu_count(), "rows": [asdict(row) for row in rows]}
    write_text(FOLDER / f"{name}.json", json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False) + "\n")


def load(name: str) -> list[Row]:
    """The rows of a committed result."""
    document = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    return [Row(**row) for row in document["rows"]]


def markdown(rows: Sequence[Row]) -> str:
    """A Markdown table with a column for each reference that occurs."""
    names = list(dict.fromkeys(name for row in rows for name in row.references))
    bars = any(row.bar for row in rows)
    header = ["task", "metric", "mip2mcu", *names, *(["bar"] if bars else [])]
    lines = [
        [row.task, row.metric, shown(row.value, row.unit), *references(row, names), *([row.bar] if bars else [])]
        for row in rows
    ]
    return table(header, lines, len(header))


def references(row: Row, names: Sequence[str]) -> list[str]:
    """The references called ``names``, as `shown`; empty where the row has none of that name."""
    return [shown(row.references[name], row.unit) if name in row.references else "" for name in names]


def table(header: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """A Markdown table whose first ``left`` columns are words, the others figures."""
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * left + "---:|" * (len(header) - left)]
    return "\n".join([*lines, *("| " + " | ".join(cells) + " |" for cells in rows)])


def shown(value: float | int | str, unit: str) -> str:
    """A figure with its unit, such as ``96.8 %`` or ``12,345 B``."""
    if isinstance(value, str):
        return value
    text = f"{value:,.1f}" if isinstance(value, float) else f"{value:,}"
    return f"{text} {unit}".strip()
