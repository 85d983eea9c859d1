"""Input stages: fixed integer layers before the first trained one, and the seam between data, training and model.

    through(dataset, stages)       the rows as the first trained layer sees them: what formulations are given
    in_front(network, dataset, stages)   the trained network with its stages, for the rows of the data set itself

A stage is a layer of `mip2mcu.layers` that has nothing to train; so it is stored, evaluated, exported and verified like
any other layer, with the network's inputs before it. Texts name stages for people:

    smooth              binomial smoothing, 3 x 3; a series: 1 x 3
    edges:STEP          rectified edge maps of an image in 8 directions, pooled by windows STEP apart
    slopes:STEP         the same for series: rising and falling
    mean:SIDE[:STEP]    rounded mean of windows; STEP apart, side by side without it
    max:SIDE[:STEP]     largest value of windows
    sum:SIDE[:STEP]     sum of windows

Images and series are tensors (channels, rows, columns); a series is one row, its windows are 1 x SIDE.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from mip2mcu.dataset import Dataset
from mip2mcu.errors import DatasetError, ModelError, UsageError
from mip2mcu.filters import Edges, Shape, Smooth
from mip2mcu.layers import AveragePool, Layer, MaxPool, SumPool
from mip2mcu.network import INPUT_LIMIT, Network
from mip2mcu.ranges import IntArray

CUT_SHARE = 0.05
"""Most training values of an edge map that may exceed 255 and be cut."""
FITTED_ROWS = 2000
"""Rows that the shift of edges is fitted to."""

_POOLS: dict[str, type[AveragePool] | type[MaxPool] | type[SumPool]] = {
    "mean": AveragePool,
    "max": MaxPool,
    "sum": SumPool,
}
NAMES = ("smooth", "edges", "slopes", *_POOLS)
"""First words of a stage's text."""


def fit_stages(texts: Sequence[str], dataset: Dataset) -> tuple[Layer, ...]:
    """The stages that ``texts`` name, for the rows of ``dataset``, in their order.

    Edges lose as few bits as the training rows allow. Raises `UsageError` for a text that names no stage and
    `DatasetError` where the data cannot pass it.
    """
    stages: list[Layer] = []
    for text in texts:
        values = _passed(dataset, stages) if text.startswith(("edges", "slopes")) else None
        shape = _shape_behind(dataset, stages)
        stages.append(_stage(text, shape, values))
        _shape_behind(dataset, stages)
    return tuple(stages)


def through(dataset: Dataset, stages: Sequence[Layer]) -> Dataset:
    """``dataset`` as plain integers behind ``stages``; itself where there are none."""
    if not stages:
        return dataset
    low, high = _ranges(dataset, stages)
    values = _passed(dataset, stages)
    return replace(
        dataset,
        inputs=values.reshape(len(values), -1),
        input_low=low.reshape(-1),
        input_high=high.reshape(-1),
        input_shape=values.shape[1:],
        quantizer=None,
        raw=None,
    )


def in_front(network: Network, dataset: Dataset, stages: Sequence[Layer]) -> Network:
    """``network``, trained on `through` of ``dataset``, with ``stages`` before its layers and the data's quantizer."""
    return replace(
        network,
        input_low=dataset.input_low,
        input_high=dataset.input_high,
        layers=(*stages, *network.layers),
        input_shape=dataset.input_shape,
        quantizer=dataset.quantizer,
    )


def shaped(dataset: Dataset, shape: Shape) -> Dataset:
    """``dataset`` with its inputs read as (channels, rows, columns); two numbers stand for one channel."""
    full = (1, *shape) if len(shape) == 2 else tuple(shape)
    size = int(np.prod(full)) if full else 0
    if len(full) != 3 or min(full) < 1 or size != dataset.inputs.shape[1]:
        sides = "x".join(str(side) for side in shape)
        raise DatasetError(
            f"shape {sides} is no (channels x) rows x columns of the data's {dataset.inputs.shape[1]} inputs a row; "
            "thermometer bits and categories are several inputs a column: images and series need --coding affine or raw"
        )
    return replace(dataset, input_shape=full)


# ---- texts ---------------------------------------------------------------------------------------------------------


def _stage(text: str, shape: Shape, values: IntArray | None) -> Layer:
    name, *parts = text.split(":")
    if name not in NAMES:
        raise UsageError(f"there is no stage {text!r}: choose smooth, edges:4, slopes:4, mean:2, max:2 or sum:8:4")
    try:
        numbers = [int(part) for part in parts]
    except ValueError:
        numbers = [0]
    least, most = (0, 0) if name == "smooth" else (1, 1) if name in ("edges", "slopes") else (1, 2)
    if not least <= len(numbers) <= most or not all(1 <= number <= 255 for number in numbers):
        raise UsageError(f"stage {text!r} is not understood: write smooth, edges:4, slopes:4, mean:2, max:2 or sum:8:4")
    if name == "smooth":
        return Smooth()
    if name in _POOLS:
        side, step = numbers[0], numbers[-1]
        series = shape[1] == 1
        return _POOLS[name]((1, side) if series else (side, side), (1, step) if series else (step, step))
    if (name == "slopes") != (shape[1] == 1):
        kind = "a series (one row)" if name == "edges" else "an image (several rows)"
        raise DatasetError(f"stage {text!r} does not take {kind}: {'slopes' if name == 'edges' else 'edges'} do")
    assert values is not None
    return _fitted_edges(numbers[0], values)


def _fitted_edges(step: int, values: IntArray) -> Edges:
    """Edges with the least shift that cuts at most `CUT_SHARE` of the totals that are not 0."""
    if step > 64:
        raise UsageError(f"windows {step} apart are not possible: give a step of 1..64")
    every = np.linspace(0, len(values) - 1, min(len(values), FITTED_ROWS)).astype(np.int64)
    totals = Edges(step, 0).totals(values[every])
    totals = np.sort(totals[totals > 0])
    if not len(totals):
        return Edges(step, 0)
    kept = int(totals[min(len(totals) - 1, int((1 - CUT_SHARE) * len(totals)))])
    return Edges(step, min(16, max(0, kept.bit_length() - 8)))


# ---- tensors -------------------------------------------------------------------------------------------------------


def _shape_behind(dataset: Dataset, stages: Sequence[Layer]) -> Shape:
    if len(dataset.input_shape) != 3:
        raise DatasetError(
            f"stages read images or series, but a row of the data is a list of {dataset.input_shape[0]} inputs: "
            "say how it is to be read, such as --shape 28x28, or 6x1x100 for six series"
        )
    return tuple(_ranges(dataset, stages)[0].shape)


def _ranges(dataset: Dataset, stages: Sequence[Layer]) -> tuple[IntArray, IntArray]:
    """Intervals of the values behind ``stages``, in their tensor's shape."""
    low, high = (end.reshape(dataset.input_shape) for end in (dataset.input_low, dataset.input_high))
    for stage in stages:
        try:
            stage.output_shape(low.shape)
            low, high = stage.output_range(low, high)
        except ModelError as error:
            raise DatasetError(f"the data cannot pass the stage {type(stage).__name__}: {error}") from None
        if low.min() < -INPUT_LIMIT or high.max() > INPUT_LIMIT:
            raise DatasetError(
                f"values behind the stage {type(stage).__name__} reach {low.min()}..{high.max()}, beyond "
                f"{INPUT_LIMIT}: take smaller windows"
            )
    return low, high


def _passed(dataset: Dataset, stages: Sequence[Layer]) -> IntArray:
    values = dataset.inputs.reshape(-1, *dataset.input_shape)
    for stage in stages:
        values = stage.forward(values)
    return values
