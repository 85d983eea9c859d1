"""What generated C must not outgrow on its target: the type of an index, the size of an array, the reach of a read."""

from __future__ import annotations

from collections.abc import Iterator

from mip2mcu.errors import ExportError
from mip2mcu.export.literals import TYPE_BYTES, Table
from mip2mcu.export.program import Program

_SMALLER = "choose a layout that needs less or a larger target, or train a smaller network"


def check_limits(program: Program) -> None:
    """Raise `ExportError` where an array of ``program`` is longer, or its constants larger, than its target takes."""
    target = program.target
    for name, elements, size in _arrays(program):
        excess = target.excess(elements, size)
        if excess:
            raise ExportError(f"{name} takes {excess}: {_SMALLER}")
    constants = sum(table.bytes for table in _tables(program))
    if target.constants_limit is not None and constants > target.constants_limit:
        raise ExportError(
            f"the constants take {constants} bytes, target {target.name} reads at most {target.constants_limit}: "
            + _SMALLER
        )


def _tables(program: Program) -> tuple[Table, ...]:
    return (*program.tables, *program.selftest.tables)


def _votes_bytes(program: Program) -> int:
    """What a vote keeps on the stack at once: sums, votes, and strengths where these decide; 0 for other rules."""
    rule = program.decision
    if not rule.members:
        return 0
    return TYPE_BYTES["int32_t"] * (program.sums + rule.scores * (2 if rule.by_margin else 1))


def _arrays(program: Program) -> Iterator[tuple[str, int, int]]:
    """Name, elements and bytes of tables, of what passes between layers and what they work in, of what callers declare.

    Tables and the scratch memory, which is one object, are read in parts, whatever their length.
    """
    for table in _tables(program):
        yield f"the table {table.name}", 0, table.bytes
    yield "the scratch memory", 0, program.scratch.bytes
    yield "the memory for sums and votes", 0, _votes_bytes(program)
    if program.quantizer is not None:
        features = len(program.features)
        yield "the array of raw features", features, features * TYPE_BYTES[program.quantizer.raw_type]
    for layer in program.layers:
        for what, buffer in (("input", layer.input), ("output", layer.output)):
            size = buffer.length * TYPE_BYTES[buffer.c_type]
            yield f"the {what} of layer {layer.index}", buffer.elements, size
        for area in layer.lowered.work:
            yield f"the array {area.name}", area.length, area.bytes
