from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mip2mcu.export.packing import join_planes, pack_bits, split_planes, unpack_bits, words_for

SHAPES = hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=70)


def test_bit_i_of_a_row_is_bit_i_modulo_32_of_word_i_over_32():
    bits = np.zeros((1, 40), dtype=np.int64)
    bits[0, [0, 31, 33]] = 1
    assert pack_bits(bits).tolist() == [[0x80000001, 0x00000002]]


def test_words_for_rounds_up():
    assert [words_for(n) for n in (1, 32, 33, 64)] == [1, 1, 2, 2]


def test_planes_of_three_bit_weights():
    negative, masks = split_planes(np.array([[5, -2, 0]]))
    assert negative.tolist() == [[0, 1, 0]]
    assert [mask.tolist() for mask in masks] == [[[1, 0, 0]], [[0, 1, 0]], [[1, 0, 0]]]


def test_zero_weights_have_one_empty_mask():
    negative, masks = split_planes(np.zeros((1, 2), dtype=np.int64))
    assert (negative.tolist(), [mask.tolist() for mask in masks]) == ([[0, 0]], [[[0, 0]]])


@given(hnp.arrays(np.int64, SHAPES, elements=st.integers(0, 1)))
def test_unpack_bits_inverts_pack_bits(bits):
    words = pack_bits(bits)
    assert words.dtype == np.uint32
    np.testing.assert_array_equal(unpack_bits(words, bits.shape[1]), bits)


@given(hnp.arrays(np.int64, SHAPES, elements=st.integers(-32767, 32767)))
def test_join_planes_inverts_split_planes(weights):
    np.testing.assert_array_equal(join_planes(*split_planes(weights)), weights)
