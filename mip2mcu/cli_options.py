"""What several commands share: options, and the parsing of their values."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from typing import TYPE_CHECKING, Any

import click

from mip2mcu.errors import UsageError

if TYPE_CHECKING:
    from mip2mcu.export import ExportOptions

MODEL = click.argument("model", default="model.json", type=click.Path(dir_okay=False))
TARGET = click.option("--target", default="cortex-m", show_default=True, help="A core of `mip2mcu targets`.")
JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object for programs instead of text.")
LABEL = click.option("--label", help="Name of the label column of a CSV.  [default: label, else the last column]")


def numbers(text: str, option: str, such_as: str = "8,4") -> tuple[int, ...]:
    """Whole numbers from a text such as ``8,4``."""
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"{option} {text!r} is not a list of whole numbers such as {such_as}") from None


def low_high(text: str | None, option: str) -> tuple[int, int] | None:
    """The ends of a range from a text such as ``0,255``; None where there is none."""
    if text is None:
        return None
    with suppress(ValueError):
        low, high = (int(part) for part in text.split(","))
        if low <= high:
            return low, high
    raise UsageError(f"{option} {text!r} is not LOW,HIGH such as 0,255")


def say(as_json: bool) -> Callable[[str], None]:
    """Prints text, or nothing where JSON is wanted."""
    return (lambda _: None) if as_json else click.echo


BYTES_LIMIT = 2**40
"""Most bytes that an option takes."""


class Bytes(click.ParamType):
    """A number of bytes: 4096, or 4k for 4 times 1024."""

    name = "bytes"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The number; fails on anything else."""
        text = str(value).strip().lower()
        digits, factor = (text[:-1], 1024) if text.endswith("k") else (text, 1)
        if not (digits.isascii() and digits.isdecimal()):
            self.fail(f"{value!r} is no number of bytes such as 4096 or 4k", param, ctx)
        if len(digits) > len(str(BYTES_LIMIT)) or int(digits) * factor > BYTES_LIMIT:
            self.fail(f"{value!r} is too large: give at most {BYTES_LIMIT} bytes", param, ctx)
        return int(digits) * factor


_LAYOUT_OPTIONS = (
    click.option(
        "--optimize",
        type=click.Choice(["balanced", "speed", "size"]),
        help="What the choice of layouts prefers: the least product of flash and instructions, the fewest "
        "instructions, or the least flash.  [default: balanced]",
    ),
    click.option(
        "--max-flash",
        type=Bytes(),
        metavar="BYTES",
        help="Refuse programs beyond it (code and constants of predict, quantize, pack); 4096 or 4k.",
    ),
    click.option(
        "--max-ram", type=Bytes(), metavar="BYTES", help="The same for RAM: scratch, stack and static memory."
    ),
    click.option(
        "--layout",
        "layouts",
        multiple=True,
        metavar="[LAYER=]NAME",
        help="Layout of all layers, or of layer LAYER, such as 0=unrolled; once a layer. NAME/compact and NAME/fast "
        "name its kinds of code. `mip2mcu inspect --target` lists layouts.",
    ),
    click.option(
        "--max-unroll-bytes",
        type=Bytes(),
        metavar="BYTES",
        help="Most straight-line code for one layer, by estimate; 0 for none.  [default: 32k]",
    ),
    click.option(
        "--static-scratch",
        is_flag=True,
        help="The C owns the memory for inputs and inner tensors: the caller fills NAME_input, no function is "
        "re-entrant.",
    ),
)


def layout_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Gives ``command`` the options of `ExportOptions`, as its parameter ``options``; None where none was given."""

    @wraps(command)
    def with_options(
        *,
        optimize: str | None,
        max_flash: int | None,
        max_ram: int | None,
        layouts: tuple[str, ...],
        max_unroll_bytes: int | None,
        static_scratch: bool,
        **others: Any,
    ) -> Any:
        given = {
            "optimize": optimize,
            "max_flash": max_flash,
            "max_ram": max_ram,
            "layout": ",".join(layouts) or None,
            "max_unroll_bytes": max_unroll_bytes,
            "static_scratch": static_scratch or None,
        }
        return command(options=_options({name: value for name, value in given.items() if value is not None}), **others)

    for option in reversed(_LAYOUT_OPTIONS):
        with_options = option(with_options)
    return with_options


def _options(given: dict[str, Any]) -> ExportOptions | None:
    from mip2mcu.export import ExportOptions  # noqa: PLC0415  (the template engine loads only where it is needed)

    return ExportOptions(**given) if given else None
