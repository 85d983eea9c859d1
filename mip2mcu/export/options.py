"""What a user may decide about the C of a network, beyond its target and its name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from mip2mcu.errors import ExportError

Goal = Literal["balanced", "speed", "size"]

AUTO = "auto"
"""As the name of a layout: the planner chooses."""

UNROLL_BYTES = 32 * 1024
"""Most bytes of straight-line code for one layer, unless the user allows more or less."""


@dataclass(frozen=True)
class ExportOptions:
    """Raises `ExportError` for an unknown goal and for a negative budget.

    layout             the layout of every layer, see `mip2mcu.export.layouts`; or one a layer, separated by commas; or
                       entries such as "1=NAME" for single layers. "NAME/compact" and "NAME/fast" are its two kinds of
                       code; `AUTO`, or None: the planner chooses
    optimize           what the planner prefers
    max_flash          most bytes of code and constants; None: no limit
    max_ram            most bytes of static memory, scratch and stack; None: no limit
    max_unroll_bytes   most bytes of straight-line code for one layer, by estimate
    static_scratch     the generated file owns the memory for inputs and inner tensors: not re-entrant
    """

    layout: str | None = None
    optimize: Goal = "balanced"
    max_flash: int | None = None
    max_ram: int | None = None
    max_unroll_bytes: int = UNROLL_BYTES
    static_scratch: bool = False

    def __post_init__(self) -> None:
        if self.optimize not in get_args(Goal):
            raise ExportError(f"C cannot be optimised for {self.optimize!r}: choose one of {', '.join(get_args(Goal))}")
        for name in ("max_flash", "max_ram", "max_unroll_bytes"):
            limit = getattr(self, name)
            if limit is not None and limit < 0:
                raise ExportError(f"{name} is {limit}: give a number of bytes from 0 up")

    def layout_of(self, index: int) -> str:
        """Name of the layout of layer ``index``, or `AUTO`; raises `ExportError` where there is no name for it."""
        named, plain = self._entries()
        if index in named:
            return named[index]
        if len(plain) <= 1:
            return plain[0] if plain else AUTO
        if index >= len(plain):
            raise ExportError(
                f"{len(plain)} layouts are named, none for layer {index}: name one a layer, one for all layers, or "
                f"{index}=NAME"
            )
        return plain[index]

    def names_layer(self, index: int) -> bool:
        """A layout is named for layer ``index`` itself, not for all layers."""
        named, plain = self._entries()
        return index in named or len(plain) > 1

    def check_layers(self, count: int) -> None:
        """Raise `ExportError` where a layout is named for a layer that a network of ``count`` layers does not have."""
        named, plain = self._entries()
        beyond = [index for index in (*named, len(plain) - 1) if index >= count]
        if beyond and max(beyond) > 0:
            raise ExportError(f"a layout is named for layer {max(beyond)}, the network has layers 0 to {count - 1}")

    def _entries(self) -> tuple[dict[int, str], list[str]]:
        """Names by layer, and those without a number."""
        named: dict[int, str] = {}
        plain: list[str] = []
        for entry in (part.strip() for part in (self.layout or AUTO).split(",")):
            number, equals, name = (part.strip() for part in entry.rpartition("="))
            if not name or (equals and not number.isdecimal()):
                raise ExportError(f"{entry!r} names no layout of a layer: write NAME, or LAYER=NAME such as 0=dense")
            if not equals:
                plain.append(name)
            elif int(number) in named:
                raise ExportError(f"two layouts are named for layer {int(number)}, {named[int(number)]} and {name}")
            else:
                named[int(number)] = name
        return named, plain
