"""The command `inspect`: what a model is, and what each layout of its layers would take on a target."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from mip2mcu import console
from mip2mcu.cli_options import JSON, MODEL, layout_options
from mip2mcu.errors import ExportError, UsageError
from mip2mcu.network import Network

if TYPE_CHECKING:
    from mip2mcu.export import ExportOptions, Inspection
    from mip2mcu.export.inspection import LayerTable, Row


@click.command("inspect")
@MODEL
@click.option("--target", help="Show every layout of every layer on this core of `mip2mcu targets` too.")
@layout_options
@JSON
def inspect_command(model: str, target: str | None, options: ExportOptions | None, as_json: bool) -> None:
    """What MODEL is: inputs, layers, decision rule; with --target, the layouts that its layers can have there.

    Flash, RAM and instructions are predicted by a cost model that was fitted to measurements on emulated cores. The
    choice is what `mip2mcu export` takes with the same options; of every other layout stands what the whole program
    would take more or less with it, or why it cannot be. Where no choice is within --max-flash and --max-ram, the
    exit status is 2. Without MODEL, model.json is inspected.
    """
    if target is None and options is not None:
        raise UsageError("options of layouts mean nothing without a core: name one with --target")
    network = Network.load(model)
    inspection = None if target is None else _inspect(network, target, options)
    if as_json:
        planned = {} if inspection is None else {"plan": inspection.as_dict()}
        click.echo(json.dumps({**_description(network), **planned}, sort_keys=True))
    else:
        _print(network)
        if inspection is not None:
            _print_plan(inspection)
    if inspection is not None and inspection.refusal:
        raise ExportError(inspection.refusal)


def _inspect(network: Network, target: str, options: ExportOptions | None) -> Inspection:
    from mip2mcu.export import inspect  # noqa: PLC0415  (the template engine loads only where it is needed)

    return inspect(network, target, options)


# ---- the model -----------------------------------------------------------------------------------------------------


def _print(network: Network) -> None:
    described = _description(network)
    layers, names = described.pop("layers"), described["raw_features"]
    shown = {
        **described,
        "classes": ", ".join(network.classes),
        "raw_features": "none: inputs are given directly" if names is None else len(names),
        "input_range": _as_range(described["input_range"]),
    }
    for key, value in shown.items():
        click.echo(f"{key.replace('_', ' '):<15} {console.printable(str(value), 100)}")
    header = ["layer", "kind", "inputs", "outputs", "weights", "non-zero", "range", "activation"]
    click.echo("\n" + console.table(header, [[str(k), *_layer_cells(layer)] for k, layer in enumerate(layers)]))


def _description(network: Network) -> dict[str, Any]:
    """For JSON."""
    return {
        "sha256": network.sha256,
        "classes": list(network.classes),
        "raw_features": None if network.quantizer is None else [f.name for f in network.quantizer.features],
        "inputs": network.inputs,
        "input_range": [int(network.input_low.min()), int(network.input_high.max())],
        "decision": repr(network.decision),
        "weights": network.weight_count,
        "links": network.link_count,
        "layers": [_layer(network, k) for k in range(len(network.layers))],
    }


def _layer(network: Network, k: int) -> dict[str, Any]:
    layer = network.layers[k]
    weights = getattr(layer, "weights", None)
    activation = getattr(layer, "activation", None)
    return {
        "kind": type(layer).__name__,
        "inputs": list(network.shapes[k]),
        "outputs": list(network.shapes[k + 1]),
        "weights": 0 if weights is None else weights.size,
        "links": 0 if weights is None else int((weights != 0).sum()),
        "weight_range": None if weights is None else [int(weights.min()), int(weights.max())],
        "activation": None if activation is None else activation.value,
    }


def _layer_cells(layer: dict[str, Any]) -> list[str]:
    """The values of `_layer` for people."""
    sides = ["x".join(str(side) for side in layer[key]) for key in ("inputs", "outputs")]
    counts = [str(layer["weights"]), str(layer["links"])]
    return [layer["kind"], *sides, *counts, _as_range(layer["weight_range"]), layer["activation"] or "-"]


def _as_range(ends: list[int] | None) -> str:
    return "-" if ends is None else f"{ends[0]}..{ends[1]}"


# ---- the layouts ---------------------------------------------------------------------------------------------------


def _print_plan(inspection: Inspection) -> None:
    for layer in inspection.layers:
        click.echo("\n" + _layer_text(layer, inspection.unit))
    if inspection.refusal:
        return
    taken = f"{inspection.flash:,} bytes of flash, {inspection.ram:,} bytes of RAM"
    if inspection.is_priced:
        taken += f", {inspection.instructions:,} {inspection.unit}"
    else:
        taken = f"at least {taken}"
    chosen = ", ".join(layer.chosen.name for layer in inspection.layers if layer.chosen is not None)
    click.echo(f"\nchoice          {chosen}: {inspection.reason}")
    click.echo(f"predicted       {taken}")
    click.echo(f"costs           {_costs_line(inspection)}")


def _layer_text(layer: LayerTable, unit: str) -> str:
    sides = ["x".join(str(side) for side in shape) for shape in (layer.inputs, layer.outputs)]
    possible = [row for row in layer.rows if row.flash is not None]
    notes = [_marked(row) for row in possible]
    width = max(map(len, notes))
    header = ["  layout", "reads", "flash", "RAM", unit, "why".ljust(width)]
    cells = [[*_cells(row), note.ljust(width)] for row, note in zip(possible, notes, strict=True)]
    lines = [f"layer {layer.index}: {layer.kind}, {sides[0]} inputs, {sides[1]} outputs"]
    lines.append(console.table(header, cells, left=2))
    return "\n".join([*lines, *_refusal_lines(layer)])


def _refusal_lines(layer: LayerTable) -> list[str]:
    """A line a reason; layouts for another kind of layer are not worth one."""
    names: dict[str, list[str]] = {}
    for row in layer.rows:
        if row.flash is None and not row.is_of_another_kind:
            names.setdefault(row.note, []).append(row.name)
    return [f"  {', '.join(refusing)}: {reason}" for reason, refusing in names.items()]


def _cells(row: Row) -> list[str]:
    counts = ["?" if value is None else f"{value:,}" for value in (row.flash, row.ram, row.instructions)]
    return [("* " if row.is_chosen else "  ") + row.name, row.reads, *counts]


def _marked(row: Row) -> str:
    return f"chosen: {row.note}" if row.is_chosen else row.note


def _costs_line(inspection: Inspection) -> str:
    if not inspection.core:
        return f"not measured on {inspection.target}: flash is tables alone, RAM lacks the layers' stack"
    source = f"measured on {inspection.core}"
    if inspection.core != inspection.target:
        source += f", which stands for {inspection.target}"
    if inspection.unpriced:
        source += f", but nothing like {', '.join(inspection.unpriced)}: flash and time lack what its code takes"
    return f"{source}; flash is of predict, quantize and pack, time of predict (and pack)"
