"""Integer matrices to the words of C tables, and back: every packer stands beside its inverse.

    pack_bits     / unpack_bits        bits to uint32 words, least significant first
    split_planes  / join_planes        signed weights to a plane of signs and planes of magnitudes
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from mip2mcu.ranges import IntArray

WordArray: TypeAlias = NDArray[np.uint32]

WORD_BITS = 32


def words_for(bits: int) -> int:
    """Number of 32-bit words that hold ``bits`` bits."""
    return -(-bits // WORD_BITS)


def pack_bits(bits: IntArray) -> WordArray:
    """Words (rows, words) of ``bits`` (rows, n) of 0 and 1: bit i % 32 of word i // 32 is column i, the rest is 0."""
    rows, count = bits.shape
    padded = np.zeros((rows, words_for(count) * WORD_BITS), dtype=np.uint32)
    padded[:, :count] = bits
    grouped = padded.reshape(rows, -1, WORD_BITS)
    return np.bitwise_or.reduce(grouped << np.arange(WORD_BITS, dtype=np.uint32), axis=2)


def unpack_bits(words: WordArray, count: int) -> IntArray:
    """The ``count`` leading bits (rows, count) of each row of ``words``."""
    bits = (words[:, :, None] >> np.arange(WORD_BITS, dtype=np.uint32)) & np.uint32(1)
    return bits.reshape(len(words), -1)[:, :count].astype(np.int64)


def split_planes(weights: IntArray) -> tuple[IntArray, tuple[IntArray, ...]]:
    """``(negative, masks)`` with ``weights = (1 - 2 * negative) * sum_b 2**b * masks[b]``; all of 0 and 1.

    There are as many masks as the largest magnitude has bits, at least one.
    """
    magnitude = np.abs(weights)
    count = max(1, int(magnitude.max()).bit_length())
    return (weights < 0).astype(np.int64), tuple((magnitude >> b) & 1 for b in range(count))


def join_planes(negative: IntArray, masks: tuple[IntArray, ...]) -> IntArray:
    """The weights whose planes are ``negative`` and ``masks``."""
    magnitude = sum((mask << b for b, mask in enumerate(masks)), np.zeros_like(negative))
    return (1 - 2 * negative) * magnitude
