"""Convolutions for cores that multiply two pairs of 16-bit values and add both products at once (SMLAD).

As `mip2mcu.export.layouts.conv`, with kernel rows computed two columns at a time: the band holds the input rows as
int16_t, so that one load from any address gives two neighbouring inputs, which serve several sums of the tile. The
weights stay bytes; in each four of them columns 1 and 2 change places, because one instruction spreads the even bytes
of a word over two halves, another one the odd bytes. Where a row has an odd number of columns, the last pair's second
weight is 0: it meets an input of the next window, and behind the last row an entry of the band that is there for it.
"""

from __future__ import annotations

import numpy as np

from mip2mcu.export.layouts.base import Kind, LayerContext, Lowered
from mip2mcu.export.layouts.conv import lower_convolution
from mip2mcu.layers import Conv2d, Layer

COLUMNS_LIMIT = 8
"""Most columns of a kernel: its pairs of weights stay in registers."""
_LOW, _HIGH = -128, 127


class ConvDspLayout:
    """Two products an instruction; needs more memory than `ConvLayout`."""

    name = "conv_dsp"
    kind = Kind.CONVOLUTION
    summary = "convolutions by SMLAD, input rows as int16_t: cores with DSP instructions"

    def accepts(self, layer: Layer, context: LayerContext) -> str | None:
        """Takes convolutions with weights of 8 bits and 2 to 8 columns, on cores that have the instructions."""
        assert isinstance(layer, Conv2d)
        if not context.target.has_dsp:
            return "needs a core with DSP instructions"
        columns = layer.weights.shape[3]
        if not 2 <= columns <= COLUMNS_LIMIT:
            return f"takes kernels of 2 to {COLUMNS_LIMIT} columns, these have {columns}"
        low, high = int(np.min(layer.weights)), int(np.max(layer.weights))
        return None if _LOW <= low <= high <= _HIGH else f"takes weights of 8 bits, these lie in {low}..{high}"

    def lower(self, layer: Layer, context: LayerContext) -> Lowered:
        """The layer as a table of weights, one output channel behind the other."""
        assert isinstance(layer, Conv2d)
        return lower_convolution(layer, context, self.name, in_pairs=True)
