"""The README's tables of `benchmarks.kernels`: some networks beside other C, and how far each bar is met."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from benchmarks.kernel_tasks import GRID_TARGETS
from benchmarks.results import Row, table

CORES = {
    "cortex-m0": "Cortex-M0", "cortex-m3": "Cortex-M3", "cortex-m4": "Cortex-M4", "rv32imc": "RV32IMC",
    "rv32ec": "RV32EC", "avr": "AVR",
}  # fmt: skip
NETWORKS = {
    "784-16-10, weights -1..1, 100 % of weights, binary inputs": "784-16-10, weights -1 and 1, binary inputs",
    "784-16-10, weights -1..1, 10 % of weights, 8-bit inputs": "784-16-10, weights -1..1, 90 % zeros, 8-bit inputs",
    "784-16-10, int8 weights, 100 % of weights, 8-bit inputs": "784-16-10, int8 weights, 8-bit inputs",
    "64-16-10, weights -1..1, 25 % of weights, 8-bit inputs": "64-16-10, weights -1..1, 75 % zeros, 8-bit inputs",
}
SHOWN_CORES = ("cortex-m0", "cortex-m4", "rv32ec", "avr")
PLAIN, FLOAT = "plain int8 loop", "emlearn"


def networks_table(rows: Sequence[Row]) -> str:
    """Instructions (cycles on AVR) and flash of some networks: for speed, for size, a plain loop, float32."""
    lines = []
    grid = {(row.task, row.metric.split(" ")[0]): row for row in rows}
    for network, title in NETWORKS.items():
        for core in SHOWN_CORES:
            task = f"{network}, {core}"
            if (task, "flash") not in grid:
                continue
            speed, flash = grid[task, "cycles" if core == "avr" else "instructions"], grid[task, "flash"]
            cells = [
                _pair(speed.value, flash.references["speed"]),
                _pair(speed.references["size"], flash.value),
                *(_pair(_reference(speed, name), _reference(flash, name)) for name in (PLAIN, FLOAT)),
            ]
            first = title if core == SHOWN_CORES[0] else ""
            lines.append([first, CORES[core], *cells])
    return table(["network", "core", "for speed", "for size", "int8 loop", "emlearn, float32"], lines, 2)


def _reference(row: Row, name: str) -> float | int | str | None:
    return next((value for key, value in row.references.items() if key.startswith(name)), None)


def _pair(count: float | int | str | None, flash: float | int | str | None) -> str:
    return "" if count is None or flash is None else f"{count:,} / {flash:,} B"


def bars_table(rows: Sequence[Row]) -> str:
    """A line a bar, a column a core: the worst figure of each."""
    cores = [core for core in CORES if any(row.task.endswith(f", {core}") for row in rows)]
    lines = []
    for text, chosen, cell in _BARS:
        found = [[row for row in rows if row.task.endswith(f", {core}") and row.bar and chosen(row)] for core in cores]
        lines.append([text, *(cell(own) if own else "" for own in found)])
    return table(["bar", *(CORES[core] for core in cores)], lines)


def _ratio(rows: Sequence[Row]) -> str:
    """The most that any figure is of the known one."""
    return f"{max(float(row.value) / float(next(iter(row.references.values()))) for row in rows):.2f}"


def _least_gain(rows: Sequence[Row]) -> str:
    return f"{min(float(row.value) for row in rows):.1f}"


def _most_percent(rows: Sequence[Row]) -> str:
    return f"{max(float(row.value) for row in rows):.1f} %"


def _is_layer(row: Row, in_bytes: bool) -> bool:
    is_kernel = " -> 16 " in row.task and row.unit != "x" and "--optimize" not in row.metric
    return is_kernel and (row.unit == "B") is in_bytes


def _is_network(row: Row, metric: str) -> bool:
    return "-16-10, " in row.task and row.unit != "x" and row.metric.startswith(metric)


_BARS: tuple[tuple[str, Callable[[Row], bool], Callable[[Sequence[Row]], str]], ...] = (
    ("a layer in each layout over the known kernel, time: at most 1.05", lambda row: _is_layer(row, False), _ratio),
    ("the same, bytes: at most 1.05", lambda row: _is_layer(row, True), _ratio),
    ("weights for size over their entropy: at most 1.25", lambda row: "bytes of weights for" in row.metric, _ratio),
    ("speed over dense int8 at 10 % density: at least 8", lambda row: row.unit == "x", _least_gain),
    (
        "whole networks over the fastest known, time: at most 1",
        lambda row: _is_network(row, "instructions") or _is_network(row, "cycles"),
        _ratio,
    ),
    ("whole networks for size over the smallest known: at most 1", lambda row: _is_network(row, "flash for"), _ratio),
    (
        "the planner's choice above the fastest measured: at most 10 %",
        lambda row: "above the fastest" in row.metric,
        _most_percent,
    ),
    ("the same, above the smallest", lambda row: "above the smallest" in row.metric, _most_percent),
    ("its prediction of time: within 10 %", lambda row: row.metric.startswith("its predicted"), _most_percent),
)
assert set(CORES) == set(GRID_TARGETS)
