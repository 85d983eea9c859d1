"""Weights as planes of bits, for the layouts that count where binary inputs agree with them.

A weight is its sign n (1: negative) and the bits m_b of its magnitude. With the input bit x, ``a = x ^ n`` is 1 where
input and sign agree, so that one count a magnitude bit is enough:

    inputs 0 and 1      sum = bias - sum_b 2**b * |n & m_b| +     sum_b 2**b * popcount(a & m_b)
    inputs -1 and +1    sum = bias - sum_b 2**b * |m_b|     + 2 * sum_b 2**b * popcount(a & m_b)

What stands before the counts is a constant, the unit's offset. Weights without a zero and of one magnitude bit need no
mask: ``a`` itself is counted, for the unused bits of the last word are 0 in inputs and signs alike.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mip2mcu.export.layouts.base import Binary
from mip2mcu.export.packing import split_planes
from mip2mcu.layers import Dense
from mip2mcu.ranges import BoolArray, IntArray


@dataclass(frozen=True)
class Planes:
    """A layer's weights as bits: ``sum = offset + 2**step * sum_b 2**b * popcount((x ^ negative) & masks[b])``.

    masks          (units, inputs) each, lowest bit first; none where every weight is -1 or +1
    counted        (units,): most that the sum over b can be
    column_high    most that one input adds to it
    """

    negative: IntArray
    masks: tuple[IntArray, ...]
    offset: IntArray
    step: int
    counted: IntArray
    column_high: int

    @property
    def interleaved(self) -> tuple[IntArray, ...]:
        """What a table holds for each word of inputs: the signs, then the masks."""
        return (self.negative, *self.masks)

    @property
    def count_high(self) -> int:
        """Most that any unit's count can be."""
        return int(self.counted.max())

    @property
    def loose_high(self) -> int:
        """Most that a sum can be by `count_high` alone, which static analysis knows; in int32_t where sums are."""
        high = (self.count_high << self.step) + max(0, int(self.offset.max()))
        return max(self.count_high << self.step, min(high, 2**31 - 1))

    @property
    def limits(self) -> IntArray:
        """(units,): the least count with ``offset + 2**step * count >= 0``, one more than `count_high` for none."""
        return np.clip(-(self.offset >> self.step), 0, self.count_high + 1)

    @property
    def sum_range(self) -> tuple[int, int]:
        """Smallest and largest sum."""
        return int(self.offset.min()), int((self.offset + (self.counted << self.step)).max())

    @property
    def kind(self) -> str:
        """ "binary", "ternary" or "planes"."""
        return {0: "binary", 1: "ternary"}.get(len(self.masks), "planes")

    @property
    def description(self) -> str:
        """For the comment above the layer's function."""
        if self.kind == "planes":
            return f"weights of {len(self.masks)} magnitude bits and a sign"
        return f"{self.kind} weights, {'two bits' if self.masks else 'one bit'} each"


def split(layer: Dense, binary: Binary | None) -> Planes:
    """The planes of ``layer`` behind inputs of the kind ``binary``."""
    negative, masks = split_planes(layer.weights)
    step = 1 if binary is Binary.MINUS_PLUS else 0
    magnitudes = np.abs(layer.weights)
    constant = magnitudes.sum(axis=1) if step else np.maximum(-layer.weights, 0).sum(axis=1)
    return Planes(
        negative=negative,
        masks=masks if len(masks) > 1 or not masks[0].all() else (),
        offset=layer.bias - constant,
        step=step,
        counted=magnitudes.sum(axis=1),
        column_high=max(1, int(magnitudes.max())),
    )


@dataclass(frozen=True)
class Windows:
    """Rows of words, without what is 0 at both ends of all of them.

    words    (units, length, planes): of each unit, the words from its first one on
    first    (units,): that word
    """

    words: IntArray
    first: IntArray

    @property
    def length(self) -> int:
        """Words a row."""
        return self.words.shape[1]

    @property
    def stride(self) -> int:
        """Planes."""
        return self.words.shape[2]


def windows(planes: Planes, bits: int) -> Windows:
    """The rows of ``planes`` in words of ``bits`` bits, each from where its weights begin; all as long as the longest.

    In block-diagonal layers, whose units read a few neighbouring inputs each, that is about as long as a block.
    """
    words = np.stack([_packed(plane, bits) for plane in planes.interleaved], axis=2)
    units, length = words.shape[:2]
    if not planes.masks:
        return Windows(words, np.zeros(units, dtype=np.int64))
    used: BoolArray = words[:, :, 1:].max(axis=2) > 0
    begin = np.argmax(used, axis=1)
    end = np.where(used.any(axis=1), length - np.argmax(used[:, ::-1], axis=1), 0)
    width = max(1, int((end - begin).max()))
    first = np.minimum(begin, length - width)
    return Windows(np.take_along_axis(words, (first[:, None] + np.arange(width))[:, :, None], axis=1), first)


def _packed(plane: IntArray, bits: int) -> IntArray:
    """Words (units, n) of ``plane`` (units, inputs): bit i % bits of word i // bits is input i."""
    packed = np.packbits(plane == 1, axis=1, bitorder="little")
    padded = np.pad(packed, ((0, 0), (0, -packed.shape[1] % (bits // 8))))
    return np.ascontiguousarray(padded).view(f"<u{bits // 8}").astype(np.int64)
