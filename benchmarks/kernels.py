"""Flash, RAM and instructions of generated C on every core: `python -m benchmarks.kernels [--quick] ...`.

Single layers with known figures, layout by layer; a grid of networks (784-16-10 and 64-16-10, four densities, three
kinds of weights, binary and 8-bit inputs) in every layout, beside a plain int8 loop and the generators on PyPI; and the
bars that these figures must meet. Instructions are counted by emulators (cycles on AVR) and repeat to the last one;
every program's answers are compared with `Network` first. Where a layout reads bits, packing them from the caller's
bytes counts as well.

--known FILE keeps all figures by the code that was measured: of a second run, only what changed is measured again.
--target NAME, given once or more, measures on these cores only, and keeps the results of others; --every measures all
layouts of each network and not only dense weights and those that are predicted to be fast or small.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import numpy as np

from benchmarks.kernel_bars import SIZE, SPEED, bar_rows, unit
from benchmarks.kernel_tasks import GRID_TARGETS, TARGETS, NetworkTask, network_task, network_tasks
from benchmarks.measure import Figures, Model, Taken, measure, measure_models
from benchmarks.peers import emlearn_subject, installed, plain_subject, refusals
from benchmarks.results import FOLDER, Row, load, markdown, store
from mip2mcu.errors import ExportError, VerifyError
from mip2mcu.export import find_target
from mip2mcu.export.options import ExportOptions
from mip2mcu.export.planner import Plan, plan_layouts
from mip2mcu.export.program import Planning, planning

NEAREST = 2
"""Layouts of the first layer measured for each of speed and size, best predictions first, unless all are wanted."""
QUICK_TARGETS = ("cortex-m0", "rv32ec")
WITHIN = 10.0
"""Per cent that the planner's choice may exceed the best layout measured, and its prediction may miss."""


def grid_rows(
    tasks: Sequence[NetworkTask],
    targets: Sequence[str],
    known: Path | None = None,
    most: int | None = NEAREST,
    workers: int | None = None,
) -> list[Row]:
    """Three rows a network and target: instructions for speed, flash for size, RAM; other layouts beside them.

    most    how many layouts of the first layer are measured for each of speed and size, the best by prediction; None
            for all
    """
    shapes = dict.fromkeys(task.inputs for task in tasks)
    rows: list[Row] = []
    for target in targets:
        peers = {inputs: peer_figures(inputs, target, known) for inputs in shapes}
        for task in tasks:
            choices = layout_choices(task, target, most)
            models = [Model(target, task.network, task.rows, options) for options in choices.values()]
            taken = measure_models(models, known=known, workers=workers)
            rows += network_rows(task, target, dict(zip(choices, taken, strict=True)), peers[task.inputs])
        print(f"{target}: {len(tasks)} networks", flush=True)
    return rows


def layout_choices(task: NetworkTask, target: str, most: int | None) -> dict[str, ExportOptions]:
    """What is measured: the planner for speed and for size, and layouts of the first layer, for speed and for size."""
    prepared = planning(task.network, find_target(target), SPEED)
    found = {"speed": SPEED, "size": SIZE}
    for kind, base in (("fast", SPEED), ("compact", SIZE)):
        chosen = prepared.plan(base)
        plans = dict(_plans(prepared, compact=kind == "compact", base=base))
        order = sorted(plans, key=lambda name: (not plans[name].is_priced, _goal(plans[name], kind), name))
        for name in dict.fromkeys([*order[:most], *(["dense"] if kind == "fast" and "dense" in order else [])]):
            is_chosen = plans[name].candidates == chosen.candidates
            found[f"{name}/{kind}"] = base if is_chosen else replace(base, layout=f"{name}/{kind},auto")
    return found


def _plans(prepared: Planning, *, compact: bool, base: ExportOptions) -> Iterator[tuple[str, Plan]]:
    """By layout of the first layer, the best chain behind its fast or its compact code."""
    first, *rest = prepared.surveyed
    usable = [candidate for candidate in first if candidate.lowered is not None]
    both = {candidate.layout for candidate in usable if candidate.compact}
    for candidate in usable:
        if candidate.compact is compact or candidate.layout not in both:
            with suppress(ExportError):
                chosen = plan_layouts(prepared.tasks, ([candidate], *rest), base, prepared.fixed)
                yield candidate.layout, chosen


def _goal(plan: Plan, kind: str) -> int:
    return plan.instructions if kind == "fast" else plan.flash


def network_rows(
    task: NetworkTask, target: str, taken: Mapping[str, Taken], peers: Mapping[str, Figures]
) -> list[Row]:
    """The three rows of a network, of which ``taken`` was measured ("speed", "size", layouts of the first layer)."""
    speed, size = taken["speed"], taken["size"]
    layouts = {name: entry for name, entry in taken.items() if name not in ("speed", "size")}  # "dense/fast", ...
    name = f"{task.name}, {target}"
    predicted = {"predicted": speed.export.program.plan.instructions}
    return [
        Row(
            name, f"{unit(target)} for --optimize speed ({speed.layouts})", speed.inference, unit(target), "lower",
            predicted | {"size": size.inference} | {n: entry.inference for n, entry in layouts.items()}
            | {n: figures.instructions["predict"] for n, figures in peers.items()},
        ),
        Row(
            name, f"flash for --optimize size ({size.layouts})", size.figures.flash, "B", "lower",
            {"predicted": size.export.program.plan.flash, "speed": speed.figures.flash}
            | {n: entry.figures.flash for n, entry in layouts.items()}
            | {n: figures.flash for n, figures in peers.items()},
        ),
        Row(
            name, f"RAM for --optimize speed ({speed.layouts})", speed.figures.ram, "B", "lower",
            {"predicted": speed.export.program.plan.ram} | {n: entry.figures.ram for n, entry in layouts.items()}
            | {n: figures.ram for n, figures in peers.items()},
        ),
    ]  # fmt: skip


def peer_figures(inputs: int, target: str, known: Path | None) -> dict[str, Figures]:
    """Other C for a dense network of this shape; its weights do not matter to it."""
    task = network_task(inputs, 1.0, "many", "8-bit")
    makers = {"plain int8 loop": plain_subject}
    if installed("emlearn"):
        makers[f"emlearn {version('emlearn')} (float32)"] = emlearn_subject
    figures = {}
    for name, make in makers.items():
        try:
            figures[name] = measure([(target, make("peer", task.network, task.rows, target))], known=known)[0]
        except VerifyError as error:
            print(f"{name}, {inputs}-16-10, {target}: {str(error).splitlines()[0][:100]}", flush=True)
    return figures


def refusal_rows() -> list[Row]:
    """The generators that take no neural network, in their own words."""
    task = network_task(64, 1.0, "many", "8-bit")
    found = refusals(task.network)
    return [Row("64-16-10 in other generators", name, text, "", "higher") for name, text in found.items()]


def summary_rows(rows: Sequence[Row], targets: Sequence[str]) -> list[Row]:
    """By target: how far the planner's choice is from the best measured layout, and its prediction from measurement."""
    found = []
    for target in targets:
        own = [row for row in rows if row.task.endswith(f", {target}")]
        speed = [row for row in own if row.unit == unit(target)]
        flash = [row for row in own if row.metric.startswith("flash")]
        for metric, chosen in (("fastest", speed), ("smallest", flash)):
            worst = max(chosen, key=_excess)
            text = f"the planner's choice above the {metric} measured layout, at most ({worst.task})"
            found.append(_share_row(target, text, _excess(worst)))
        worst = max(speed, key=_miss)
        text = f"its predicted {unit(target)} away from the measured, at most ({worst.task})"
        found.append(_share_row(target, text, _miss(worst)))
        middle = float(np.median([_miss(row) for row in speed]))
        found.append(Row(f"planner, {target}", "the same, median", round(middle, 1), "%", "lower"))
    return found


def _share_row(target: str, text: str, value: float) -> Row:
    return Row(f"planner, {target}", text, round(value, 1), "%", "lower", {}, f"<= {WITHIN:.0f}")


def _excess(row: Row) -> float:
    """Per cent above the best layout; names of layouts have no spaces, those of other programs have."""
    layouts = [v for name, v in row.references.items() if name != "predicted" and " " not in name]
    return 100 * (row.value / min([*layouts, row.value]) - 1)


def _miss(row: Row) -> float:
    return 100 * abs(row.references["predicted"] / row.value - 1)


def beside_others(rows: Sequence[Row], targets: Sequence[str]) -> list[Row]:
    """``rows`` of ``targets`` and what is known of other targets, in the order of all targets."""
    known = load("kernels") if (FOLDER / "kernels.json").exists() else []
    found = [row for row in known if row.task.rpartition(", ")[2] not in targets] + list(rows)
    return [row for target in TARGETS for row in found if row.task.endswith(f", {target}")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two targets, the small networks at one density")
    parser.add_argument("--known", type=Path, help="where figures are kept")
    parser.add_argument("--target", action="append", choices=TARGETS, help="which cores (all)")
    parser.add_argument("--every", action="store_true", help="measure every layout of every network")
    parser.add_argument("--workers", type=int, help="processes that measure (as many as there are cores)")
    arguments = parser.parse_args()
    targets = arguments.target or (QUICK_TARGETS if arguments.quick else TARGETS)
    tasks = network_tasks((64,), (0.25,)) if arguments.quick else network_tasks()
    bars = bar_rows(targets, arguments.known, arguments.workers)
    grids = [target for target in targets if target in GRID_TARGETS]
    grid = grid_rows(tasks, grids, arguments.known, None if arguments.every else NEAREST, arguments.workers)
    bars += summary_rows(grid, grids)
    print(markdown(bars))
    print(markdown([row for row in grid if row.task.startswith("64-16-10")][:12]))
    if arguments.quick:
        print("(--quick: a share of the work, nothing is written)")
    else:
        store("kernels", beside_others([*bars, *grid], targets) + refusal_rows())


if __name__ == "__main__":
    main()
