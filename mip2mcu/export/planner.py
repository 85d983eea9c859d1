"""Chooses the layout of each layer: of those that accept the layer, the one whose weights need the least flash."""

from __future__ import annotations

from mip2mcu.errors import ExportError
from mip2mcu.export.layouts import LAYOUTS, LayerContext, Lowered
from mip2mcu.export.options import ExportOptions
from mip2mcu.layers import Dense, Layer


def choose(layer: Layer, context: LayerContext, options: ExportOptions) -> Lowered:
    """``layer`` in its best layout, or in the one that ``options`` name; raises `ExportError` where none accepts it.

    Convolutions and pools that the named layout does not take keep theirs.
    """
    layout = options.layout
    if layout is not None and layout not in LAYOUTS:
        raise ExportError(f"there is no layout {layout!r}: choose one of {', '.join(LAYOUTS)}")
    named = LAYOUTS if layout is None else {layout: LAYOUTS[layout]}
    if not isinstance(layer, Dense) and all(entry.accepts(layer, context) for entry in named.values()):
        named = LAYOUTS
    reasons = {name: entry.accepts(layer, context) for name, entry in named.items()}
    accepted = [entry for name, entry in named.items() if reasons[name] is None]
    if not accepted:
        listed = "; ".join(f"{name} {reason}" for name, reason in reasons.items())
        kind = type(layer).__name__
        raise ExportError(f"layer {context.index} ({kind}) fits no layout for target {context.target.name}: {listed}")
    return min((entry.lower(layer, context) for entry in accepted), key=lambda lowered: lowered.weight_bytes)
