"""What generated C must not outgrow on its target: the type of an index, the size of an array, the reach of a read."""

from __future__ import annotations

from collections.abc import Iterator

from mip2mcu.errors import ExportError
from mip2mcu.export.literals import TYPE_BYTES
from mip2mcu.export.program import Program

_SMALLER = "choose a layout that needs less, or train a smaller network"


def check_limits(program: Program) -> None:
    """Raise `ExportError` where an array of ``program`` is longer, or its constants larger, than its target takes."""
    target = program.target
    for name, elements, size in _arrays(program):
        if elements > target.index_limit:
            raise ExportError(
                f"{name} has {elements} elements, an index of target {target.name} counts to {target.index_limit}: "
                "choose a target with an int of 32 bits"
            )
        _check_size(name, size, program)
    tables = (*program.tables, *program.selftest.tables)
    for table in tables:
        _check_size(f"the table {table.name}", table.bytes, program)
    constants = sum(table.bytes for table in tables)
    if target.constants_limit is not None and constants > target.constants_limit:
        raise ExportError(
            f"the constants take {constants} bytes, target {target.name} reads at most {target.constants_limit}: "
            + _SMALLER
        )


def _check_size(name: str, size: int, program: Program) -> None:
    limit = program.target.object_limit
    if limit is not None and size > limit:
        raise ExportError(f"{name} takes {size} bytes, an array of target {program.target.name} {limit}: {_SMALLER}")


def _arrays(program: Program) -> Iterator[tuple[str, int, int]]:
    """Name, elements and bytes of what passes between layers, of what they work in, and of what callers declare."""
    if program.quantizer is not None:
        features = len(program.features)
        yield "the array of raw features", features, features * TYPE_BYTES[program.quantizer.raw_type]
    yield "the scratch memory", 0, program.scratch.bytes  # one object; its arrays are indexed a tensor at a time
    for layer in program.layers:
        for what, buffer in (("input", layer.input), ("output", layer.output)):
            size = buffer.length * TYPE_BYTES[buffer.c_type]
            yield f"the {what} of layer {layer.index}", buffer.elements, size
        for area in layer.lowered.work:
            yield f"the array {area.name}", area.length, area.length * TYPE_BYTES[area.c_type]
