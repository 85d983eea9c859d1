"""Fits the cost model of the planner: `python -m benchmarks.fit_costs --kept FILE [--quick] [--core NAME] ...`.

Measures the functions of some hundred programs on every core (`benchmarks.cost_samples`), solves one least-squares
problem a core for the instructions and one for the bytes of code, and writes mip2mcu/export/cost_tables/CORE.json. All
coefficients are at least 0; residuals are relative to what was measured. A part of a key with few samples is drawn
towards the same part of its variant with other types. Every fifth program is kept out of a first fit, whose errors on
its functions are printed; the table is fitted to all.

--kept FILE keeps what was measured, a program a line: a run that is stopped goes on there. What it holds stands for
today's code: with layouts whose text has changed start a new file. --core NAME, given once or more, takes these cores
only and leaves the files of all others as they are; a core without a file is predicted as one that is like it.
--measure only measures, so that cores can take turns. --errors prints the worst predictions of each kind of code.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import wrap
from typing import TypeAlias

import numpy as np
from scipy.optimize import nnls

from benchmarks.cost_samples import Case, Sample, covering, measured, promising, samples_of
from mip2mcu.export import find_target
from mip2mcu.export.cost_table import FOLDER, Entry, digest
from mip2mcu.files import write_text

CORES = (
    "cortex-m0", "cortex-m3", "cortex-m4", "cortex-m7", "cortex-m33", "cortex-m55", "rv32imc", "rv32ec", "avr",
)  # fmt: skip
QUICK = {"usual": 4, "dense": 6}
"""Networks of each kind in a quick run."""
PULL, DRIFT = 0.3, 0.02
"""Weights of ties, against the relative error of one sample: of a coefficient to its variant's, of that to `USUAL`."""
USUAL = 6.0
"""Instructions or bytes of a part that no sample tells."""
DISTANCE = 0.001
"""Weight of a tie of every part but the once-only ones to `USUAL`, against one sample's relative error."""

Coefficients: TypeAlias = Mapping[str, float]
Fit: TypeAlias = tuple[Coefficients, Coefficients, Mapping[str, int]]


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
    return {f"{item.key}|{part}": n for item in sample.items for part, n in getattr(item, kind).items() if n}


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


def fitted(samples: Sequence[Sample]) -> Fit:
    """Instructions and bytes by part, stack by key, of one core's samples."""
    stack: dict[str, int] = {}
    for sample in samples:
        for item in sample.items:
            stack[item.key] = max(stack.get(item.key, 0), sample.stack if item is sample.items[0] else 0)
    return fit(samples, "turns"), fit(samples, "statements"), stack


def entries(turns: Coefficients, code: Coefficients, stack: Mapping[str, int]) -> dict[str, Entry]:
    """The same by key, as `mip2mcu.export.costs` reads it."""
    return {key: (_of(turns, key), _of(code, key), size) for key, size in stack.items()}


def _of(coefficients: Coefficients, key: str) -> dict[str, float]:
    split = ((*name.split("|"), value) for name, value in coefficients.items())
    return {part: value for owner, part, value in split if owner == key}


def check(programs: Sequence[Sequence[Sample]]) -> None:
    """Print the errors of a fit to four programs of five on the fifth ones, but for code that the four do not have."""
    kept = [sample for k, program in enumerate(programs) if k % 5 for sample in program]
    known = {_variant(sample) for sample in kept}
    out = [sample for program in programs[::5] for sample in program if _variant(sample) in known]
    for kind in ("turns", "statements"):
        unseen = np.abs(errors(out, fit(kept, kind), kind))
        shown = ", ".join(f"{100 * q:.1f} %" for q in np.quantile(unseen, (0.5, 0.9, 0.97, 1.0)))
        print(f"  {kind:10} of {len(out)} unseen functions, error (median, 90 %, 97 %, all): {shown}")
        for k in np.argsort(-unseen)[:4]:
            print(f"      {100 * unseen[k]:6.1f} %  {out[k].items[0].key}, measured {_value(out[k], kind)[0]}")


def _variant(sample: Sample) -> str:
    return sample.items[0].key.split(" ")[0]


def show_worst(samples: Sequence[Sample], turns: Coefficients, least: float = 0.03) -> None:
    """Print the functions whose instructions the fit to all of them misses most, by kind of code."""
    missed = errors(samples, turns, "turns")
    for key in sorted({sample.items[0].key for sample in samples}):
        own = [k for k, sample in enumerate(samples) if sample.items[0].key == key]
        worst = sorted(own, key=lambda k: -abs(missed[k]))[:3]
        if abs(missed[worst[0]]) >= least:
            print(f"  {key}: {len(own)} functions")
            for k in worst:
                print(f"    {100 * missed[k]:6.1f} % of {samples[k].instructions}: {dict(samples[k].items[0].turns)}")


# ---- the files -----------------------------------------------------------------------------------------------------


def render(core: str, table: Mapping[str, Entry], programs: int) -> str:
    """The text of the file for ``core``, fitted to ``programs`` programs."""
    items = ",\n".join(_item(key, *table[key]) for key in sorted(table))
    head = {"core": core, "programs": programs, "sha256": digest(json.loads(f"{{{items}}}"))}
    lines = [f"  {json.dumps(name)}: {json.dumps(value)}," for name, value in head.items()]
    return "\n".join(["{", *lines, '  "items": {', items, "  }", "}", ""])


def _item(key: str, turns: Coefficients, code: Coefficients, stack: int) -> str:
    lines = [*_parts("instructions", turns), *_parts("bytes", code), f'      "stack": {stack}']
    return "\n".join([f'    "{key}": {{', *lines, "    }"])


def _parts(name: str, coefficients: Coefficients) -> list[str]:
    """The lines of an object of numbers of four digits; "~" stands for the spaces where no line may end."""
    parts = ", ".join(f'"{part}": {value + 0.0:.4g}'.replace(" ", "~") for part, value in coefficients.items())
    indents = {"initial_indent": 6 * " ", "subsequent_indent": (len(name) + 11) * " "}
    lines = wrap(f'"{name}":~{{{parts}}},', 118, **indents, break_on_hyphens=False)
    return [line.replace("~", " ") for line in lines]


def collect(core: str, kept: Path, *, quick: bool = False, workers: int | None = None) -> list[list[Sample]]:
    """The functions of each program of ``core``: of those that cover all code, then of those that seem best."""
    target = find_target(core)
    cases: list[Case] = list(covering(target, QUICK) if quick else covering(target))
    taken = measured(target, cases, kept, workers)
    programs = [samples_of(case, target, taken[case]) for case in cases]
    table = entries(*fitted([sample for program in programs for sample in program]))
    cases = [case for case in promising(target, table, *([2] if quick else [])) if case not in taken]
    taken = measured(target, cases, kept, workers)
    return programs + [samples_of(case, target, taken[case]) for case in cases]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few programs; nothing is written")
    parser.add_argument("--kept", type=Path, required=True, help="where measurements are kept")
    parser.add_argument("--core", action="append", choices=CORES, help="which cores to measure (all)")
    parser.add_argument("--workers", type=int, help="processes (one a CPU)")
    parser.add_argument("--measure", action="store_true", help="measure only; nothing is written")
    parser.add_argument("--errors", action="store_true", help="print the worst predictions of each kind of code")
    arguments = parser.parse_args()
    for core in arguments.core or CORES:
        programs = collect(core, arguments.kept, quick=arguments.quick, workers=arguments.workers)
        print(f"{core}: {len(programs)} programs", flush=True)
        if arguments.measure:
            continue
        check(programs)
        samples = [sample for program in programs for sample in program]
        found = fitted(samples)
        if arguments.errors:
            show_worst(samples, found[0])
        if not arguments.quick:
            write_text(Path(str(FOLDER / f"{core}.json")), render(core, entries(*found), len(programs)))


if __name__ == "__main__":
    main()
