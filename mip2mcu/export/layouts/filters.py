"""Fixed filters: smoothing and edges, by additions alone; nothing is multiplied and no map of edges is ever held.

    smooth   three rows are added up column by column (1, 2, 1); neighbouring columns likewise, carried along the row
    edges    the image falls into blocks of ``step`` values a side; a window is two blocks by two. Each block's sums
             are computed once; two lines of blocks are held
"""

from __future__ import annotations

from dataclasses import dataclass

from mip2mcu.export.layouts.base import Encoding, Kind, LayerContext, Lowered, Profile, Work
from mip2mcu.export.literals import accumulator_type, count_type
from mip2mcu.filters import Edges
from mip2mcu.layers import Layer, Shape


@dataclass(frozen=True)
class SmoothDetails:
    """Numbers of the partial ``smooth``: the input's shape, bits that a total loses, half of the last one."""

    shape: Shape
    shift: int
    half: int


@dataclass(frozen=True)
class EdgeDetails:
    """Numbers of the partial ``edges``.

    shape            channels, rows and columns of the input
    differences      C expressions of each difference: what is added, what is subtracted
    step, shift      of the layer; ``lead`` is how far the first block begins before the first value
    down, across     windows
    difference_type  holds every difference
    block_type       holds a block's sum in memory
    """

    shape: Shape
    differences: tuple[tuple[str, str], ...]
    step: int
    shift: int
    down: int
    across: int
    difference_type: str
    block_type: str

    @property
    def is_image(self) -> bool:
        """There are windows above each other."""
        return self.shape[1] > 1

    @property
    def lead(self) -> int:
        """Values that the first block would have before the first one."""
        return self.step // 2

    @property
    def sums(self) -> int:
        """Sums a block."""
        return 2 * len(self.differences)

    @property
    def line(self) -> int:
        """Sums of a line of blocks."""
        return self.sums * (self.across + 1)


class FilterLayout:
    """Filters, computed where they stand."""

    name = "filter"
    kind = Kind.FILTER
    summary = "smoothing and edges of images and series, by additions"

    def accepts(self, layer: Layer, context: LayerContext) -> str | None:
        """Takes every filter."""
        return None

    def lower(self, layer: Layer, context: LayerContext) -> Lowered:
        """The filter as loops over its rows or blocks."""
        return _edges(layer, context) if isinstance(layer, Edges) else _smooth(context)


def _smooth(context: LayerContext) -> Lowered:
    shape = context.input_shape
    shift = 4 if shape[1] > 1 else 2
    most = (int(context.input_high.max()) << shift) + (1 << (shift - 1))
    return Lowered(
        layout=FilterLayout.name,
        partial="smooth",
        description=f"binomial smoothing of {shape[1]} x {shape[2]} values",
        reads=Encoding.VALUES,
        tables=(),
        details=SmoothDetails(shape, shift, 1 << (shift - 1)),
        sum_low=0,
        sum_high=most,
        sum_type=count_type(most, int_bits=context.target.int_bits),
        profile=Profile(
            f"filter.smooth.{_kind(shape)}", {"unit": shape[0] * shape[1] * shape[2], "row": shape[0] * shape[1]}
        ),
    )


def _edges(layer: Edges, context: LayerContext) -> Lowered:
    shape = context.input_shape
    _, down, across = layer.output_shape(shape)
    span = int(context.input_high.max()) - int(context.input_low.min())
    most = layer.area(shape) * span
    difference_type = accumulator_type(-span, span, int_bits=context.target.int_bits)
    assert difference_type is not None
    ends = [(_value(rows, columns), _value(-rows, -columns)) for rows, columns in layer.directions(shape)]
    details = EdgeDetails(
        shape=shape,
        differences=tuple(ends),
        step=layer.step,
        shift=layer.shift,
        down=down,
        across=across,
        difference_type=difference_type,
        block_type="uint16_t" if most < 2**16 else "uint32_t",
    )
    lines = 2 if details.is_image else 1
    return Lowered(
        layout=FilterLayout.name,
        partial="edges",
        description=f"rectified differences over windows of {2 * layer.step} values a side",
        reads=Encoding.VALUES,
        tables=(),
        details=details,
        sum_low=0,
        sum_high=most,
        sum_type=count_type(most, int_bits=context.target.int_bits),
        work=(Work("blocks", details.block_type, lines * details.line),),
        profile=Profile(
            f"filter.edges.{_kind(shape)}", {"unit": details.sums * down * across, "read": layer.operations(shape)}
        ),
    )


def _kind(shape: Shape) -> str:
    """What the code runs over."""
    return "image" if shape[1] > 1 else "series"


def _value(rows: int, columns: int) -> str:
    """The C expression of a neighbour."""
    return f"{('row', 'below', 'above')[rows]}[{('x', 'after', 'before')[columns]}]"
