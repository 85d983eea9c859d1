"""The command line: parses, calls the library, prints. Every `Mip2mcuError` ends in one sentence and exit status 2."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mip2mcu import __version__, console
from mip2mcu.cli_certify import certify_command
from mip2mcu.cli_inspect import inspect_command
from mip2mcu.cli_options import JSON, LABEL, MODEL, TARGET, layout_options
from mip2mcu.cli_prune import prune_command
from mip2mcu.cli_train import formulations_command, train_command
from mip2mcu.cli_verify import ALL, doctor_command, everywhere, tool_options
from mip2mcu.dataset import Dataset
from mip2mcu.errors import Mip2mcuError, UsageError
from mip2mcu.evaluation import evaluate
from mip2mcu.network import Network

if TYPE_CHECKING:
    from mip2mcu.export import ExportOptions


class Refusal(click.ClickException):
    """One sentence on standard error, exit status 2."""

    exit_code = 2


class Interruption(click.ClickException):
    """Ctrl-C where nothing is kept of what was done: exit status 130, as shells have it."""

    exit_code = 130


class Commands(click.Group):
    """A group whose commands turn `Mip2mcuError` into one line on standard error and exit status 2."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except Mip2mcuError as error:
            raise Refusal(str(error)) from None
        except KeyboardInterrupt:  # click would end with status 1, which is that of a mismatch
            raise Interruption("interrupted, and ended without a result") from None
        except BrokenPipeError:  # the reader of the output has enough: click ends quietly
            raise
        except OSError as error:
            raise Refusal(f"the operating system refused: {error}") from None


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="mip2mcu")
def main() -> None:
    """Train integer neural networks by mixed-integer programming and run them, verified, on a microcontroller.

    \b
    mip2mcu train train.csv --test test.csv --out model.json
    mip2mcu export model.json --target cortex-m --name digits
    mip2mcu verify model.json --target cortex-m --data test.csv
    """


main.add_command(train_command)
main.add_command(formulations_command)
main.add_command(certify_command)
main.add_command(inspect_command)
main.add_command(prune_command)
main.add_command(doctor_command)


# ---- evaluate ------------------------------------------------------------------------------------------------------


@main.command("evaluate")
@click.argument("model", type=click.Path(dir_okay=False))
@click.argument("data", type=click.Path())
@LABEL
@JSON
def evaluate_command(model: str, data: str, label: str | None, as_json: bool) -> None:
    """Accuracy, confusion matrix, links and margins of MODEL on DATA.

    DATA is CSV or NPZ; columns match by name, and everything is computed in exact integers.
    """
    network = Network.load(model)
    result = evaluate(network, Dataset.read(data, label=label, like=network))
    if as_json:
        click.echo(json.dumps({**result.as_dict(), **console.links_of(network)}, sort_keys=True))
        return
    click.echo(f"accuracy  {console.accuracy_line(result)}\n")
    click.echo(console.confusion_table(result) + "\n")
    click.echo(f"links     {console.links_line(network)}\nmargins   {console.margins_line(result)}")
    for line in [*console.vote_lines(result), *console.saturation_lines(result)]:
        click.echo(line)


# ---- export --------------------------------------------------------------------------------------------------------


@main.command("export")
@MODEL
@TARGET
@click.option("--out", type=click.Path(), help="Folder for the files.  [default: ./NAME]")
@click.option("--name", help="Prefix of every C name.  [default: the model's file name]")
@layout_options
@JSON
def export_command(
    model: str, target: str, out: str | None, name: str | None, options: ExportOptions | None, as_json: bool
) -> None:
    """Write MODEL as C99: NAME.h, NAME.c and a README with usage.

    Files that mip2mcu generated before are replaced, foreign files never. The layout of each layer's weights is chosen
    by predicted flash, RAM and instructions; `mip2mcu inspect MODEL --target TARGET` shows the choice. A model beyond a
    budget is refused with the smallest size that is predicted for it, and nothing is written. Without MODEL,
    model.json is exported. The generated code is yours to use without conditions.
    """
    from mip2mcu.export import export  # noqa: PLC0415  (the template engine loads only where it is needed)

    network = Network.load(model)
    name = _name_from(model) if name is None else name
    folder = Path(out or name)
    result = export(network, target=target, out=folder, name=name, options=options)
    if as_json:
        click.echo(
            json.dumps(
                {
                    "name": name,
                    "target": result.target.name,
                    "folder": str(folder),
                    "files": sorted(result.files),
                    "table_bytes": result.program.table_bytes,
                    "layouts": [layer.lowered.layout for layer in result.program.layers],
                    "predicted": result.program.plan.as_dict(),
                    "model_sha256": network.sha256,
                },
                sort_keys=True,
            )
        )
        return
    click.echo(f"wrote {', '.join(str(folder / file) for file in sorted(result.files))}")
    layouts = ", ".join(layer.lowered.layout for layer in result.program.layers)
    click.echo(f"target {result.target.name}: {result.program.table_bytes} bytes of tables, layouts {layouts}")
    click.echo("The generated code is yours to use without conditions.")


def _name_from(model: str) -> str:
    """A C identifier from the model's file name; raises `UsageError` where there is none in it."""
    name = re.sub(r"[\W_]+", "_", Path(model).stem, flags=re.ASCII).strip("_")
    if not name or name[0].isdigit():
        raise UsageError(f"the file name {Path(model).name!r} gives no C identifier: choose one with --name")
    return name


# ---- verify --------------------------------------------------------------------------------------------------------


@main.command("verify")
@MODEL
@TARGET
@click.option("--data", type=click.Path(), help="Compare on all rows of this CSV or NPZ too.")
@LABEL
@click.option("--vectors", default=10_000, show_default=True, help="Generated vectors beside the data.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="Of the random vectors.")
@click.option("--source", type=click.Path(file_okay=False), help="Verify the exported C in this folder.")
@click.option("--name", help="Name that the C in --source was exported with.  [default: the model's file name]")
@click.option(
    "--report", "documents", multiple=True, type=click.Path(), help="Write the evidence to this .json or .md file too."
)
@tool_options
@click.option(
    "--prove", is_flag=True, help="Let Frama-C prove too that no input in range leads to undefined behaviour."
)
@layout_options
@JSON
def verify_command(
    model: str,
    target: str,
    data: str | None,
    label: str | None,
    vectors: int,
    seed: int,
    source: str | None,
    name: str | None,
    documents: tuple[str, ...],
    runner: str | None,
    toolchain: str | None,
    optimisation: str | None,
    sanitize: bool,
    prove: bool,
    options: ExportOptions | None,
    as_json: bool,
) -> None:
    """Compile the C of MODEL, run it, compare it with Python.

    The C runs on TARGET's instruction set. Data rows, random rows, corners and ties are compared, bit for bit: sums,
    scores, class and margin. One mismatch is a failure that shows the input, the expected and the received values; the
    exit status is then 1, as it is where --prove leaves anything unproved. Without --source the C is generated as
    `mip2mcu export` would with the same options; budgets then hold for the compiled C too. TARGET "all" takes every
    target, compiler and emulator that is installed, and says what it skips. Without MODEL, model.json is verified.
    """
    from mip2mcu.verify import evidence, verify  # noqa: PLC0415  (emulators load only where they are needed)

    evidence.check_paths(documents)
    network = Network.load(model)
    rows = None if data is None else Dataset.read(data, label=label, like=network)
    name = _name_from(model) if name is None else name
    if target == ALL:
        fixed = {"--source": source, "--runner": runner, "--toolchain": toolchain, "--sanitize": sanitize}
        fixed |= {"--optimisation": optimisation, "--prove": prove}
        failed = everywhere(
            network, rows, vectors=vectors, seed=seed, name=name, options=options, fixed=fixed, documents=documents,
            as_json=as_json,
        )  # fmt: skip
        raise click.exceptions.Exit(1 if failed else 0)
    report = verify(
        network,
        target=target,
        data=rows,
        vectors=vectors,
        seed=seed,
        name=name,
        source=None if source is None else Path(source),
        options=options,
        runner=runner,
        toolchain=toolchain,
        optimisation=f"-{optimisation or 'O2'}",
        sanitize=sanitize,
        prove=prove,
    )
    evidence.write_documents(documents, [report])
    click.echo(json.dumps(report.as_dict(), sort_keys=True) if as_json else report.as_text())
    if not report.passed:
        raise click.exceptions.Exit(1)


# ---- targets -------------------------------------------------------------------------------------------------------


@main.command("targets")
@JSON
def targets_command(as_json: bool) -> None:
    """The processors that `export` and `verify` know."""
    from mip2mcu.export import TARGETS  # noqa: PLC0415  (the template engine loads only where it is needed)

    if as_json:
        click.echo(json.dumps({name: target.description for name, target in TARGETS.items()}, sort_keys=True))
        return
    rows = [[name, target.description] for name, target in TARGETS.items()]
    click.echo(console.table(["target", "what it is"], rows, left=2))
