"""Convolutions: dense weights, computed where they stand, without a copy of every window (im2col).

    sum = bias[channel];  sum += weights[channel][c][r][k] * source[c][row * stride + r][column * stride + k]

for the input channels c, kernel rows r and kernel columns k in this order. A *tile* of neighbouring columns is computed
at once, so that one load of a weight serves several sums and neighbouring sums share their inputs.

Padding: a *band* of the rows that a few output rows need is copied with the padding around them, so that no sum has to
ask where the image ends. Without padding the windows are read from the input itself.

Pooling behind the convolution joins in (see `mip2mcu.export.fusing`): an output row then is a row of pooled *cells*.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from mip2mcu.export.fusing import PooledConv2d
from mip2mcu.export.layouts.base import (
    Binary,
    Encoding,
    Kind,
    LayerContext,
    Lowered,
    Profile,
    Work,
    product_turns,
    sum_type,
)
from mip2mcu.export.layouts.pool import Division, exact_division
from mip2mcu.export.literals import Column, Table, accumulator_type, column, count_type, table, tables_in, value_type
from mip2mcu.export.targets import Target
from mip2mcu.layers import AveragePool, Conv2d, Layer, Shape
from mip2mcu.ranges import IntArray, prefix_range

_UNROLLED_COLUMNS = 8
"""Kernel rows of at most this many weights are written out."""
_BAND_OVERHEAD = 0.04
"""Share of a convolution's time that copying rows repeatedly may take before a band is made to serve more rows."""
_INSTRUCTIONS_A_COPY, _INSTRUCTIONS_A_PRODUCT, _INSTRUCTIONS_A_ROW, _INSTRUCTIONS_A_CALL = 5, 2, 4, 20
_WHOLE_KERNEL = 36
"""Kernels of at most this many weights are written out where columns go in pairs, unless code shall be small."""


@dataclass(frozen=True)
class Band:
    """Input rows and their padding, ``rows`` of ``columns`` for each channel, which serve ``serves`` output rows.

    padding    (top, left, bottom, right)
    value      what the padding is filled with
    outside    C condition that the row y, counted from the first row of the padding, is padding; empty where none is
    """

    rows: int
    columns: int
    serves: int
    padding: tuple[int, int, int, int]
    value: int
    outside: str


@dataclass(frozen=True)
class Cell:
    """The window of the convolution's outputs that becomes one output: 1 x 1 without pooling.

    A *line* of one entry a column holds each column's part while the rows of a window are computed.

    line_type    C type of the line's entries: of the largest sum, or of a mean's total plus half its area
    division     of a mean; None for a maximum
    """

    rows: int = 1
    columns: int = 1
    line_type: str = ""
    division: Division | None = None

    @property
    def area(self) -> int:
        """Convolution outputs in it."""
        return self.rows * self.columns


@dataclass(frozen=True)
class Tiles:
    """Columns of a row in ``count`` tiles of ``size``; the last begins at column ``last``."""

    size: int
    count: int
    last: int

    @property
    def repeated(self) -> int:
        """How many columns of the tile before it the last one computes again."""
        return (self.count - 1) * self.size - self.last


@dataclass(frozen=True)
class Pairs:
    """The steps of a kernel row of ``columns`` weights, for cores that multiply and add two pairs at once (SMLAD).

    Weights are read in fours, of which ``even`` and ``odd`` bytes become a pair each, then in twos, then alone.

    steps    by offset of two neighbouring inputs: which sums of the tile they go to, with which pair of weights
    whole    all kernel rows of an input channel are written out
    """

    columns: int
    steps: tuple[tuple[int, tuple[tuple[int, int], ...]], ...]
    whole: bool = False

    @property
    def count(self) -> int:
        """Pairs of weights; the last has a zero where ``columns`` is odd."""
        return -(-self.columns // 2)

    @property
    def fours(self) -> int:
        """Groups of four weights."""
        return self.columns // 4


@dataclass(frozen=True)
class ConvDetails:
    """Numbers of the partials ``conv*``.

    image         channels, rows and columns of the input
    kernel        rows and columns
    output        channels, rows and columns of the output
    cell          what becomes one output
    source_type   C type of what the windows are read from, the input or the band
    row_step      elements from one row of it to the next
    channel_step  elements from one channel of it to the next
    product_type  holds every single product
    pairs         how a kernel row is computed two columns at a time; None where one by one
    """

    weights: Table
    bias: Column
    image: Shape
    kernel: tuple[int, int]
    stride: tuple[int, int]
    output: Shape
    cell: Cell
    band: Band | None
    source_type: str
    row_step: int
    channel_step: int
    tiles: Tiles
    product_type: str
    pairs: Pairs | None = None

    @property
    def source(self) -> str:
        """C name of what the windows are read from."""
        return "input" if self.band is None else "band"

    @property
    def row_stride(self) -> int:
        """Rows of the source from one output row to the next."""
        return self.cell.rows * self.stride[0]

    @property
    def bands(self) -> int:
        """How often the band is filled."""
        return 0 if self.band is None else self.output[1] // self.band.serves

    @property
    def even_rows(self) -> int:
        """Kernel rows of all channels where they lie equally far apart, else 0."""
        channels, rows = self.image[0], self.kernel[0]
        even = channels == 1 or rows == 1 or self.channel_step == rows * self.row_step
        return channels * rows if even else 0

    @property
    def even_step(self) -> int:
        """Elements from one of the `even_rows` to the next."""
        return self.channel_step if self.kernel[0] == 1 else self.row_step

    @property
    def unrolled(self) -> bool:
        """A kernel row is written out."""
        return self.kernel[1] <= _UNROLLED_COLUMNS

    @property
    def kernel_size(self) -> int:
        """Weights of one output channel."""
        return self.image[0] * self.kernel[0] * self.kernel[1]


class ConvLayout:
    """One int8_t (or int16_t) a weight."""

    name = "conv"
    kind = Kind.CONVOLUTION
    summary = "convolutions: one int8_t a weight, int16_t where a weight needs it"

    def accepts(self, layer: Layer, context: LayerContext) -> str | None:
        """Takes every convolution."""
        return None

    def lower(self, layer: Layer, context: LayerContext) -> Lowered:
        """The layer as a table of weights, one output channel behind the other."""
        assert isinstance(layer, Conv2d)
        return lower_convolution(layer, context, self.name)


def lower_convolution(layer: Conv2d, context: LayerContext, name: str, *, in_pairs: bool = False) -> Lowered:
    """``layer`` in the layout ``name``, its kernel rows computed two columns at a time or one by one."""
    least, most = tap_range(layer, context)
    flat = layer.weights.reshape(layer.units, -1)
    low, high = prefix_range(flat, layer.bias, least, most)
    accumulator = sum_type(low, high, context)
    kernel = layer.weights.shape
    text = f"Layer {context.index}: of each output channel, {kernel[1]} kernels of {kernel[2]} x {kernel[3]}"
    weights = table(
        f"{context.prefix}_weights",
        in_fours(layer.weights) if in_pairs else layer.weights,
        row=kernel[3],
        comment=f"{text}, of each four columns 0, 2, 1, 3." if in_pairs and kernel[3] >= 4 else f"{text}.",
    )
    if in_pairs:
        weights = replace(weights, c_type="int8_t")  # for the code, though no weight may have a sign
    bias = column(f"{context.prefix}_bias", layer.bias)
    products = np.stack([flat * least, flat * most])
    product = accumulator_type(int(products.min()), int(products.max()), int_bits=context.target.int_bits)
    assert product is not None
    details = _geometry(layer, context, weights, bias, product, accumulator, in_pairs)
    return Lowered(
        layout=name,
        partial="conv",
        description=_describe(layer, weights),
        reads=Encoding.VALUES,
        tables=(weights, *tables_in(bias)),
        details=details,
        sum_low=low,
        sum_high=high,
        sum_type=accumulator,
        supports=("not_inlined", "settle", "signed_word", "dsp", "dsp_signed", "dsp_halves") if in_pairs else (),
        work=_work(details),
        profile=_profile(details, name, context),
    )


def in_fours(weights: IntArray) -> IntArray:
    """``weights`` (..., columns), reordered: of each four, even bytes are columns 0 and 1, odd ones columns 2 and 3."""
    columns = weights.shape[-1]
    order = [4 * g + k for g in range(columns // 4) for k in (0, 2, 1, 3)]
    return weights[..., [*order, *range(len(order), columns)]]


def pairs_of(columns: int, stride: int, tile: int, whole: bool = False) -> Pairs:
    """The steps of a kernel row for ``tile`` neighbouring sums, in the order of the inputs."""
    steps: dict[int, list[tuple[int, int]]] = {}
    for t in range(tile):
        for pair in range(-(-columns // 2)):
            steps.setdefault(t * stride + 2 * pair, []).append((t, pair))
    return Pairs(columns, tuple((offset, tuple(sums)) for offset, sums in sorted(steps.items())), whole)


def _profile(details: ConvDetails, name: str, context: LayerContext) -> Profile:
    """Parts are calls for a tile of sums, and what happens within."""
    channels, down, across = details.output
    tiles = channels * down * details.cell.rows * details.tiles.count
    band = details.band
    turns = {
        "unit": channels * down * across,
        "tile": tiles,
        "row": tiles * details.image[0] * details.kernel[0],
        "weight": tiles * details.kernel_size,
        "product": tiles * details.kernel_size * details.tiles.size,
        "lift": tiles * details.tiles.size if details.cell.area > 1 else 0,
        "column": channels * down * across * details.cell.columns if details.cell.area > 1 else 0,
        "copy": 0 if band is None else details.bands * details.image[0] * band.rows * band.columns,
    }
    turns |= product_turns(turns["product"], context)
    written = details.kernel[1] if details.unrolled else 1
    statements = {"product": written * details.tiles.size, "weight": written, "band": int(band is not None)}
    if details.pairs is not None:
        rows, steps = turns["row"], details.pairs.steps
        products = sum(len(sums) for _, sums in steps)
        turns |= {"weight": rows * details.pairs.count, "load": rows * len(steps), "product": rows * products}
        turns["row"] = 0 if details.pairs.whole else rows
        written = details.kernel[0] if details.pairs.whole else 1
        statements |= {"product": written * products, "weight": written * (len(steps) + details.pairs.count)}
    return Profile(_variant(details, name), turns, statements)


def _variant(details: ConvDetails, name: str) -> str:
    """Names the code: how loops run over the kernel's rows, what becomes of the sums."""
    rows = ".even" if details.even_rows and details.pairs is None else ""
    pooled = "" if details.cell.area == 1 else ".mean" if details.cell.division else ".max"
    return f"{name}{rows}{pooled}"


def tap_range(layer: Conv2d, context: LayerContext) -> tuple[IntArray, IntArray]:
    """Least and largest value (channels * kernel rows * kernel columns,) that each weight ever meets."""
    low, high = (_windows(layer, end.reshape(context.input_shape)) for end in (context.input_low, context.input_high))
    return low.min(axis=(1, 2)).reshape(-1), high.max(axis=(1, 2)).reshape(-1)


def _windows(layer: Conv2d, image: IntArray) -> IntArray:
    """All windows (channels, down, across, kernel rows, kernel columns) of the padded image, as a view."""
    top, left, bottom, right = layer.padding
    padded = np.pad(image, ((0, 0), (top, bottom), (left, right)), constant_values=np.int64(layer.padding_value))
    view = np.lib.stride_tricks.sliding_window_view(padded, layer.weights.shape[2:], axis=(1, 2))
    return view[:, :: layer.stride[0], :: layer.stride[1]]


def _describe(layer: Conv2d, weights: Table) -> str:
    text = f"convolution with kernels of {layer.weights.shape[2]} x {layer.weights.shape[3]} {weights.c_type} weights"
    if not isinstance(layer, PooledConv2d):
        return text
    kind = "mean" if isinstance(layer.pool, AveragePool) else "maximum"
    return f"{text}, {kind} of {layer.pool.window[0]} x {layer.pool.window[1]}"


def _geometry(
    layer: Conv2d,
    context: LayerContext,
    weights: Table,
    bias: Column,
    product: str,
    accumulator: str,
    in_pairs: bool,
) -> ConvDetails:
    image, kernel, stride = context.input_shape, layer.weights.shape[2:], layer.stride
    channels, down, across = layer.output_shape(image)
    low, high = (-1, 1) if context.binary is Binary.MINUS_PLUS else (context.input_low.min(), context.input_high.max())
    cell = _cell(layer, context, accumulator)
    if kernel == (1, 1) and stride == (1, 1) and cell.area == 1:
        image, down, across = (image[0], 1, image[1] * image[2]), 1, down * across
    band = _band(layer, image, cell, down, across) if any(layer.padding) or in_pairs else None
    rows, columns = (band.rows, band.columns) if band else image[1:]
    if band:
        low, high = min(low, band.value), max(high, band.value)
    source_type = "int16_t" if in_pairs else value_type(int(low), int(high))
    assert source_type is not None
    tiles = choose_tiles(across * cell.columns, kernel[1], stride[1], context.target, kernel[0] if in_pairs else 0)
    return ConvDetails(
        weights=weights,
        bias=bias,
        image=image,
        kernel=kernel,
        stride=stride,
        output=(channels, down, across),
        cell=cell,
        band=band,
        source_type=source_type,
        row_step=columns,
        channel_step=rows * columns,
        tiles=tiles,
        product_type=product,
        pairs=pairs_of(kernel[1], stride[1], tiles.size, _is_whole(kernel, context)) if in_pairs else None,
    )


def _cell(layer: Conv2d, context: LayerContext, accumulator: str) -> Cell:
    if not isinstance(layer, PooledConv2d):
        return Cell()
    rows, columns = layer.pool.window
    if not isinstance(layer.pool, AveragePool):
        return Cell(rows, columns, accumulator)
    low, high = (end.reshape(context.input_shape) for end in (context.input_low, context.input_high))
    area = rows * columns
    most = area * int(layer.convolution.output_range(low, high)[1].max()) + area // 2
    return Cell(rows, columns, count_type(most, int_bits=context.target.int_bits), exact_division(area, most))


def _band(layer: Conv2d, image: Shape, cell: Cell, down: int, across: int) -> Band:
    """The band that serves the fewest output rows; what two bands share is copied twice, which must not cost much."""
    top, left, bottom, right = layer.padding
    columns = image[2] + left + right
    for serves in (n for n in range(1, down + 1) if down % n == 0):
        rows = layer.weights.shape[2] + (serves * cell.rows - 1) * layer.stride[0]
        shared = rows - serves * cell.rows * layer.stride[0]
        repeated = image[0] * shared * columns * _INSTRUCTIONS_A_COPY
        computed = layer.weights.size * serves * across * cell.area * _INSTRUCTIONS_A_PRODUCT
        if repeated <= _BAND_OVERHEAD * computed:
            break
    conditions = [f"y < {top}U"] * (top > 0) + [f"y >= {top + image[1]}U"] * (bottom > 0)
    return Band(rows, columns, serves, layer.padding, layer.padding_value, " || ".join(conditions))


def _is_whole(kernel: tuple[int, int], context: LayerContext) -> bool:
    return not context.compact and kernel[0] * kernel[1] <= _WHOLE_KERNEL


def choose_tiles(across: int, columns: int, stride: int, target: Target, pair_rows: int = 0) -> Tiles:
    """The tiles that compute a row of ``across`` sums with the fewest instructions.

    ``columns`` and ``stride`` are the kernel's, as are ``pair_rows``, which are not 0 where columns go in pairs.
    """

    def cost(size: int) -> int:
        if pair_rows:
            pairs = pairs_of(columns, stride, size)
            row = len(pairs.steps) + size * pairs.count + 2 * pairs.count
            return -(-across // size) * (pair_rows * row + _INSTRUCTIONS_A_CALL + 3 * size)
        loads = columns + min(size * columns, (size - 1) * stride + columns)
        return -(-across // size) * (loads + _INSTRUCTIONS_A_PRODUCT * size * columns + _INSTRUCTIONS_A_ROW)

    size = min(range(1, min(across, _tile_limit(target)) + 1), key=cost)
    return Tiles(size, -(-across // size), across - size)


def _tile_limit(target: Target) -> int:
    """Most sums that stay in registers, beside as many inputs, a weight and the pointers."""
    return 2 if target.registers < 10 else 6 if target.registers > 20 else 5


def _work(details: ConvDetails) -> tuple[Work, ...]:
    band, cell = details.band, details.cell
    areas = []
    if band is not None:
        values = details.image[0] * band.rows * band.columns
        areas.append(Work("band", details.source_type, values + (details.pairs is not None)))
    if cell.area > 1:
        areas.append(Work("line", cell.line_type, details.output[2] * cell.columns))
    return tuple(areas)
