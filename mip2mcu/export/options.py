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

    layout             the layout of every layer, see `mip2mcu.export.layouts`, or one a layer, separated by commas;
                       "NAME/compact" and "NAME/fast" are its two kinds of code; `AUTO`, or None: the planner chooses
    optimize           what the planner prefers
    max_flash          most bytes of code and constants; None: no limit
    max_ram            most bytes of static memory, scratch and stack; None: no limit
    max_unroll_bytes   most bytes of straight-line code for one layer, by estimate; 0: `UNROLL_BYTES`
    static_scratch     the generated file owns the memory for inputs and inner tensors: not re-entrant
    """

    layout: str | None = None
    optimize: Goal = "balanced"
    max_flash: int | None = None
    max_ram: int | None = None
    max_unroll_bytes: int = 0
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
        names = [name.strip() for name in (self.layout or AUTO).split(",")]
        if len(names) == 1:
            return names[0]
        if index >= len(names):
            raise ExportError(
                f"{len(names)} layouts are named, none for layer {index}: name one a layer, or one for all layers"
            )
        return names[index]

    @property
    def unroll_bytes(self) -> int:
        """Most bytes of straight-line code for one layer."""
        return self.max_unroll_bytes or UNROLL_BYTES
