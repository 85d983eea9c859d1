"""The command `certify`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mip2mcu import console
from mip2mcu.cli_options import JSON, LABEL, numbers
from mip2mcu.dataset import Dataset
from mip2mcu.errors import UsageError
from mip2mcu.files import check_replaceable, write_text
from mip2mcu.network import Network
from mip2mcu.norms import NORMS
from mip2mcu.progress import Listener, Progress, stop_on_interrupt

if TYPE_CHECKING:
    from mip2mcu.certify import Certificate


@click.command("certify")
@click.argument("model", type=click.Path(dir_okay=False))
@click.argument("data", type=click.Path())
@LABEL
@click.option(
    "--norm",
    default="linf",
    show_default=True,
    type=click.Choice(list(NORMS)),
    help="Size of a change: the largest of a feature, the sum of all, or how many features change.",
)
@click.option("--limit", type=int, help="Largest size of interest, in raw integers (l0: features).  [default: none]")
@click.option("--radii", help="Sizes in the table, such as 0,1,2,5.  [default: where the figures change]")
@click.option("--rows", type=click.IntRange(1), help="Certify the first so many rows only.")
@click.option("--time-limit", type=float, help="Seconds for all rows.  [default: 60]")
@click.option("--node-limit", type=int, help="Branch-and-bound nodes a row; results then repeat to the byte.")
@click.option("--seed", default=0, show_default=True, help="Of the solver.")
@click.option("--workers", default=1, show_default=True, type=click.IntRange(1), help="Processes side by side.")
@click.option("--report", type=click.Path(), help="Write every row's certificate and witness as JSON.")
@click.option("--plot", type=click.Path(), help="Write certified accuracy over radii as SVG.")
@JSON
def certify_command(
    model: str,
    data: str,
    label: str | None,
    norm: str,
    limit: int | None,
    radii: str | None,
    rows: int | None,
    time_limit: float | None,
    node_limit: int | None,
    seed: int,
    workers: int,
    report: str | None,
    plot: str | None,
    as_json: bool,
) -> None:
    """Prove how far the rows of DATA can change before MODEL changes its mind.

    For every row the smallest change of the raw integers that changes the class is searched, by intervals, attacks and
    an exact integer program. Every witness is checked with the network, so "certified" holds for the chip as well: the
    generated C equals the network bit for bit. Categories stay fixed. Ctrl-C keeps what is proved.
    """
    from mip2mcu.certify import certify, check_radii  # noqa: PLC0415  (Pyomo loads only where it is needed)
    from mip2mcu.certify.plot import as_svg  # noqa: PLC0415

    _check_places(report, plot)
    wanted = None if radii is None else numbers(radii, "--radii", "0,1,2,5")
    if wanted is not None:
        check_radii(wanted, limit)
    network = Network.load(model)
    dataset = Dataset.read(data, label=label, like=network)
    if rows is not None:
        dataset = dataset.rows_at(range(min(rows, dataset.rows)))
    with console.LiveLine() as live, stop_on_interrupt() as stopped:
        certificate = certify(
            network,
            dataset,
            norm=norm,
            limit=limit,
            time_limit=time_limit,
            node_limit=node_limit,
            seed=seed,
            workers=workers,
            listener=live.silent if as_json else _shown_on(live),
            stop=stopped,
        )
    document = certificate.as_dict(wanted)
    if report is not None:
        write_text(report, json.dumps(document, sort_keys=True, indent=1) + "\n")
    if plot is not None:
        write_text(plot, as_svg(certificate))
    click.echo(json.dumps(document, sort_keys=True) if as_json else _as_text(certificate, wanted))


def _shown_on(live: console.LiveLine) -> Listener:
    def show(event: Progress) -> None:
        if event.total:
            live.show(f"{event.seconds:.0f} s  [{event.done}/{event.total} rows]")

    return show


def _check_places(report: str | None, plot: str | None) -> None:
    """Raise `UsageError` where a file cannot be written, or one of another kind would be lost."""
    if report is not None:
        check_replaceable(report, rb'"certificates"\s*:', "certificate")
    if plot is not None:
        check_replaceable(plot, rb"(?s)\A<svg .*>certified accuracy \(line\)", "plot of certified accuracy")
    if report is not None and plot is not None and Path(report).resolve() == Path(plot).resolve():
        raise UsageError(f"--report and --plot both name {report}: give each a file of its own")


def _as_text(certificate: Certificate, radii: tuple[int, ...] | None) -> str:
    count = len(certificate.rows)
    shown = certificate.radii() if radii is None else radii
    shares = [(r, certificate.certified(r) / count, certificate.unbroken(r) / count) for r in shown]
    cells = [[f"{r:,}", console.percent(safe), console.percent(unbroken)] for r, safe, unbroken in shares]
    header = ["radius", "certified", "not broken"]
    larger = "" if certificate.limit is None else f", or proved larger than the limit {certificate.limit:,},"
    return "\n".join(
        [
            f"{console.counted(count, 'row')}, {certificate.right} right; "
            f"the smallest change is known{larger} for {certificate.exact} of them",
            f"norm {certificate.norm}: {NORMS[certificate.norm].meaning}",
            "",
            console.table(header, cells, left=0),
            "",
            "certified: right, and proved to stay so; not broken: right, and no change is known that breaks it",
        ]
    )
