"""What is said about features on wildly different scales: one unit of the one is nothing beside one of the other."""

from __future__ import annotations

import numpy as np

from mip2mcu.dataset import Dataset
from mip2mcu.quantizer import OneHot

WILD = 1000
"""Ranges of two features that differ so many times are worth a note."""


def scales_note(dataset: Dataset) -> tuple[str, ...]:
    """A sentence where the ranges of two features differ `WILD` times or more, in the units of the data."""
    if dataset.quantizer is None or dataset.raw is None:
        spans = np.ptp(dataset.inputs, axis=0).astype(np.float64)
        names = [f"input {i}" for i in range(len(spans))]
        what = "their weights cannot make up for that: quantise them first, such as by --coding thermometer"
    else:
        features = dataset.quantizer.features
        numbers = [i for i, feature in enumerate(features) if not isinstance(feature.coding, OneHot)]
        spans = np.array([np.ptp(dataset.raw[:, i]) / 10.0 ** features[i].decimals for i in numbers])
        names = [features[i].name for i in numbers]
        what = "they are quantised first, so their weights count alike"
    moving = np.flatnonzero(spans > 0)
    if not len(moving):
        return ()
    least, most = (int(moving[k(spans[moving])]) for k in (np.argmin, np.argmax))
    if spans[most] < WILD * spans[least]:
        return ()
    return (
        f"the range of {names[most]!r} is {spans[most] / spans[least]:,.0f} times that of {names[least]!r}: {what}",
    )
