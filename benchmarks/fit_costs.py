"""Fits the cost model of the planner: `python -m benchmarks.fit_costs --kept FILE [--quick] [--core NAME] ...`.

Measures the functions of some hundred programs on every core (`benchmarks.cost_samples`), solves one least-squares
problem a core for the instructions and one for the bytes of code, and writes mip2mcu/export/cost_table.py. All
coefficients are at least 0; residuals are relative to what was measured. A part of a key with few samples is drawn
towards the same part of its variant with other types. Every fifth program is kept out of a first fit, whose errors on
its functions are printed; the table is fitted to all.

--kept FILE keeps what was measured, a program a line: a run that is stopped goes on there. What it holds stands for
today's code: with layouts whose text has changed start a new file. --core NAME, given once or more, takes these cores
only, all others are then predicted as a core that is like them. --measure only measures, so that cores can take turns.
--errors prints the worst predictions of each kind of code.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from textwrap import wrap
from typing import TypeAlias

import numpy as np
from scipy.optimize import nnls

from benchmarks.cost_samples import Case, Sample, covering, measured, promising, samples_of
from mip2mcu.export import cost_table, find_target
from mip2mcu.export.costs import Entry
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

_CHECKSUM = "CHECKSUM"

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


# ---- the table -----------------------------------------------------------------------------------------------------


def render(fits: Mapping[str, Fit], count: int) -> str:
    """The text of cost_table.py."""
    lines = [
        f'"""Made by `python -m benchmarks.fit_costs` from {count:,} measured functions; do not edit: tests see it.',
        "",
        "What a part of a program takes, by core and item, see `mip2mcu.export.costs`: instructions (cycles on AVR) a",
        "turn of each part, bytes a statement of each part, bytes of stack. Compiled by GCC 12.2 (AVR: 5.4) with -O2.",
        f"SHA-256 of what follows: {_CHECKSUM}",
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
    table = "\n".join([*lines, "}", ""])
    return table.replace(_CHECKSUM, checksum(table), 1)


def checksum(text: str) -> str:
    """SHA-256 of cost_table.py from its first import on."""
    return sha256(text[text.index("from __future__") :].encode()).hexdigest()


def _parts(coefficients: Coefficients, key: str) -> str:
    """The entries of a literal dict; "~" stands for the spaces inside, where no line may end."""
    return ", ".join(f'"{part}": {value:.4g}'.replace(" ", "~") for part, value in _of(coefficients, key).items())


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
    fits: dict[str, Fit] = {}
    count = 0
    for core in arguments.core or CORES:
        programs = collect(core, arguments.kept, quick=arguments.quick, workers=arguments.workers)
        print(f"{core}: {len(programs)} programs", flush=True)
        if arguments.measure:
            continue
        check(programs)
        samples = [sample for program in programs for sample in program]
        fits[core] = fitted(samples)
        count += len(samples)
        if arguments.errors:
            show_worst(samples, fits[core][0])
    if not (arguments.quick or arguments.measure):
        write_text(Path(cost_table.__file__), render(fits, count))


if __name__ == "__main__":
    main()
