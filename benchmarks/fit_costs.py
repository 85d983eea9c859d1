"""Fits the cost model of the planner: `python -m benchmarks.fit_costs [--samples FILE] [--quick]`.

Measures some hundred programs on every core (`benchmarks.cost_samples`), solves one least-squares problem a core for
the instructions and one for the bytes of code, and writes mip2mcu/export/cost_table.py. All coefficients are at least
0; residuals are relative to what was measured. A part of a key with few samples is drawn towards the same part of its
variant with other types. Every fifth program is kept out of a first fit, whose errors on these are printed; the table
is fitted to all.

--samples FILE keeps the measurements in FILE (or takes them from there), for work on the model itself.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from scipy.optimize import nnls

from benchmarks.cost_samples import Sample, measured
from mip2mcu.export import cost_table, find_target
from mip2mcu.files import write_text

CORES = (
    "cortex-m0", "cortex-m3", "cortex-m4", "cortex-m7", "cortex-m33", "cortex-m55", "rv32imc", "rv32ec", "avr",
)  # fmt: skip
NETWORKS, QUICK_NETWORKS = 150, 12
PULL, DRIFT = 0.02, 0.002
"""Weights of the ties of a coefficient and its variant's, and between that and `USUAL`, against one sample's relative
error."""
USUAL = 6.0
"""Instructions or bytes of a part that no sample tells."""

Coefficients = Mapping[str, float]


def fit(rows: Sequence[Mapping[str, int]], values: Sequence[int]) -> dict[str, float]:
    """Coefficients of the parts in ``rows`` (names "key|part") whose sums come close to ``values``."""
    names = sorted({name for row in rows for name in row})
    shared = sorted({_shared(name) for name in names})
    index = {name: k for k, name in enumerate([*names, *shared])}
    scale = np.zeros(len(names))
    matrix = np.zeros((len(rows) + len(names) + len(shared), len(index)))
    for r, (row, value) in enumerate(zip(rows, values, strict=True)):
        for name, count in row.items():
            matrix[r, index[name]] = count / value
            scale[index[name]] += count / value
    for k, name in enumerate(names):
        typical = PULL * scale[k] / sum(name in row for row in rows)
        matrix[len(rows) + k, [k, index[_shared(name)]]] = typical, -typical
        matrix[len(rows) + index[_shared(name)], index[_shared(name)]] = typical * DRIFT / PULL
    usual = USUAL * matrix[len(rows) + len(names) :, len(names) :].diagonal()
    target = np.concatenate([np.ones(len(rows)), np.zeros(len(names)), usual])
    solution, _ = nnls(matrix, target, maxiter=50 * matrix.shape[1])
    return {name: float(solution[index[name]]) for name in names}


def _shared(name: str) -> str:
    """The same part of the same variant, whatever the types."""
    key, part = name.split("|")
    return f"{key.split(' ')[0]} any|{part}"


def predicted(row: Mapping[str, int], coefficients: Coefficients) -> float:
    """The model's figure; parts without a coefficient count as their variant's mean."""
    return sum(count * _known(name, coefficients) for name, count in row.items())


def _known(name: str, coefficients: Coefficients) -> float:
    if name in coefficients:
        return coefficients[name]
    alike = [value for other, value in coefficients.items() if _shared(other) == _shared(name)]
    return float(np.mean(alike)) if alike else 0.0


def errors(samples: Sequence[Sample], coefficients: Coefficients, kind: str) -> np.ndarray:
    """Relative errors of ``samples``; ``kind`` is "turns" or "statements"."""
    values = [s.instructions if kind == "turns" else s.code for s in samples]
    return np.array([predicted(getattr(s, kind), coefficients) / v - 1 for s, v in zip(samples, values, strict=True)])


def fit_core(samples: Sequence[Sample]) -> tuple[dict[str, float], dict[str, float], dict[str, int]]:
    """Instructions and bytes by part, stack by key, of one core's samples."""
    kept = [s for k, s in enumerate(samples) if k % 5]
    out = [s for k, s in enumerate(samples) if k % 5 == 0]
    for kind in ("turns", "statements"):
        first = fit([getattr(s, kind) for s in kept], _values(kept, kind))
        unseen = np.abs(errors(out, first, kind))
        worst = np.argsort(-unseen)[:3]
        shown = ", ".join(f"{100 * q:.1f} %" for q in np.quantile(unseen, (0.5, 0.9, 1.0)))
        print(f"  {kind:10} of {len(out)} unseen programs, error (median, 90 %, all): {shown}")
        for k in worst:
            print(f"      {100 * unseen[k]:5.1f} %  {out[k].keys}  {_values(out, kind)[k]}")
    turns = fit([s.turns for s in samples], _values(samples, "turns"))
    code = fit([s.statements for s in samples], _values(samples, "statements"))
    stack: dict[str, int] = {}
    for sample in samples:
        for key in sample.keys:
            stack[key] = min(stack.get(key, sample.stack), sample.stack)
    return turns, code, {key: max(0, value) for key, value in stack.items()}


def _values(samples: Sequence[Sample], kind: str) -> list[int]:
    return [s.instructions if kind == "turns" else s.code for s in samples]


# ---- the table -----------------------------------------------------------------------------------------------------


def render(fits: Mapping[str, tuple[Coefficients, Coefficients, Mapping[str, int]]], count: int) -> str:
    """The text of cost_table.py."""
    lines = [
        f'"""Made by `python -m benchmarks.fit_costs` from {count:,} measured programs; do not edit.',
        "",
        "What a part of a program takes, by core and item, see `mip2mcu.export.costs`: instructions (cycles on AVR) a",
        "turn of each part, bytes a statement of each part, bytes of stack. Compiled by GCC 12.2 (AVR: 5.4) with -O2.",
        '"""',
        "",
        "from __future__ import annotations",
        "",
        "from collections.abc import Mapping",
        "from typing import TypeAlias",
        "",
        "Parts: TypeAlias = Mapping[str, float]",
        "",
        "COSTS: Mapping[str, Mapping[str, tuple[Parts, Parts, int]]] = {",
    ]
    for core, (turns, code, stack) in fits.items():
        lines.append(f'    "{core}": {{')
        for key in sorted(stack):
            lines.append(f'        "{key}": (')
            lines += [f"            {{{_parts(coefficients, key)}}}," for coefficients in (turns, code)]
            lines += [f"            {stack[key]},", "        ),"]
        lines.append("    },")
    return "\n".join([*lines, "}", ""])


def _parts(coefficients: Coefficients, key: str) -> str:
    found = {name.split("|")[1]: value for name, value in coefficients.items() if name.split("|")[0] == key}
    return ", ".join(f'"{part}": {value:.4g}' for part, value in found.items())


def collect(file: Path | None, networks: int) -> dict[str, list[Sample]]:
    """Samples by core, measured, or read from ``file`` where it exists."""
    if file is not None and file.exists():
        stored = json.loads(file.read_text(encoding="utf-8"))
        return {core: [Sample(**{**s, "keys": tuple(s["keys"])}) for s in samples] for core, samples in stored.items()}
    samples = defaultdict(list)
    for core in CORES:
        samples[core] = measured(find_target(core), networks=networks)
        print(f"{core}: {len(samples[core])} programs", flush=True)
        if file is not None:
            stored = {name: [asdict(sample) for sample in every] for name, every in samples.items()}
            file.write_text(json.dumps(stored), encoding="utf-8")
    return samples


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few programs; nothing is written")
    parser.add_argument("--samples", type=Path, help="where measurements are kept")
    arguments = parser.parse_args()
    samples = collect(arguments.samples, QUICK_NETWORKS if arguments.quick else NETWORKS)
    fits = {}
    for core, measurements in samples.items():
        print(core)
        fits[core] = fit_core(measurements)
    if not arguments.quick:
        count = sum(len(measurements) for measurements in samples.values())
        write_text(Path(cost_table.__file__), render(fits, count))


if __name__ == "__main__":
    main()
