"""The commands `train` and `formulations`."""

from __future__ import annotations

import inspect
import json
import textwrap
import time
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mip2mcu import console
from mip2mcu.cli_options import JSON, LABEL, low_high, numbers, say
from mip2mcu.dataset import CODINGS, Dataset
from mip2mcu.errors import UsageError
from mip2mcu.evaluation import Evaluation, evaluate
from mip2mcu.model_file import check_place
from mip2mcu.network import Network
from mip2mcu.progress import Listener, Progress, Stop, stop_on_interrupt
from mip2mcu.selection import medoids as central_rows
from mip2mcu.stages import shaped

if TYPE_CHECKING:
    from mip2mcu.train import Trained


@click.command("train")
@click.argument("data", type=click.Path())
@click.option("--out", default="model.json", show_default=True, type=click.Path(), help="Model file to write.")
@click.option("--test", type=click.Path(), help="Rows that training never sees, for the accuracy at the end.")
@click.option("--holdout", type=float, help="Share of DATA, such as 0.25, that is kept for testing instead of --test.")
@LABEL
@click.option(
    "--coding", default="auto", show_default=True, type=click.Choice(CODINGS), help="How numbers become inputs."
)
@click.option("--bits", default=8, show_default=True, help="Most thermometer bits a column.")
@click.option("--input-range", help="LOW,HIGH: take whole numbers as inputs, without any coding.")
@click.option("--shape", help="Read a row as an image, such as 28x28 or 3x32x32, or as series: 6x1x100 are six.")
@click.option(
    "--stage", "stages", multiple=True,
    help="Fixed filter before the first layer, on the chip too: smooth, edges:4, slopes:4, mean:2, max:2 or sum:8:4. "
    "Repeat it for several in a row; needs --shape unless the data have one.",
)
@click.option("--augment", default=0, metavar="N", help="Train on N changed copies of each image or series as well.")
@click.option("--medoids", type=int, metavar="N", help="Train on the N most central rows of each class (k-medoids).")
@click.option("--formulation", default="linear", show_default=True, help="See `mip2mcu formulations`.")
@click.option("--ensemble", default="auto", show_default=True, help="More than two classes: pairs, rest or none.")
@click.option("--subset-size", default=2, metavar="P", help="Classes of each member of --ensemble pairs.")
@click.option(
    "--vote", default="margin", show_default=True, type=click.Choice(["margin", "strict"]),
    help="Ties among pairs: decided by margin, or unclassified.",
)
@click.option("--yes", is_flag=True, help="Train even thousands of members.")
@click.option("--hidden", help="Units of each hidden layer, such as 8,4.")
@click.option("--weight-bound", type=int, help="P: weights are whole numbers in -P..P.")
@click.option("--weights", type=click.Choice(["integer", "binary", "continuous"]), help="binary: -1 and +1.")
@click.option("--objective", help="What is minimised, such as sat-margin, where the formulation has a choice.")
@click.option("--compress", help="inn: weighted or lexicographic, for as few hidden units as it takes.")
@click.option("--alpha", type=float, help="inn: price of a hidden unit under --compress weighted.")
@click.option("--batches", help="inn: averaging (as published); inn, bdnn: lazy (few rows, more as needed).")
@click.option("--batch-rows", type=int, help="Rows of a batch, or rows added at once.  [default: 100 (inn), 64 (bdnn)]")
@click.option("--method", help="bdnn: exact, local, splitting, committee or descent.")
@click.option("--robust-radius", help="bdnn: raw units that features may be off, one number or one a feature, 1,0,2.")
@click.option("--option", "options", multiple=True, metavar="NAME=VALUE", help="Any other option of the formulation.")
@click.option("--time-limit", type=float, help="Seconds for the whole training.  [default: 60]")
@click.option("--node-limit", type=int, help="Branch-and-bound nodes a solve; results then repeat to the byte.")
@click.option("--seed", default=0, show_default=True, help="Of everything random.")
@click.option("--workers", default=1, show_default=True, type=click.IntRange(1), help="Processes side by side.")
@click.option("--cluster", metavar="ADDRESS", help="local, or tcp://host:8786: train members on a Dask cluster.")
@click.option("--resume", type=click.Path(), metavar="FOLDER", help="Keep finished solves there, and use those found.")
@click.option("--solver", default="highs", show_default=True, help="Any MIP solver that Pyomo knows.")
@click.option("--solver-option", "solver_options", multiple=True, metavar="NAME=VALUE", help="Passed to the solver.")
@click.option(
    "--write-model", type=click.Path(), help="Write the first stage as an LP file too, one a member of an ensemble."
)
@JSON
def train_command(
    data: str,
    out: str,
    test: str | None,
    holdout: float | None,
    label: str | None,
    coding: str,
    bits: int,
    input_range: str | None,
    shape: str | None,
    stages: tuple[str, ...],
    augment: int,
    medoids: int | None,
    formulation: str,
    ensemble: str,
    subset_size: int,
    vote: str,
    yes: bool,
    hidden: str | None,
    weight_bound: int | None,
    weights: str | None,
    objective: str | None,
    compress: str | None,
    alpha: float | None,
    batches: str | None,
    batch_rows: int | None,
    method: str | None,
    robust_radius: str | None,
    options: tuple[str, ...],
    time_limit: float | None,
    node_limit: int | None,
    seed: int,
    workers: int,
    cluster: str | None,
    resume: str | None,
    solver: str,
    solver_options: tuple[str, ...],
    write_model: str | None,
    as_json: bool,
) -> None:
    """Train a network on DATA and write it as a model file.

    DATA is a CSV with a header or an NPZ with X and y (or X_train, y_train, X_test, y_test: give it as --test too).
    Every column of numbers becomes bits that compare it with training quantiles, every column of text one bit a
    category; see --coding. Ctrl-C ends the search and keeps the best network found; a second one gives up.
    """
    from mip2mcu.train import formulation_named, train, write_models  # noqa: PLC0415  (Pyomo loads only where it is needed)

    check_place(out)
    named = {
        "weight_bound": weight_bound, "weights": weights, "objective": objective, "compress": compress, "alpha": alpha,
        "batches": batches, "batch_rows": batch_rows, "method": method,
        "robust_radius": None if robust_radius is None else numbers(robust_radius, "--robust-radius"),
    }  # fmt: skip
    chosen = formulation_named(formulation, _formulation_options(hidden, named, options))
    tell = say(as_json)
    training, held_out = _read(data, test, holdout, label, coding, bits, low_high(input_range, "--input-range"), seed)
    training = _prepared(training, shape, medoids, seed)
    _introduce(tell, data, training)
    if write_model is not None:
        written = write_models(
            training, write_model, chosen, ensemble=ensemble, subset_size=subset_size, many=yes, stages=stages,
            copies=augment, seed=seed,
        )  # fmt: skip
        tell(f"wrote {written[0]}" + (f" and {len(written) - 1} more, one a member" if len(written) > 1 else ""))
    with console.LiveLine() as live, stop_on_interrupt() as stopped:
        trained = train(
            training,
            chosen,
            ensemble=ensemble,
            subset_size=subset_size,
            vote=vote,
            many=yes,
            stages=stages,
            copies=augment,
            time_limit=time_limit,
            node_limit=node_limit,
            seed=seed,
            workers=workers,
            cluster=cluster,
            resume=resume,
            solver=solver,
            solver_options=_pairs(solver_options),
            listener=live.silent if as_json else _shown_on(live, stopped),
            stop=stopped,
        )
    trained.network.save(out)
    _finish(trained, training, held_out, out, as_json=as_json)


@click.command("formulations")
@JSON
def formulations_command(as_json: bool) -> None:
    """What `train` can solve, and the options of each."""
    from mip2mcu.train import FORMULATIONS  # noqa: PLC0415  (Pyomo loads only where it is needed)

    defaults = {
        name: {f.name: f.default for f in fields(entry.options)}  # type: ignore[arg-type]
        for name, entry in FORMULATIONS.items()
    }
    if as_json:
        described = {n: {"summary": e.summary, "options": defaults[n]} for n, e in FORMULATIONS.items()}
        click.echo(json.dumps(described, sort_keys=True))
        return
    for name, entry in FORMULATIONS.items():
        explained = inspect.getdoc(entry.options).partition("\n\n")[2].replace("``", "`")  # type: ignore[union-attr]
        given = ", ".join(f"{option} {default}" for option, default in defaults[name].items())
        click.echo(f"{name}: {entry.summary}\n")
        click.echo(textwrap.indent(f"{explained}\n\nDefaults: {given}.\n", "    "))


def _read(
    data: str,
    test: str | None,
    holdout: float | None,
    label: str | None,
    coding: str,
    bits: int,
    input_range: tuple[int, int] | None,
    seed: int,
) -> tuple[Dataset, Dataset | None]:
    """Training rows, and the rows to test on if there are any."""
    if holdout is not None:
        if test is not None:
            raise UsageError("--test and --holdout both name rows to test on: give one of them")
        return Dataset.read_split(
            data, holdout, seed=seed, label=label, coding=coding, bits=bits, input_range=input_range
        )
    training = Dataset.read(data, label=label, coding=coding, bits=bits, input_range=input_range)
    return training, None if test is None else Dataset.read(test, label=label, like=training)


def _prepared(training: Dataset, shape: str | None, count: int | None, seed: int) -> Dataset:
    """The training rows, read in ``shape``, or the medoids among them."""
    if shape is not None:
        training = shaped(training, numbers(shape.replace("x", ","), "--shape"))
    return training if count is None else central_rows(training, count, seed)


# ---- options -------------------------------------------------------------------------------------------------------


def _value(text: str) -> bool | int | float | str:
    if text in ("true", "false"):
        return text == "true"
    for convert in (int, float):
        try:
            return convert(text)
        except ValueError:
            continue
    return text


def _pairs(texts: tuple[str, ...]) -> dict[str, bool | int | float | str]:
    for text in texts:
        if "=" not in text:
            raise UsageError(f"{text!r} is not NAME=VALUE")
    return {name: _value(value) for name, value in (text.split("=", 1) for text in texts)}


def _formulation_options(
    hidden: str | None, named: dict[str, Any], options: tuple[str, ...]
) -> dict[str, Any]:
    """Options of the formulation from the command line's own and those given by --option."""
    given: dict[str, Any] = {
        name: numbers(value, f"--option {name}") if isinstance(value, str) and "," in value else value
        for name, value in _pairs(options).items()
    }
    if hidden is not None:
        given["hidden"] = numbers(hidden, "--hidden")
    return {**given, **{name: value for name, value in named.items() if value is not None}}


# ---- what is printed -----------------------------------------------------------------------------------------------


def _introduce(tell: Any, data: str, training: Dataset) -> None:
    parts = [
        console.counted(training.rows, "row"),
        console.counted(training.inputs.shape[1], "input"),
        console.counted(len(training.classes), "class", "classes"),
    ]
    if training.quantizer is not None:
        parts.insert(1, console.counted(len(training.quantizer.features), "feature"))
    tell(f"{Path(data).name}: {', '.join(parts)}")
    for note in training.notes[:12]:
        tell(f"  {console.printable(note, 160)}")
    if len(training.notes) > 12:
        tell(f"  and {len(training.notes) - 12} more notes like these")


def _shown_on(live: console.LiveLine, stopped: Stop) -> Listener:
    """A listener that shows events with the seconds since now, and what Ctrl-C has begun."""
    began = time.monotonic()

    def show(event: Progress) -> None:
        ending = "ending, Ctrl-C again gives up  " if stopped() else ""
        live.show(ending + _progress(event, time.monotonic() - began))

    return show


def _progress(event: Progress, seconds: float) -> str:
    parts = [f"{seconds:.0f} s"]
    if event.total > 1:
        parts.append(f"[{event.done}/{event.total}]")
    parts.append(event.stage)
    if event.incumbent is not None:
        parts.append(f"incumbent {event.incumbent:g}")
    if event.bound is not None:
        parts.append(f"bound {event.bound + 0.0:.6g}")
    if event.gap is not None:
        parts.append(f"gap {100 * event.gap:.1f} %")
    return "  ".join(part for part in parts if part)


def _finish(trained: Trained, training: Dataset, held_out: Dataset | None, out: str, *, as_json: bool) -> None:
    """Evaluate the network that was written to ``out`` and print what came of it."""
    results = {"train": evaluate(trained.network, training)}
    if held_out is not None:
        results["test"] = evaluate(trained.network, held_out)
    if as_json:
        click.echo(json.dumps(_summary(trained, results, out), sort_keys=True))
        return
    _report(trained, results)
    click.echo(f"\nwrote {out}; next: mip2mcu export {out} --target cortex-m")


def _report(trained: Trained, results: dict[str, Evaluation]) -> None:
    report, network = trained.report, trained.network
    click.echo(f"{report.formulation}: {console.counted(len(report.solves), 'solve')} in {report.seconds:.1f} s")
    for name, result in results.items():
        click.echo(f"{name:<5} accuracy  {console.accuracy_line(result)}")
    shown = results.get("test", results["train"])
    click.echo("\n" + console.confusion_table(shown) + "\n")
    for line in console.saturation_lines(shown):
        click.echo(line)
    weights = f"{network.link_count} of {network.weight_count} weights are not zero"
    click.echo(f"size   {weights}; {_table_bytes(network)} bytes of tables in C")
    click.echo(f"proof  {_proof(trained)}")
    for note in report.notes:
        click.echo(f"note   {note}")


def _table_bytes(network: Network) -> int:
    from mip2mcu.export import generate  # noqa: PLC0415  (the template engine loads only where it is needed)

    return generate(network).program.table_bytes


def _proof(trained: Trained) -> str:
    report = trained.report
    if report.status == "optimal":
        return "all solves are proved optimal"
    stages = []
    for total in report.totals:
        text = f"{total.name} {total.exact:,}"
        if total.bound:
            text += f", bound {total.bound:,.0f}"
        if total.gap is not None:
            text += f", gap {100 * total.gap:.1f} %"
        stages.append(f"{text}, {total.proved} of {total.solves} solves proved optimal")
    return "incumbent: " + "\n       ".join(stages)


def _summary(trained: Trained, results: dict[str, Evaluation], out: str) -> dict[str, Any]:
    return {
        "model": out,
        "model_sha256": trained.network.sha256,
        "report": trained.report.as_dict(),
        **console.links_of(trained.network),
        "table_bytes": _table_bytes(trained.network),
        **{name: result.as_dict() for name, result in results.items()},
    }
