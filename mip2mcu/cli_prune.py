"""The command `prune`."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from functools import wraps
from typing import TYPE_CHECKING, Any

import click

from mip2mcu import console
from mip2mcu.cli_options import JSON, LABEL, TARGET, Bytes, low_high
from mip2mcu.dataset import Dataset
from mip2mcu.errors import DatasetError, UsageError
from mip2mcu.model_file import check_place
from mip2mcu.network import Network
from mip2mcu.progress import Listener, Progress, stop_on_interrupt

if TYPE_CHECKING:
    from mip2mcu.prune import FloatNetwork, Pruned, Pruning

METHOD_NAMES = ("subset", "oamip", "reconstruct", "spread", "magnitude", "random")

_SOURCE = (
    click.option("--data", required=True, type=click.Path(), help="Rows to select, refit and calibrate on: CSV, NPZ."),
    click.option("--test", type=click.Path(), help="Rows that are measured on only."),
    LABEL,
    click.option(
        "--coding",
        default="auto",
        show_default=True,
        type=click.Choice(["auto", "raw", "affine"]),
        help="How columns become integers: raw whole numbers of 8 bits, or scaled to 8 bits; auto takes raw if it can.",
    ),
    click.option("--input-range", help="LOW,HIGH: take whole numbers as inputs, without any coding."),
    click.option(
        "--input-scale",
        default="1",
        show_default=True,
        metavar="S",
        help="NETWORK was trained on S * value + T of the data's values, such as 1/255.",
    ),
    click.option("--input-offset", default="0", show_default=True, metavar="T", help="See --input-scale."),
)

_SELECTION = (
    click.option(
        "--keep",
        metavar="BUDGET",
        help="What stays: a share of each hidden layer's units (60%), units in all (36) or of each layer (24,12), or "
        "bytes of quantised parameters (2000 bytes, 2k).  [default: 60%]",
    ),
    click.option(
        "--max-flash", type=Bytes(), help="Keep as many units as fit into these bytes on --target; 4096 or 4k."
    ),
    click.option(
        "--multiple-of",
        "multiple",
        default=1,
        show_default=True,
        type=click.IntRange(1),
        help="Each layer keeps a multiple of so many units; layers with fewer stay whole.",
    ),
    click.option(
        "--method", default="subset", show_default=True, type=click.Choice(METHOD_NAMES), help="Selects the units."
    ),
    click.option(
        "--repair",
        default="refit",
        show_default=True,
        type=click.Choice(["none", "fold", "refit"]),
        help="refit: least squares of each layer on what is left; fold: means into biases.",
    ),
    click.option("--lossless", is_flag=True, help="First remove what changes no output for any input in range."),
    click.option(
        "--fine-tune",
        type=click.IntRange(0),
        metavar="EPOCHS",
        help="Train on --data after removal.  [default: 0]  With --transfer: that training's.",
    ),
    click.option(
        "--transfer",
        type=click.Path(),
        metavar="DATA",
        help="Train the selected units anew on these rows, which --test then belongs to: a mask that is transferred.",
    ),
    click.option(
        "--decouple",
        type=click.Choice(["none", "classes", "layers", "backward"]),
        help="oamip: one program, one a class, one a layer with an auxiliary head, or from the output backward; "
        "convolutions want one of the others.  [default: none]",
    ),
    click.option("--images", type=click.IntRange(1), help="oamip by classes: images a class.  [default: 1]"),
    click.option("--binary", is_flag=True, help="oamip: whole activities instead of relaxed ones."),
    click.option(
        "--threshold", type=float, help="oamip: keep the units with at least this score, instead of --keep."
    ),
)


@dataclass(frozen=True)
class _Source:
    """The options of `_SOURCE`."""

    data: str
    test: str | None
    label: str | None
    coding: str
    input_range: str | None
    input_scale: str
    input_offset: str

    def rows(self, path: str) -> Dataset:
        """The rows of ``path``, as what is fitted to."""
        if (ends := low_high(self.input_range, "--input-range")) is not None:
            return Dataset.read(path, label=self.label, input_range=ends)
        if self.coding == "auto":
            with suppress(DatasetError):
                return Dataset.read(path, label=self.label, coding="raw")
        return Dataset.read(path, label=self.label, coding="affine" if self.coding == "auto" else self.coding)

    def test_rows(self, like: Dataset) -> Dataset | None:
        """The rows to measure on, read as ``like``."""
        return None if self.test is None else Dataset.read(self.test, label=self.label, like=like)

    def network(self, path: str, rows: Dataset) -> FloatNetwork:
        """The network of ``path``, reading the inputs of ``rows``."""
        from mip2mcu.prune import fitted_to, read_npz, read_onnx  # noqa: PLC0415  (Pyomo loads only where it is needed)

        scale, offset = _number(self.input_scale, "--input-scale"), _number(self.input_offset, "--input-offset")
        return fitted_to(read_npz(path) if path.lower().endswith(".npz") else read_onnx(path), rows, scale, offset)


def _source_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Gives ``command`` the options of `_SOURCE`, as its parameter ``source``."""

    @wraps(command)
    def with_source(
        *,
        data: str,
        test: str | None,
        label: str | None,
        coding: str,
        input_range: str | None,
        input_scale: str,
        input_offset: str,
        **others: Any,
    ) -> Any:
        source = _Source(data, test, label, coding, input_range, input_scale, input_offset)
        return command(source=source, **others)

    for option in reversed(_SOURCE):
        with_source = option(with_source)
    return with_source


def _selection_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Gives ``command`` the options of `_SELECTION`: ``pruning``, ``max_flash``, ``transfer`` and its ``epochs``."""

    @wraps(command)
    def with_pruning(
        *,
        keep: str | None,
        max_flash: int | None,
        multiple: int,
        method: str,
        repair: str,
        lossless: bool,
        fine_tune: int | None,
        transfer: str | None,
        decouple: str | None,
        images: int | None,
        binary: bool,
        threshold: float | None,
        **others: Any,
    ) -> Any:
        from mip2mcu.prune import Pruning, Scoring  # noqa: PLC0415  (Pyomo loads only where it is needed)

        if sum(option is not None for option in (keep, max_flash, threshold)) > 1:
            raise UsageError("--keep, --max-flash and --threshold each say how many units stay: give one of them")
        scored = {"--decouple": decouple, "--images": images, "--binary": binary or None, "--threshold": threshold}
        strange = [option for option, value in scored.items() if value is not None]
        if strange and method != "oamip":
            raise UsageError(f"{strange[0]} is about the scores of --method oamip, not of {method}")
        if images is not None and decouple != "classes":
            raise UsageError("--images counts the images of a class: give --decouple classes too")
        if transfer is not None and fine_tune == 0:
            raise UsageError("--transfer trains the units anew: give --fine-tune at least 1 epoch, or leave it out")
        pruning = Pruning(
            keep="60%" if keep is None else keep,
            method=method,
            repair=repair,
            multiple=multiple,
            lossless=lossless,
            scoring=Scoring(decouple or "none", 1 if images is None else images, not binary, threshold=threshold),
            fine_tune=0 if transfer else fine_tune or 0,
        )
        others |= {"transfer": transfer, "epochs": fine_tune}
        return command(pruning=pruning, max_flash=max_flash, **others)

    for option in reversed(_SELECTION):
        with_pruning = option(with_pruning)
    return with_pruning


@click.command("prune")
@click.argument("network", type=click.Path())
@_source_options
@click.option("--out", default="pruned.json", show_default=True, type=click.Path(), help="Model file to write.")
@_selection_options
@TARGET
@click.option(
    "--initial", type=click.Path(), metavar="NETWORK", help="Weights that --transfer begins with.  [default: random]"
)
@click.option("--time-limit", default=60.0, show_default="60", help="Seconds for the selection.")
@click.option("--workers", default=1, show_default=True, type=click.IntRange(1), help="Processes side by side.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="Of everything random.")
@JSON
def prune_command(
    network: str,
    source: _Source,
    out: str,
    pruning: Pruning,
    max_flash: int | None,
    transfer: str | None,
    epochs: int | None,
    target: str,
    initial: str | None,
    time_limit: float,
    workers: int,
    seed: int,
    as_json: bool,
) -> None:
    """Prune the trained ReLU network NETWORK, quantise it to 8 bits and write it as a model file.

    NETWORK is an ONNX file, or an NPZ with weights_0 (units, inputs), bias_0, weights_1, ... The report shows accuracy
    and bytes after each step: accuracy on at most 10,000 rows of --data and all of --test, bytes of floating-point
    networks at 4 a parameter.
    """
    from mip2mcu.export.targets import find_target  # noqa: PLC0415  (the template engine loads only where needed)
    from mip2mcu.mip.solver import Solver  # noqa: PLC0415  (Pyomo loads only where it is needed)
    from mip2mcu.prune import transfer as moved  # noqa: PLC0415

    check_place(out)
    find_target(target)
    rows = source.rows(source.data)
    trained = source.network(network, rows)
    second = _second(source, transfer, initial, rows)
    _check_initial(second, trained, pruning)
    with console.LiveLine() as live, stop_on_interrupt() as stopped:
        listener = live.silent if as_json else _shown_on(live)
        common: dict[str, Any] = {"seed": seed, "listener": listener, "stop": stopped}
        options = {
            "test": None if second else source.test_rows(rows),
            "solver": Solver(time_limit=time_limit, seed=seed % 2**31),
            "workers": workers,
        }
        results = [_pruned(trained, rows, pruning, max_flash, target, options | common)]
        if second:
            results.append(moved(results[0], epochs=epochs, **second, **common))
    model = results[-1].network
    model.save(out)
    if as_json:
        described = [result.as_dict() for result in results]
        summary = {**described[0], "transfer": described[1:] or None, "model": out, "model_sha256": model.sha256}
        click.echo(json.dumps(summary, sort_keys=True))
        return
    for path, result in zip((source.data, transfer), results, strict=False):
        _report(click.echo, result, "" if transfer is None else f"{path}: ")
    click.echo(f"\nwrote {out}; next: mip2mcu export {out} --target {target}")


def _shown_on(live: console.LiveLine) -> Listener:
    began = time.monotonic()

    def show(event: Progress) -> None:
        if event.stage:
            live.show(f"{time.monotonic() - began:.0f} s  {event.stage}")

    return show


def _pruned(
    trained: FloatNetwork, rows: Dataset, pruning: Pruning, most: int | None, target: str, options: dict[str, Any]
) -> Pruned:
    from mip2mcu.export import generate  # noqa: PLC0415  (the template engine loads only where it is needed)
    from mip2mcu.prune import prune, prune_to_fit  # noqa: PLC0415  (Pyomo loads only where it is needed)

    def flash(network: Network) -> int:
        return generate(network, target=target).program.plan.flash

    if most is None:
        return prune(trained, rows, pruning, **options)
    return prune_to_fit(trained, rows, pruning, most, flash, **options)


def _second(source: _Source, transfer: str | None, initial: str | None, rows: Dataset) -> dict[str, Any] | None:
    """What `mip2mcu.prune.transfer` is given: everything is read and checked before the long work."""
    if transfer is None:
        if initial is not None:
            raise UsageError("--initial is what --transfer begins with: give both, or none")
        return None
    others = source.rows(transfer)
    if others.inputs.shape[1] != rows.inputs.shape[1]:
        raise UsageError(
            f"{transfer} has {others.inputs.shape[1]} inputs a row, {source.data} has {rows.inputs.shape[1]}: a mask "
            "is transferred between data of one shape"
        )
    start = None if initial is None else source.network(initial, others)
    return {"data": others, "initial": start, "test": source.test_rows(others)}


def _check_initial(second: dict[str, Any] | None, trained: FloatNetwork, pruning: Pruning) -> None:
    """Raise an error where the weights of --initial cannot be those that ``trained`` began with."""
    from mip2mcu.prune.run import check_initial  # noqa: PLC0415  (Pyomo loads only where it is needed)

    if second is None or second["initial"] is None:
        return
    check_initial(second["initial"], trained)
    if pruning.lossless:
        raise UsageError("--lossless removes units that the network of --initial still has: leave one of them out")


def _number(text: str, option: str) -> float:
    """A number, which may be written as a fraction such as 1/255."""
    with suppress(ValueError, ZeroDivisionError, OverflowError):
        return float(Fraction(text.replace(" ", "")))
    raise UsageError(f"{option} {text!r} is no number such as 0.5 or 1/255")


def _report(tell: Callable[[str], None], result: Pruned, title: str) -> None:
    for note in result.notes[:12]:
        tell(f"note   {console.printable(note, 160)}")
    header = ["step", "units", "parameters", "bytes", "accuracy", "test accuracy"]
    rows = [
        [
            title + step.name,
            "-".join(str(width) for width in step.widths) or "none",
            f"{step.parameters:,}",
            f"{step.bytes:,}",
            console.percent(step.accuracy),
            "-" if step.test_accuracy is None else console.percent(step.test_accuracy),
        ]
        for step in result.steps
    ]
    tell(console.table(header, rows, left=2))
    if result.steps[0].name == "float" and result.steps[0].accuracy < 0.5:
        tell("note   the network is mostly wrong as it came: was it trained on scaled inputs? See --input-scale")
    for record in result.selection.solves[:12]:
        bound = "" if record.bound is None else f", bound {record.bound:.4g}"
        tell(f"solve  {record.stage}: {record.status}, objective {record.objective:.4g}{bound}, {record.seconds:.1f} s")
