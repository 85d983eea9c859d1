"""Ties, votes and margins by hand; tests/test_network.py compares every rule with a naive one."""

from __future__ import annotations

import numpy as np
import pytest

from mip2mcu.decisions import Argmax, Sign, Vote, first_minus_second
from mip2mcu.errors import ModelError


def one(values):
    return np.array([values])


# ---- argmax and sign -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sums", "winner", "margin"), [([1, 5, 3], 1, 2), ([4, 4, 4], 0, 0), ([0, 7, 7], 1, 0), ([-9, -8, -8], 1, 0)]
)
def test_the_largest_sum_wins_and_the_lowest_index_wins_ties(sums, winner, margin):
    rule = Argmax(3)
    assert rule.scores(one(sums)).tolist() == [sums]
    assert rule.predict(one(sums)).tolist() == [winner]
    assert rule.margin(one(sums)).tolist() == [margin]


def test_a_single_class_has_no_margin():
    assert Argmax(1).margin(one([7])).tolist() == [0]


def test_margins_of_sums_at_both_ends_of_32_bits_do_not_overflow():
    assert first_minus_second(one([2**31 - 1, -(2**31)])).tolist() == [2**32 - 1]


@pytest.mark.parametrize(("total", "winner"), [(0, 0), (-1, 1), (1, 0), (-(2**31), 1)])
def test_a_sum_of_zero_is_class_zero(total, winner):
    assert Sign().predict(one([total])).tolist() == [winner]
    assert Sign().scores(one([total])).tolist() == [[total]]
    assert Sign().margin(one([total])).tolist() == [abs(total)]


def test_the_sign_decides_between_two_classes_only():
    with pytest.raises(ModelError, match="between 2 classes, not 3"):
        Sign(3)


# ---- votes of pairs ------------------------------------------------------------------------------------------------


def test_members_of_pairs_are_in_lexicographic_order():
    assert Vote(4).members == ((0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3))
    assert Vote(4).sums_expected() == 6


def test_a_sum_of_zero_votes_for_the_first_of_its_pair():
    assert Vote(2).scores(one([0])).tolist() == [[1, 0]]
    assert Vote(2).scores(one([-1])).tolist() == [[0, 1]]


def test_a_unique_maximum_of_votes_wins():
    # 0 beats 1, 2 beats 0, 2 beats 1
    assert Vote(3).scores(one([5, -1, -1])).tolist() == [[1, 0, 2]]
    assert Vote(3).predict(one([5, -1, -1])).tolist() == [2]
    assert Vote(3).margin(one([5, -1, -1])).tolist() == [1]


def test_two_tied_classes_are_decided_by_their_own_pair():
    # votes: 0 beats 1 and 2; 3 beats 0; 1 beats 3; 2 beats 1; 3 beats 2 -> 0 and 3 have two votes each; 3 beats 0
    sums = {(0, 1): 1, (0, 2): 1, (0, 3): -1, (1, 2): -1, (1, 3): 1, (2, 3): -1}
    row = one([sums[pair] for pair in Vote(4).members])
    assert Vote(4).scores(row).tolist() == [[2, 1, 1, 2]]
    assert Vote(4).predict(row).tolist() == [3]
    assert Vote(4).margin(row).tolist() == [0]


def test_three_tied_classes_stay_unclassified():
    cycle = one([1, -1, 1])  # 0 beats 1, 2 beats 0, 1 beats 2
    assert Vote(3).scores(cycle).tolist() == [[1, 1, 1]]
    assert Vote(3).predict(cycle).tolist() == [3]


def test_by_margin_three_tied_classes_go_to_the_strongest():
    # strengths: 0: 5 - 1, 1: -5 + 2, 2: 1 - 2
    assert Vote(3, by_margin=True).strengths(one([5, -1, 2])).tolist() == [[4, -3, -1]]
    assert Vote(3, by_margin=True).predict(one([5, -1, 2])).tolist() == [0]
    assert Vote(3, by_margin=True).predict(one([1, -1, 9])).tolist() == [1]


def test_by_margin_the_lowest_index_wins_equal_strength():
    assert Vote(3, by_margin=True).predict(one([1, -1, 1])).tolist() == [0]


# ---- votes of larger subsets ---------------------------------------------------------------------------------------


def test_a_member_of_three_classes_has_three_sums_and_one_vote():
    rule = Vote(3, subset_size=3)
    assert rule.sums_expected() == 3
    assert rule.scores(one([1, 7, 7])).tolist() == [[0, 1, 0]]
    assert rule.predict(one([1, 7, 7])).tolist() == [1]


def test_three_tied_classes_are_decided_by_the_member_that_they_form():
    # members 012, 013, 023, 123; votes for 2, 0, 3, 3 make 3 the winner; votes for 1, 0, 2, 3 tie all four
    rule = Vote(4, subset_size=3)
    winner = one([0, 0, 1, 1, 0, 0, 0, 0, 1, 0, 0, 1])
    assert rule.scores(winner).tolist() == [[1, 0, 1, 2]]
    assert rule.predict(winner).tolist() == [3]
    four = one([0, 1, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1])
    assert rule.scores(four).tolist() == [[1, 1, 1, 1]]
    assert rule.predict(four).tolist() == [4]


def test_two_tied_classes_of_a_vote_of_three_stay_unclassified():
    # members 012, 013, 023, 123 vote 0, 0, 3, 3: two are tied, no member of three decides
    rule = Vote(4, subset_size=3)
    row = one([1, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 1])
    assert rule.scores(row).tolist() == [[2, 0, 0, 2]]
    assert rule.predict(row).tolist() == [4]
    assert Vote(4, 3, by_margin=True).predict(row).tolist() == [0]


def test_by_margin_a_class_that_is_not_tied_does_not_win():
    row = one([1, 0, 0, 1, 0, -100, -100, 0, 1, 0, 0, 1])
    rule = Vote(4, 3, by_margin=True)
    assert rule.scores(row).tolist() == [[2, 0, 0, 2]]
    assert rule.strengths(row).tolist() == [[-99, -3, -3, -99]]
    assert rule.predict(row).tolist() == [0]


def test_strength_of_three_is_the_sum_minus_the_largest_other():
    assert Vote(3, 3, by_margin=True).strengths(one([10, 4, 7])).tolist() == [[3, -6, -3]]


@pytest.mark.parametrize(("classes", "size"), [(3, 1), (3, 4), (1, 2), (0, 2)])
def test_subsets_that_do_not_exist(classes, size):
    with pytest.raises(ModelError, match=f"subsets of {size} of {classes} classes does not exist"):
        Vote(classes, size)
