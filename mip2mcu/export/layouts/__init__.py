"""The layouts of a layer's weights, one file each; see `mip2mcu.export.layouts.base` for what a layout is.

To add one: a file here with a class that fulfils `Layout`, a row below, a partial in ``templates/layouts/``, and its
name in the tests' list of layouts, which compares it with the reference on random networks.
"""

from __future__ import annotations

from mip2mcu.export.layouts.base import Binary, Encoding, Kind, LayerContext, Layout, Lowered, Work, kind_of
from mip2mcu.export.layouts.bit_columns import BitColumnsLayout
from mip2mcu.export.layouts.bit_planes import BitPlanesLayout
from mip2mcu.export.layouts.compressed import CompressedLayout
from mip2mcu.export.layouts.conv import ConvLayout
from mip2mcu.export.layouts.conv_dsp import ConvDspLayout
from mip2mcu.export.layouts.csr8 import Csr8Layout
from mip2mcu.export.layouts.dense import DenseLayout
from mip2mcu.export.layouts.dense_dsp import DenseDspLayout
from mip2mcu.export.layouts.filters import FilterLayout
from mip2mcu.export.layouts.grouped import GroupedLayout
from mip2mcu.export.layouts.lists import Coding
from mip2mcu.export.layouts.pool import PoolLayout
from mip2mcu.export.layouts.sparse import SparseLayout
from mip2mcu.export.layouts.ternary2 import Ternary2Layout
from mip2mcu.export.layouts.unrolled import UnrolledLayout

LAYOUTS: dict[str, Layout] = {
    layout.name: layout
    for layout in (
        BitPlanesLayout(),
        DenseLayout(),
        DenseDspLayout(),
        BitColumnsLayout(),
        SparseLayout("sparse_delta8", Coding.DELTA8),
        SparseLayout("sparse_index8", Coding.INDEX8),
        SparseLayout("sparse_index16", Coding.INDEX16),
        GroupedLayout("grouped_delta8", Coding.DELTA8),
        GroupedLayout("grouped_index8", Coding.INDEX8),
        GroupedLayout("grouped_index16", Coding.INDEX16),
        Csr8Layout(),
        Ternary2Layout(),
        CompressedLayout(),
        UnrolledLayout(),
        ConvLayout(),
        ConvDspLayout(),
        PoolLayout(),
        FilterLayout(),
    )
}
"""Every layout by name; of two that need the same flash, the earlier is taken."""

FIXED_STEPS = frozenset(LAYOUTS) - {"conv", "conv_dsp", "pool", "filter"}
"""Layouts whose code runs the same steps whatever the inputs are: no loop and no branch depends on one."""

__all__ = [
    "FIXED_STEPS", "LAYOUTS", "Binary", "Encoding", "Kind", "LayerContext", "Layout", "Lowered", "Work", "kind_of",
]  # fmt: skip
