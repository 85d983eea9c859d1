"""More training rows from the given ones, by integer transforms: small changes that leave the class as it is.

    images   rotation, scale, shear and shift, drawn for each copy; bilinear in 1 / 256 of a pixel; the lower
             end of the range comes in from outside
    series   shift in time, and a little noise on every sample; the nearest sample comes in from outside

All arithmetic on the rows is in integers, so the same seed gives the same rows on every machine.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from mip2mcu.dataset import Dataset
from mip2mcu.errors import DatasetError, UsageError
from mip2mcu.ranges import IntArray

COPIES_LIMIT = 1000
"""Most copies of each row."""

_ONE = 256
"""A pixel, in the unit of positions."""


@dataclass(frozen=True)
class Augmentation:
    """How far copies differ from their row.

    copies    of each row, beside the row itself
    shift     largest shift of an image in 1 / 256 of its shorter side, of a series of its length
    turn      largest entry of the rotation and of the shear, in 1 / 256 (a rotation by 1 / 6 is some 10 degrees)
    scale     largest change of each scale, in 1 / 256
    noise     largest change of a sample of a series, in 1 / 256 of its range
    """

    copies: int
    shift: int = 14
    turn: int = 44
    scale: int = 38
    noise: int = 5

    def __post_init__(self) -> None:
        if not 0 <= self.copies <= COPIES_LIMIT:
            raise UsageError(f"{self.copies} copies of each row are not possible: give a number of 0..{COPIES_LIMIT}")


def augmented(dataset: Dataset, augmentation: Augmentation, seed: int) -> Dataset:
    """``dataset`` and, behind it, ``copies`` changed copies of all rows; raw features are left out.

    Raises `DatasetError` where a row is neither an image nor a series.
    """
    if augmentation.copies == 0:
        return dataset
    if len(dataset.input_shape) != 3:
        raise DatasetError(
            f"only images and series are augmented, but a row of the data is a list of {dataset.input_shape[0]} "
            "inputs: say how it is to be read, such as --shape 28x28, or 6x1x100 for six series"
        )
    rows = dataset.inputs.reshape(-1, *dataset.input_shape)
    change = _changed_image if dataset.input_shape[1] > 1 else _changed_series
    low, high = (end.reshape(dataset.input_shape) for end in (dataset.input_low, dataset.input_high))
    copies = [rows]
    for copy in range(augmentation.copies):
        rng = np.random.default_rng([seed, copy])
        copies.append(np.stack([change(row, low, high, augmentation, rng) for row in rows]))
    count = augmentation.copies + 1
    return replace(
        dataset,
        inputs=np.concatenate(copies).reshape(-1, dataset.inputs.shape[1]),
        labels=np.tile(dataset.labels, count),
        raw=None,
        quantizer=None,
        notes=(),
    )


def _changed_image(
    row: IntArray, low: IntArray, high: IntArray, how: Augmentation, rng: np.random.Generator
) -> IntArray:
    """A copy of one image (channels, rows, columns)."""
    _, down, across = row.shape
    turn, shear = (int(rng.integers(-how.turn, how.turn + 1)) for _ in range(2))
    grow = rng.integers(-how.scale, how.scale + 1, 2)
    reach = how.shift * min(down, across)
    move = rng.integers(-reach, reach + 1, 2)
    y, x = np.meshgrid(2 * np.arange(down) - (down - 1), 2 * np.arange(across) - (across - 1), indexing="ij")
    source_y = ((_ONE + int(grow[0])) * y + turn * x) // 2 + int(move[0]) + _ONE * (down - 1) // 2
    source_x = ((_ONE + int(grow[1])) * x + (shear - turn) * y) // 2 + int(move[1]) + _ONE * (across - 1) // 2
    return np.clip(_bilinear(row, low, source_y, source_x), low, high)


def _bilinear(row: IntArray, outside: IntArray, y: IntArray, x: IntArray) -> IntArray:
    """Values of ``row`` at positions (rows, columns) in 1 / 256 of a pixel, rounded, halves upwards."""
    ground = int(outside.max())
    padded = np.pad(row, ((0, 0), (1, 1), (1, 1)), constant_values=np.int64(ground))
    y, x = (np.clip(at + _ONE, 0, _ONE * (side + 1)) for at, side in ((y, row.shape[1]), (x, row.shape[2])))
    top, left = np.minimum(y // _ONE, row.shape[1]), np.minimum(x // _ONE, row.shape[2])
    part_y, part_x = y - _ONE * top, x - _ONE * left
    total = np.zeros_like(row)
    for i, weight_y in ((0, _ONE - part_y), (1, part_y)):
        for k, weight_x in ((0, _ONE - part_x), (1, part_x)):
            total = total + weight_y * weight_x * padded[:, top + i, left + k]
    return (total + _ONE * _ONE // 2) // (_ONE * _ONE)


def _changed_series(
    row: IntArray, low: IntArray, high: IntArray, how: Augmentation, rng: np.random.Generator
) -> IntArray:
    """A copy of one set of series (channels, 1, samples): all shifted alike, each sample with noise of its own."""
    samples = row.shape[2]
    reach = how.shift * samples // _ONE
    at = np.clip(np.arange(samples) + int(rng.integers(-reach, reach + 1)), 0, samples - 1)
    most = np.maximum((high - low) * how.noise // _ONE, 0)
    return np.clip(row[:, :, at] + rng.integers(-most, most + 1), low, high)
