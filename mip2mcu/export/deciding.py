"""The decision rule's part of a program: which partial prints it, and proof that its arithmetic fits int32_t."""

from __future__ import annotations

from dataclasses import dataclass

from mip2mcu.decisions import Argmax, Decision, Sign, Vote
from mip2mcu.errors import ExportError
from mip2mcu.ranges import INT32_MAX, IntArray


@dataclass(frozen=True)
class DecisionProgram:
    """Numbers of the partial ``templates/decisions/<partial>.c.j2``.

    scores          number of scores
    unclassified    the rule can return NAME_UNCLASSIFIED
    can_tie         several classes can have the most votes
    score_low/high  range of the scores
    strength_...    range of every partial strength, where ``by_margin`` breaks ties
    supports        partials of ``templates/support/`` that hold functions which this one calls
    """

    partial: str
    description: str
    scores: int
    unclassified: bool
    score_low: int
    score_high: int
    members: int = 0
    subset_size: int = 0
    can_tie: bool = False
    by_margin: bool = False
    strength_low: int = 0
    strength_high: int = 0
    supports: tuple[str, ...] = ()


def lower_decision(decision: Decision, low: IntArray, high: IntArray) -> DecisionProgram:
    """The program of ``decision`` over sums in [low, high]; raises `ExportError` where a difference leaves int32_t."""
    if isinstance(decision, Sign):
        _check("the margin", 0, max(abs(int(low[0])), abs(int(high[0]))))
        return DecisionProgram(
            "sign", "one sum: class 0 where it is not negative, else class 1", 1, False, int(low[0]), int(high[0])
        )
    if isinstance(decision, Argmax):
        single = decision.classes == 1
        if not single:
            _check("the difference of two scores", 0, int(high.max()) - int(low.min()))
        text = "one class only" if single else "one sum a class: the largest wins, the first of several largest"
        partial = "single" if single else "argmax"
        return DecisionProgram(partial, text, decision.classes, False, int(low.min()), int(high.max()))
    return _lower_vote(decision, low, high)


def _lower_vote(vote: Vote, low: IntArray, high: IntArray) -> DecisionProgram:
    can_tie = vote.subset_size < vote.classes
    by_margin = vote.by_margin and can_tie
    strength_low, strength_high = _strength_range(vote, low, high) if by_margin else (0, 0)
    ties = "other ties decided by margin" if vote.by_margin else "other ties unclassified"
    return DecisionProgram(
        partial="vote_pairs" if vote.subset_size == 2 else "vote_subsets",
        description=f"votes of {len(vote.members)} members, one a subset of {vote.subset_size} classes; {ties}",
        scores=vote.classes,
        unclassified=can_tie and not by_margin,
        score_low=0,
        score_high=len(vote.members),
        members=len(vote.members),
        subset_size=vote.subset_size,
        can_tie=can_tie,
        by_margin=by_margin,
        strength_low=strength_low,
        strength_high=strength_high,
        supports=("clear",),
    )


def _strength_range(vote: Vote, low: IntArray, high: IntArray) -> tuple[int, int]:
    """Range of every partial strength, members in their order; its single terms are checked on the way."""
    least, most = [0] * vote.classes, [0] * vote.classes
    ends = (0, 0)
    for m, member in enumerate(vote.members):
        for position, c in enumerate(member):
            term = _term_range(vote, m, position, low, high)
            _check("the strength of a member", *term)
            least[c] += term[0]
            most[c] += term[1]
            ends = (min(ends[0], least[c]), max(ends[1], most[c]))
    _check("the strength of a class", *ends)
    return ends


def _term_range(vote: Vote, m: int, position: int, low: IntArray, high: IntArray) -> tuple[int, int]:
    if vote.subset_size == 2:
        return (int(low[m]), int(high[m])) if position == 0 else (-int(high[m]), -int(low[m]))
    own = m * vote.subset_size
    others = [own + k for k in range(vote.subset_size) if k != position]
    return int(low[own + position] - high[others].max()), int(high[own + position] - low[others].max())


def _check(what: str, low: int, high: int) -> None:
    if low < -INT32_MAX or high > INT32_MAX:
        raise ExportError(
            f"{what} can reach {low}..{high}, beyond int32_t: train with smaller weights or narrow the inputs' ranges"
        )
