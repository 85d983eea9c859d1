"""Where the tensors between layers lie: planned by lifetime, one array an element type.

A tensor lives from the layer that writes it to the next, which reads it; a layer's work area lives as long as that
layer runs. Tensors go alternately to the beginning and to the end of their array, a work area behind the tensor at the
beginning. So an array needs no more than what is alive in one layer, and no plan can do with less. Types never share an
array: nothing is read as another type than it was written, and no cast can break alignment or aliasing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from mip2mcu.export.layouts import Work
from mip2mcu.export.literals import TYPE_BYTES

STACK_LIMIT = 256
"""Most bytes that a generated function takes on the stack for tensors; above it the caller provides them."""

_NAMES = {
    "uint32_t": "words",
    "int32_t": "signed_words",
    "uint16_t": "halves",
    "int16_t": "signed_halves",
    "uint8_t": "bytes",
    "int8_t": "signed_bytes",
}
_GRANULE = 4

MEMORY_TYPES = tuple(_NAMES)
"""C types of areas, the widest first."""


class Home(Enum):
    """Where the arrays are."""

    STACK = "stack"
    CALLER = "caller"
    STATIC = "static"


@dataclass(frozen=True)
class Region:
    """An array that tensors share."""

    name: str
    c_type: str
    length: int

    @property
    def bytes(self) -> int:
        """Size of the array."""
        return self.length * TYPE_BYTES[self.c_type]


@dataclass(frozen=True)
class Scratch:
    """The plan.

    regions    widest type first; as members of a struct they need no padding
    tensors    C expression of each inner tensor: its first element, as a pointer
    work       C expressions of each layer's work areas
    hidden     compilers shall not know the address of the memory (static, or the caller's under link-time
               optimisation), as a layer gets several pointers into it: GCC 12.2 then rewrites them as distances from
               null, takes the layer for one that does nothing, and drops the call
    """

    home: Home
    regions: tuple[Region, ...]
    tensors: tuple[str, ...]
    work: tuple[tuple[str, ...], ...]
    hidden: bool = False

    @property
    def bytes(self) -> int:
        """Size of all regions together."""
        return sum(region.bytes for region in self.regions)

    @property
    def caller_bytes(self) -> int:
        """Bytes that the caller must provide."""
        return self.bytes if self.home is Home.CALLER else 0


def plan(tensors: Sequence[Work], work: Sequence[tuple[Work, ...]], static: bool = False) -> Scratch:
    """Places for the tensors between layers and the work areas of each layer (one entry more than tensors)."""
    alive = [[*tensors[max(0, k - 1) : k + 1], *areas] for k, areas in enumerate(work)]
    most = [max(entries) for entries in zip(*map(entries_by_type, alive), strict=True)]
    lengths = dict(zip(MEMORY_TYPES, most, strict=True))
    home = _home(_bytes(most), static)
    if home is not Home.STACK:
        lengths = {c_type: _rounded(c_type, length) for c_type, length in lengths.items()}
    every = [*tensors, *(area for areas in work for area in areas)]
    names = {c_type: _name(every, c_type) for c_type in lengths}
    hidden = home is not Home.STACK and any(len(entries) > 1 for entries in alive)
    access = {Home.STACK: "", Home.CALLER: "scratch->", Home.STATIC: "scratch->" if hidden else "scratch."}[home]

    def pointer(area: Work, offset: int) -> str:
        array = access + names[area.c_type]
        return f"&{array}[{offset}]" if offset else array

    def tensor_offset(k: int) -> int:
        return 0 if k % 2 == 0 else lengths[tensors[k].c_type] - tensors[k].length

    def work_offset(k: int, n: int) -> int:
        """Of area ``n`` of layer ``k``: behind the tensor at the beginning, if any, and the areas before it."""
        first = tensors[k - k % 2 : k - k % 2 + 1]
        return _length([*first, *work[k][:n]], work[k][n].c_type)

    return Scratch(
        home,
        tuple(Region(names[c_type], c_type, length) for c_type, length in lengths.items() if length),
        tuple(pointer(one, tensor_offset(k)) for k, one in enumerate(tensors)),
        tuple(tuple(pointer(area, work_offset(k, n)) for n, area in enumerate(areas)) for k, areas in enumerate(work)),
        hidden,
    )


def entries_by_type(areas: Sequence[Work]) -> tuple[int, ...]:
    """Entries that ``areas`` have of each type in `MEMORY_TYPES`, together."""
    return tuple(_length(areas, c_type) for c_type in MEMORY_TYPES)


def scratch_bytes(entries: Sequence[int]) -> int:
    """Size of the arrays of a `plan` with so many ``entries`` of each type in `MEMORY_TYPES`."""
    if _bytes(entries) <= STACK_LIMIT:
        return _bytes(entries)
    return _bytes([_rounded(c_type, length) for c_type, length in zip(MEMORY_TYPES, entries, strict=True)])


def _bytes(entries: Sequence[int]) -> int:
    return sum(TYPE_BYTES[c_type] * length for c_type, length in zip(MEMORY_TYPES, entries, strict=True))


def _length(areas: Sequence[Work], c_type: str) -> int:
    """Entries of ``areas`` that are of one type."""
    return sum(area.length for area in areas if area.c_type == c_type)


def _home(total: int, static: bool) -> Home:
    if static:
        return Home.STATIC
    return Home.STACK if total <= STACK_LIMIT else Home.CALLER


def _rounded(c_type: str, length: int) -> int:
    """``length`` up to whole granules of bytes, so that a struct of regions has the same size on every core."""
    return -(-length * TYPE_BYTES[c_type] // _GRANULE) * _GRANULE // TYPE_BYTES[c_type]


def _name(areas: Sequence[Work], c_type: str) -> str:
    """The name that all areas of one type, and no others, have; else the type's."""
    own = {area.name for area in areas if area.c_type == c_type}
    others = {area.name for area in areas if area.c_type != c_type}
    return own.pop() if len(own) == 1 and not own & others else _NAMES[c_type]
