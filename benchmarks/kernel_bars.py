"""The bars of `benchmarks.kernels`: single layers, weights near their entropy, sparse against dense, whole networks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

from benchmarks.kernel_tasks import (
    BEST_NETWORKS,
    PACKING,
    LayerTask,
    NetworkReference,
    Reference,
    entropy_bytes,
    layer_tasks,
    network_task,
)
from benchmarks.measure import Model, Taken, measure_models
from benchmarks.results import Row
from mip2mcu.errors import ExportError
from mip2mcu.export import generate
from mip2mcu.export.options import ExportOptions

SPEED, SIZE = ExportOptions(optimize="speed"), ExportOptions(optimize="size")
SLACK = 1.05
SIZE_SLACK = 1.25
GAIN = 8
GAIN_TARGETS = ("cortex-m0", "cortex-m3", "cortex-m4", "rv32imc", "rv32ec", "avr")
DENSE = ("dense", "dense_dsp")


Take: TypeAlias = Callable[[Sequence[Model]], list[Taken]]
"""Measures models."""


def bar_rows(targets: Sequence[str], known: Path | None, workers: int | None) -> list[Row]:
    """All figures that have a bar, but for those of the grid of networks."""

    def take(models: Sequence[Model]) -> list[Taken]:
        return measure_models(models, known=known, workers=workers)

    layers = layer_tasks()
    rows: list[Row] = []
    for target in targets:
        one = (target,)
        rows += layer_rows(layers, one, take) + size_rows(layers[0], one) + density_rows(layers[0], one, take)
        rows += best_rows(one, take) + packing_rows(one, take)
        print(f"{target}: bars measured", flush=True)
    return rows


def unit(target: str) -> str:
    """What is counted on ``target``."""
    return "cycles" if target == "avr" else "instructions"


def is_possible(model: Model) -> bool:
    """Whether the model can be exported with its options."""
    try:
        generate(model.network, model.target, "m", options=model.options)
    except ExportError:
        return False
    return True


# ---- layers --------------------------------------------------------------------------------------------------------


def layer_rows(tasks: Sequence[LayerTask], targets: Sequence[str], take: Take) -> list[Row]:
    """Instructions and bytes of each layout, beside the kernel that was measured for it; at most 1.05 times that."""
    wanted = [
        (task, reference, Model(target, task.network, task.rows, _options(reference)))
        for task in tasks
        for reference in task.references
        for target in targets
        if target in reference.instructions
    ]
    wanted = [entry for entry in wanted if is_possible(entry[2])]
    taken = take([model for _, _, model in wanted])
    rows = []
    for (task, reference, model), found in zip(wanted, taken, strict=True):
        rows += _layer_figures(task, reference, model.target, found)
    return rows


def _options(reference: Reference) -> ExportOptions:
    return replace(SPEED, layout=f"{reference.layout}/fast", static_scratch=reference.static)


def _layer_figures(task: LayerTask, reference: Reference, target: str, taken: Taken) -> list[Row]:
    name = f"{reference.layout}, static input" if reference.static else reference.layout
    known = reference.instructions[target]
    label = f"{task.name}, {target}"
    figures = [
        Row(
            label, f"{name}, {unit(target)}", taken.figures.instructions["sums"], unit(target), "lower",
            {reference.kernel: known}, f"<= {int(SLACK * known):,}",
        )
    ]  # fmt: skip
    bytes_known = reference.flash_on(target)
    if bytes_known is not None:
        weights = taken.export.program.table_bytes or taken.figures.code["sums"]
        figures.append(
            Row(
                label, f"{name}, bytes of weights", weights, "B", "lower",
                {reference.kernel: bytes_known}, f"<= {int(SLACK * bytes_known):,}",
            )
        )  # fmt: skip
    return figures


def size_rows(task: LayerTask, targets: Sequence[str]) -> list[Row]:
    """Bytes of weights where flash counts most, beside their entropy."""
    bound = entropy_bytes(task.network.layers[0].weights)
    rows = []
    for target in targets:
        program = generate(task.network, target, "m", options=SIZE).program
        layout = program.layers[0].lowered.layout
        rows.append(
            Row(
                f"{task.name}, {target}", f"bytes of weights for --optimize size ({layout})", program.table_bytes, "B",
                "lower", {"entropy of the weights": round(bound)}, f"<= {int(SIZE_SLACK * bound):,}",
            )
        )  # fmt: skip
    return rows


def density_rows(task: LayerTask, targets: Sequence[str], take: Take) -> list[Row]:
    """How many times faster than the best dense int8 code the fastest code is, at 10 % density."""
    grid = network_task(784, 0.1, "ternary", "8-bit")
    rows = []
    for name, network, inputs in ((task.name, task.network, task.rows), (grid.name, grid.network, grid.rows)):
        models = [
            Model(target, network, inputs, replace(SPEED, layout=layout))
            for target in targets
            if target in GAIN_TARGETS
            for layout in (*DENSE, None)
        ]
        models = [model for model in models if is_possible(model)]
        figures = take(models)
        taken = dict(zip([(m.target, m.options.layout) for m in models], figures, strict=True))
        for target in dict.fromkeys(model.target for model in models):
            dense = {layout: taken[target, layout].inference for layout in DENSE if (target, layout) in taken}
            ours = taken[target, None]
            gain = round(min(dense.values()) / ours.inference, 2)
            label = f"speed over the best dense int8 code, --optimize speed ({ours.layouts})"
            rows.append(Row(f"{name}, {target}", label, gain, "x", "higher", dense, f">= {GAIN}"))
    return rows


# ---- whole networks ------------------------------------------------------------------------------------------------


def best_rows(targets: Sequence[str], take: Take) -> list[Row]:
    """Whole networks beside the best that were measured for their kind; packing is not part of these figures."""
    tasks = {r.title: network_task(r.inputs, r.density, r.weights, r.input_kind) for r in BEST_NETWORKS}
    wanted = [
        (reference, Model(target, tasks[reference.title].network, tasks[reference.title].rows, options, packs=False))
        for reference in BEST_NETWORKS
        for target in targets
        if target in reference.instructions
        for options in (SIZE, *(replace(SPEED, layout=layout) for layout in reference.layouts or (None,)))
    ]
    found: dict[tuple[str, str], list[tuple[NetworkReference, ExportOptions, Taken]]] = {}
    for (reference, model), taken in zip(wanted, take([m for _, m in wanted]), strict=True):
        found.setdefault((reference.title, model.target), []).append((reference, model.options, taken))
    rows = []
    for (_, target), entries in found.items():
        fast = [taken for _, options, taken in entries if options is not SIZE]
        fastest = min(fast, key=lambda taken: taken.figures.instructions["predict"])
        rows += _best_figures(entries[0][0], target, fastest, entries[0][2])
    return rows


def _best_figures(reference: NetworkReference, target: str, fastest: Taken, smallest: Taken) -> list[Row]:
    count = fastest.figures.instructions["predict"]
    entries = [
        (f"{unit(target)} ({fastest.layouts})", count, unit(target), reference.instructions),
        (f"flash for --optimize size ({smallest.layouts})", smallest.figures.flash, "B", reference.smallest),
    ]
    return [
        Row(f"{reference.title}, {target}", metric, value, what, "lower", {"best known": best[target]},
            f"<= {best[target]:,}")
        for metric, value, what, best in entries
        if target in best
    ]  # fmt: skip


def packing_rows(targets: Sequence[str], take: Take) -> list[Row]:
    """Instructions that make bits of the caller's bytes."""
    rows = []
    for inputs, published in PACKING.items():
        task = network_task(inputs, 1.0, "ternary", "binary")
        models = [Model(t, task.network, task.rows, replace(SPEED, layout="bit_planes,auto")) for t in targets]
        for model, taken in zip(models, take(models), strict=True):
            reference = {"byte by byte": published[model.target]} if model.target in published else {}
            bar = f"<= {published[model.target]:,}" if reference else ""
            count = taken.figures.instructions["pack"]
            rows.append(
                Row(f"packing {inputs} inputs, {model.target}", unit(model.target), count, unit(model.target), "lower",
                    reference, bar)
            )  # fmt: skip
    return rows
