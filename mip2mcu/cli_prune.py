"""The command `prune`."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import click

from mip2mcu import console
from mip2mcu.cli_options import JSON, LABEL, TARGET, Bytes, numbers, say
from mip2mcu.dataset import Dataset
from mip2mcu.errors import DatasetError, UsageError
from mip2mcu.files import check_writable
from mip2mcu.network import Network
from mip2mcu.progress import Progress, stop_on_interrupt

if TYPE_CHECKING:
    from mip2mcu.prune import FloatNetwork, Pruned, Pruning

METHOD_NAMES = ("subset", "oamip", "reconstruct", "spread", "magnitude", "random")


@click.command("prune")
@click.argument("network", type=click.Path())
@click.option("--data", required=True, type=click.Path(), help="Rows to select, refit and calibrate on (CSV or NPZ).")
@click.option("--out", default="pruned.json", show_default=True, type=click.Path(), help="Model file to write.")
@click.option("--test", type=click.Path(), help="Rows that are measured on only.")
@LABEL
@click.option(
    "--coding",
    default="auto",
    show_default=True,
    type=click.Choice(["auto", "raw", "affine"]),
    help="How columns become integers: raw whole numbers of 8 bits, or scaled to 8 bits; auto takes raw if it can.",
)
@click.option("--input-range", help="LOW,HIGH: take whole numbers as inputs, without any coding.")
@click.option(
    "--input-scale",
    default="1",
    show_default=True,
    metavar="S",
    help="NETWORK was trained on S * value + T of the data's values, such as 1/255.",
)
@click.option("--input-offset", default="0", show_default=True, metavar="T", help="See --input-scale.")
@click.option("--keep", help="Units of each hidden layer to keep, such as 60%.  [default: 60%]")
@click.option("--max-flash", type=Bytes(), help="Keep as many units as fit into these bytes on --target.")
@TARGET
@click.option(
    "--method", default="subset", show_default=True, type=click.Choice(METHOD_NAMES), help="Selects the units."
)
@click.option(
    "--repair",
    default="refit",
    show_default=True,
    type=click.Choice(["none", "fold", "refit"]),
    help="refit: least squares of each layer on what is left; fold: means into biases.",
)
@click.option("--multiple", default=1, show_default=True, help="Units that are kept come in multiples of this.")
@click.option("--lossless", is_flag=True, help="First remove what changes no output for any input in range.")
@click.option("--fine-tune", default=0, show_default=True, metavar="EPOCHS", help="Train on --data after removal.")
@click.option(
    "--decouple",
    default="none",
    show_default=True,
    type=click.Choice(["none", "classes", "layers"]),
    help="oamip: one program, or one a class, or one a layer.",
)
@click.option("--images", default=1, show_default=True, help="oamip by classes: images a class.")
@click.option("--binary", is_flag=True, help="oamip: whole activities instead of relaxed ones.")
@click.option("--threshold", type=float, help="oamip: keep the units with at least this score, instead of --keep.")
@click.option("--time-limit", default=60.0, show_default=True, help="Seconds for the selection.")
@click.option("--workers", default=1, show_default=True, type=click.IntRange(1), help="Processes side by side.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="Of everything random.")
@JSON
def prune_command(
    network: str,
    data: str,
    out: str,
    test: str | None,
    label: str | None,
    coding: str,
    input_range: str | None,
    input_scale: str,
    input_offset: str,
    keep: str | None,
    max_flash: int | None,
    target: str,
    method: str,
    repair: str,
    multiple: int,
    lossless: bool,
    fine_tune: int,
    decouple: str,
    images: int,
    binary: bool,
    threshold: float | None,
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
    from mip2mcu.mip.solver import Solver  # noqa: PLC0415  (Pyomo loads only where it is needed)
    from mip2mcu.prune import Pruning, Scoring, fitted_to, prune  # noqa: PLC0415

    check_writable(out)
    if keep is not None and (max_flash is not None or threshold is not None):
        raise UsageError("--keep, --max-flash and --threshold each say how many units stay: give one of them")
    if threshold is not None and method != "oamip":
        raise UsageError(f"--threshold is about the scores of --method oamip, not of {method}")
    pruning = Pruning(
        keep=_share("60%" if keep is None else keep),
        method=method,
        repair=repair,
        multiple=multiple,
        lossless=lossless,
        scoring=Scoring(decouple, images, not binary, threshold=threshold),
        fine_tune=fine_tune,
    )
    rows = _read(data, label, coding, input_range)
    held_out = None if test is None else Dataset.read(test, label=label, like=rows)
    trained = fitted_to(
        _network(network), rows, _number(input_scale, "--input-scale"), _number(input_offset, "--input-offset")
    )
    live = console.LiveLine()
    began = time.monotonic()

    def show(event: Progress) -> None:
        if event.stage:
            live.show(f"{time.monotonic() - began:.0f} s  {event.stage}")

    with stop_on_interrupt() as stopped:
        options: dict[str, Any] = {
            "test": held_out,
            "listener": live.silent if as_json else show,
            "solver": Solver(time_limit=time_limit, seed=seed % 2**31),
            "seed": seed,
            "workers": workers,
            "stop": stopped,
        }
        if max_flash is None:
            result = prune(trained, rows, pruning, **options)
        else:
            result = _to_fit(trained, rows, pruning, max_flash, target, options)
    live.clear()
    result.network.save(out)
    if as_json:
        summary = {**result.as_dict(), "model": out, "model_sha256": result.network.sha256}
        click.echo(json.dumps(summary, sort_keys=True))
        return
    _report(say(as_json), result)
    click.echo(f"\nwrote {out}; next: mip2mcu export {out} --target {target}")


def _network(path: str) -> FloatNetwork:
    from mip2mcu.prune import read_npz, read_onnx  # noqa: PLC0415

    return read_npz(path) if path.lower().endswith(".npz") else read_onnx(path)


def _read(data: str, label: str | None, coding: str, input_range: str | None) -> Dataset:
    if input_range is not None:
        ends = numbers(input_range, "--input-range")
        if len(ends) != 2 or ends[0] > ends[1]:
            raise UsageError(f"--input-range {input_range!r} is not LOW,HIGH such as 0,255")
        return Dataset.read(data, label=label, input_range=(ends[0], ends[1]))
    if coding == "auto":
        with suppress(DatasetError):
            return Dataset.read(data, label=label, coding="raw")
        coding = "affine"
    return Dataset.read(data, label=label, coding=coding)


def _to_fit(
    trained: FloatNetwork, rows: Dataset, pruning: Pruning, most: int, target: str, options: dict[str, Any]
) -> Pruned:
    from mip2mcu.export import generate  # noqa: PLC0415  (the template engine loads only where it is needed)
    from mip2mcu.prune import prune_to_fit  # noqa: PLC0415

    def flash(network: Network) -> int:
        return generate(network, target=target).program.plan.flash

    return prune_to_fit(trained, rows, pruning, most, flash, **options)


def _share(text: str) -> float:
    """A share from ``60%``, ``60 %`` or ``0.6``."""
    digits = text.strip()
    with suppress(ValueError):
        return float(digits.removesuffix("%")) / 100 if digits.endswith("%") else float(digits)
    raise UsageError(f"--keep {text!r} is no share such as 60%")


def _number(text: str, option: str) -> float:
    """A number, which may be written as a fraction such as 1/255."""
    with suppress(ValueError, ZeroDivisionError, OverflowError):
        return float(Fraction(text.replace(" ", "")))
    raise UsageError(f"{option} {text!r} is no number such as 0.5 or 1/255")


def _report(tell: Any, result: Pruned) -> None:
    for note in result.notes[:12]:
        tell(f"note   {console.printable(note, 160)}")
    header = ["step", "units", "parameters", "bytes", "accuracy", "test accuracy"]
    rows = [
        [
            step.name,
            "-".join(str(width) for width in step.widths) or "none",
            f"{step.parameters:,}",
            f"{step.bytes:,}",
            console.percent(step.accuracy),
            "-" if step.test_accuracy is None else console.percent(step.test_accuracy),
        ]
        for step in result.steps
    ]
    tell(console.table(header, rows, left=2))
    if result.steps[0].accuracy < 0.5:
        tell("note   the network is mostly wrong as it came: was it trained on scaled inputs? See --input-scale")
    for record in result.selection.solves[:12]:
        bound = "" if record.bound is None else f", bound {record.bound:.4g}"
        tell(f"solve  {record.stage}: {record.status}, objective {record.objective:.4g}{bound}, {record.seconds:.1f} s")
