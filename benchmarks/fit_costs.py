"""Fits the cost model of the planner: `python -m benchmarks.fit_costs [--quick] [--samples FILE] ...`.

Measures the functions of some hundred programs on every core (`benchmarks.cost_samples`), solves one least-squares
problem a core for the instructions and one for the bytes of code, and writes mip2mcu/export/cost_table.py. All
coefficients are at least 0; residuals are relative to what was measured. A part of a key with few samples is drawn
towards the same part of its variant with other types. Every fifth function is kept out of a first fit, whose errors on
these are printed; the table is fitted to all.

--samples FILE keeps the measurements in FILE and takes from there those of cores that it holds; --core NAME, given once
or more, measures these cores only (and fits those in FILE as well).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from textwrap import wrap

import numpy as np
from scipy.optimize import nnls

from benchmarks.cost_samples import Sample, measured
from mip2mcu.export import cost_table, find_target
from mip2mcu.export.costs import Item
from mip2mcu.files import write_text

CORES = (
    "cortex-m0", "cortex-m3", "cortex-m4", "cortex-m7", "cortex-m33", "cortex-m55", "rv32imc", "rv32ec", "avr",
)  # fmt: skip
NETWORKS, QUICK_NETWORKS = 36, 12
PULL, DRIFT = 0.3, 0.02
"""Weights of ties, against the relative error of one sample: of a coefficient to its variant's, of that to `USUAL`."""
USUAL = 6.0
"""Instructions or bytes of a part that no sample tells."""
DISTANCE = 0.001
"""Weight of a tie of every part but the once-only ones to `USUAL`, against one sample's relative error."""

Coefficients = Mapping[str, float]


def fit(samples: Sequence[Sample], kind: str) -> dict[str, float]:
    """Coefficients of the parts of all items, named "key|part"; ``kind`` is "turns" or "statements"."""
    rows = [_row(sample, kind) for sample in samples]
    names = sorted({name for row in rows for name in row})
    shared = sorted({_shared(name) for name in names})
    index = {name: k for k, name in enumerate([*names, *shared])}
    signs = np.array([-1.0 if name.endswith("|layer") else 1.0 for name in index])
    matrix = np.zeros((len(rows) + len(names) + len(shared) + len(names), len(index)))
    target = np.zeros(len(matrix))
    for r, (row, sample) in enumerate(zip(rows, samples, strict=True)):
        value, whole = _value(sample, kind)
        target[r] = value / whole
        for name, count in row.items():
            matrix[r, index[name]] = count / whole
    for k, name in enumerate(names):
        at, used = index[_shared(name)], matrix[: len(rows), k]
        typical = float(used.sum() / np.count_nonzero(used))
        matrix[len(rows) + k, [k, at]] = PULL * typical, -PULL * typical
        matrix[len(rows) + at, at] = DRIFT * typical
        target[len(rows) + at] = DRIFT * typical * USUAL
        if not name.split("|")[1].startswith(("call", "function")):
            last = len(rows) + len(index) + k
            matrix[last, k], target[last] = DISTANCE, DISTANCE * USUAL
    solution, _ = nnls(matrix * signs, target, maxiter=50 * len(index))
    return {name: float(signs[index[name]] * solution[index[name]]) for name in names}


def _row(sample: Sample, kind: str) -> dict[str, int]:
    return {f"{item.key}|{part}": n for item in sample.items for part, n in getattr(item, kind).items()}


def _value(sample: Sample, kind: str) -> tuple[int, int]:
    """What was measured, and what errors are relative to."""
    if kind == "turns":
        return sample.instructions, sample.of_instructions
    return sample.code, sample.of_code


def _shared(name: str) -> str:
    """The same part of the same variant, whatever the types."""
    key, part = name.split("|")
    return f"{key.split(' ')[0]} any|{part}"


def errors(samples: Sequence[Sample], coefficients: Coefficients, kind: str) -> np.ndarray:
    """Relative errors of ``samples``; parts without a coefficient take their variant's mean."""
    found = []
    for sample in samples:
        value, whole = _value(sample, kind)
        model = sum(count * _known(name, coefficients) for name, count in _row(sample, kind).items())
        found.append((model - value) / whole)
    return np.array(found)


def _known(name: str, coefficients: Coefficients) -> float:
    if name in coefficients:
        return coefficients[name]
    alike = [value for other, value in coefficients.items() if _shared(other) == _shared(name)]
    return float(np.mean(alike)) if alike else 0.0


def fit_core(samples: Sequence[Sample]) -> tuple[dict[str, float], dict[str, float], dict[str, int]]:
    """Instructions and bytes by part, stack by key, of one core's samples."""
    kept, out = [s for k, s in enumerate(samples) if k % 5], [s for k, s in enumerate(samples) if k % 5 == 0]
    for kind in ("turns", "statements"):
        unseen = np.abs(errors(out, fit(kept, kind), kind))
        shown = ", ".join(f"{100 * q:.1f} %" for q in np.quantile(unseen, (0.5, 0.9, 0.97, 1.0)))
        print(f"  {kind:10} of {len(out)} unseen functions, error (median, 90 %, 97 %, all): {shown}")
        for k in np.argsort(-unseen)[:4]:
            print(f"      {100 * unseen[k]:6.1f} %  {out[k].items[0].key}, measured {_value(out[k], kind)[0]}")
    stack: dict[str, int] = {}
    for sample in samples:
        key = sample.items[0].key
        stack[key] = max(stack.get(key, 0), sample.stack)
    every = {item.key for sample in samples for item in sample.items}
    return fit(samples, "turns"), fit(samples, "statements"), {key: stack.get(key, 0) for key in every}


# ---- the table -----------------------------------------------------------------------------------------------------


def render(fits: Mapping[str, tuple[Coefficients, Coefficients, Mapping[str, int]]], count: int) -> str:
    """The text of cost_table.py."""
    lines = [
        f'"""Made by `python -m benchmarks.fit_costs` from {count:,} measured functions; do not edit.',
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
            for coefficients in (turns, code):
                text = f"{{{_parts(coefficients, key)}}},"
                cut = wrap(text, 118, initial_indent=12 * " ", subsequent_indent=13 * " ", break_on_hyphens=False)
                lines += [line.replace("~", " ") for line in cut]
            lines += [f"            {stack[key]},", "        ),"]
        lines.append("    },")
    return "\n".join([*lines, "}", ""])


def _parts(coefficients: Coefficients, key: str) -> str:
    """The entries of a literal dict; "~" stands for the spaces inside, where no line may end."""
    found = {name.split("|")[1]: value for name, value in coefficients.items() if name.split("|")[0] == key}
    return ", ".join(f'"{part}": {value:.4g}'.replace(" ", "~") for part, value in found.items())


def collect(cores: Sequence[str], file: Path | None, networks: int, known: Path | None) -> dict[str, list[Sample]]:
    """Samples by core: those in ``file``, and of ``cores`` those that it lacks, measured and kept there."""
    samples: dict[str, list[Sample]] = {}
    if file is not None and file.exists():
        stored = json.loads(file.read_text(encoding="utf-8"))
        samples = {core: [_sample(entry) for entry in entries] for core, entries in stored.items()}
    for core in cores:
        if core in samples:
            continue
        samples[core] = measured(find_target(core), networks=networks, known=known)
        print(f"{core}: {len(samples[core])} functions", flush=True)
        if file is not None:
            every = {name: [asdict(sample) for sample in found] for name, found in samples.items()}
            write_text(file, json.dumps(every))
    return {core: samples[core] for core in CORES if core in samples}


def _sample(entry: dict) -> Sample:
    return Sample(**{**entry, "items": tuple(Item(**item) for item in entry["items"])})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few programs; nothing is written")
    parser.add_argument("--samples", type=Path, help="where measurements are kept")
    parser.add_argument("--known", type=Path, help="where figures of programs are kept: none is measured twice")
    parser.add_argument("--core", action="append", choices=CORES, help="which cores to measure (all)")
    arguments = parser.parse_args()
    networks = QUICK_NETWORKS if arguments.quick else NETWORKS
    samples = collect(arguments.core or CORES, arguments.samples, networks, arguments.known)
    fits = {}
    for core, measurements in samples.items():
        print(core)
        fits[core] = fit_core(measurements)
    if not arguments.quick:
        count = sum(len(measurements) for measurements in samples.values())
        write_text(Path(cost_table.__file__), render(fits, count))


if __name__ == "__main__":
    main()
