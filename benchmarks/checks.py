"""What the checks on the device cost: `python -m benchmarks.checks [--quick]`.

One layer of ternary weights, 45 units behind 423 bits, a fifth of its weights not 0 (ten classes of handwritten digits
by pairs have this shape): bytes that `NAME_check()` and `NAME_selftest()` add to a firmware, and what one call takes.
"""

from __future__ import annotations

import sys

import numpy as np

from benchmarks.cost_samples import balanced_bias, random_weights
from benchmarks.results import Row, save
from mip2mcu import verify
from mip2mcu.decisions import Vote
from mip2mcu.export import TARGETS, ExportOptions, generate
from mip2mcu.layers import Dense
from mip2mcu.network import Network

CORES = ("cortex-m0", "cortex-m4", "rv32imc", "rv32ec", "avr")
LAYOUT = "bit_planes"
VECTORS = 100


def network() -> Network:
    """Pairs of ten classes."""
    rng = np.random.default_rng(0)
    low, high = np.zeros(423, dtype=np.int64), np.ones(423, dtype=np.int64)
    weights = random_weights(rng, (45, 423), "ternary", 0.2)
    layer = Dense(weights, balanced_bias(rng, weights, low, high))
    return Network(low, high, (layer,), Vote(10), tuple("0123456789"))


def rows(core: str) -> list[Row]:
    """Flash and time of both checks on ``core``."""
    subject, options = network(), ExportOptions(layout=LAYOUT)
    tables = generate(subject, core, layout=LAYOUT).program.table_bytes
    report = verify(subject, core, vectors=VECTORS, options=options)
    if report.mismatches:
        raise SystemExit(f"{core}: {report.mismatches} mismatches")
    task = TARGETS[core].description.split(" (")[0].split(",")[0].split(":")[0]
    return [Row(task, "tables", tables, "B", "lower")] + [
        row
        for name in ("check", "selftest")
        for row in (
            Row(task, f"{name} adds", report.checks_flash[name], "B", "lower"),
            Row(task, f"one call of {name}", report.costs[name].maximum, report.costs[name].unit, "lower"),
        )
    ]


def main() -> None:
    quick = "--quick" in sys.argv[1:]
    save("checks", [row for core in (CORES[:1] if quick else CORES) for row in rows(core)], quick=quick)


if __name__ == "__main__":
    main()
