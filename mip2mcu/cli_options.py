"""What several commands share: options, and the parsing of their values."""

from __future__ import annotations

from collections.abc import Callable

import click

from mip2mcu.errors import UsageError

MODEL = click.argument("model", default="model.json", type=click.Path(dir_okay=False))
TARGET = click.option("--target", default="cortex-m", show_default=True, help="A core of `mip2mcu targets`.")
JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object for programs instead of text.")
LABEL = click.option("--label", help="Name of the label column of a CSV.  [default: label, else the last column]")


def numbers(text: str, option: str) -> tuple[int, ...]:
    """Whole numbers from a text such as ``8,4``."""
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"{option} {text!r} is not a list of whole numbers such as 8,4") from None


def say(as_json: bool) -> Callable[[str], None]:
    """Prints text, or nothing where JSON is wanted."""
    return (lambda _: None) if as_json else click.echo
