"""Decision rules: from the sums of the last layer to scores, a class and a margin.

Every rule offers, for ``sums`` of shape (rows, n):
    scores(sums)   what is reported a class, int64 (rows, number of scores)
    predict(sums)  class index, int64 (rows,); `unclassified` (= number of classes) where the rule says so
    margin(sums)   first minus second, int64 (rows,), never negative
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from math import comb
from typing import TypeAlias

import numpy as np

from mip2mcu.errors import ModelError
from mip2mcu.ranges import IntArray

CLASS_LIMIT = 1000
"""Most classes of a network."""


VOTE_STATUSES = (
    "most votes, right",
    "tie with a member of its own, right",
    "tie with a member of its own, which took another of the tied classes",
    "other tie, the true class among the tied",
    "other tie, the true class not among the tied",
    "tie with a member of its own, the true class not among the tied",
    "most votes, wrong",
)
"""How a vote can go, as BeMi counts it: 0, 1 right; 3, 4 unclassified under a strict vote; 2, 5, 6 wrong."""


def first_minus_second(scores: IntArray) -> IntArray:
    """Largest minus second largest entry of each row; 0 where there is only one."""
    if scores.shape[1] < 2:
        return np.zeros(len(scores), dtype=np.int64)
    top = np.partition(scores, -2, axis=1)
    return top[:, -1] - top[:, -2]


@dataclass(frozen=True)
class Argmax:
    """One sum a class; the largest wins, the lowest index wins ties."""

    classes: int

    def sums_expected(self) -> int:
        """Number of sums that the last layer must give."""
        return self.classes

    def scores(self, sums: IntArray) -> IntArray:
        """The sums themselves."""
        return sums

    def predict(self, sums: IntArray) -> IntArray:
        """Index of the largest sum."""
        return np.argmax(sums, axis=1)

    def margin(self, sums: IntArray) -> IntArray:
        """Largest minus second largest sum."""
        return first_minus_second(sums)


@dataclass(frozen=True)
class Sign:
    """Two classes, one sum s: s >= 0 is class 0; the score is s, the margin |s|."""

    classes: int = 2

    def __post_init__(self) -> None:
        if self.classes != 2:
            raise ModelError(f"the sign of one sum decides between 2 classes, not {self.classes}")

    def sums_expected(self) -> int:
        """One."""
        return 1

    def scores(self, sums: IntArray) -> IntArray:
        """The sum itself, (rows, 1)."""
        return sums

    def predict(self, sums: IntArray) -> IntArray:
        """0 where the sum is not negative, else 1."""
        return np.where(sums[:, 0] >= 0, np.int64(0), np.int64(1))

    def margin(self, sums: IntArray) -> IntArray:
        """Distance of the sum from zero."""
        return np.abs(sums[:, 0])


@dataclass(frozen=True)
class Vote:
    """VOTE(p): one member a p-subset of the classes, in lexicographic order; scores are the members' votes (BeMi).

    A member of a pair (a, b), a < b, has one sum: >= 0 votes for a, else for b. A member of p > 2 classes has p
    sums and votes for the largest, the first on ties. A unique maximum of votes wins; exactly p tied classes are
    decided by the member that they form. Any other tie is unclassified, or, with ``by_margin``, goes to the tied
    class with the largest strength, the lowest index on ties. The strength of a class adds, over its members, its
    sum minus the largest other sum of the member (for a pair: the signed sum).
    """

    classes: int
    subset_size: int = 2
    by_margin: bool = False

    def __post_init__(self) -> None:
        if not 2 <= self.subset_size <= self.classes:
            raise ModelError(f"a vote over subsets of {self.subset_size} of {self.classes} classes does not exist")

    @property
    def members(self) -> tuple[tuple[int, ...], ...]:
        """The classes of each member, in the order of the sums."""
        return tuple(combinations(range(self.classes), self.subset_size))

    @property
    def sums_per_member(self) -> int:
        """One for pairs, else one a class of the subset."""
        return 1 if self.subset_size == 2 else self.subset_size

    def sums_expected(self) -> int:
        """Sums of all members together."""
        return comb(self.classes, self.subset_size) * self.sums_per_member

    def _member_sums(self, sums: IntArray) -> IntArray:
        """(rows, members, p): a pair's sum s counts as (s, -s), except that s = 0 stays a vote for the first."""
        if self.subset_size == 2:
            return np.stack([sums, -sums], axis=2)
        return sums.reshape(len(sums), -1, self.subset_size)

    def _winners(self, sums: IntArray) -> IntArray:
        """(rows, members): the class that each member votes for."""
        chosen = np.argmax(self._member_sums(sums), axis=2)
        return np.array(self.members)[np.arange(chosen.shape[1]), chosen]

    def scores(self, sums: IntArray) -> IntArray:
        """Votes a class, (rows, classes)."""
        winners = self._winners(sums)
        return np.stack([(winners == c).sum(axis=1) for c in range(self.classes)], axis=1).astype(np.int64)

    def strengths(self, sums: IntArray) -> IntArray:
        """What breaks ties under ``by_margin``, (rows, classes)."""
        member_sums = self._member_sums(sums)
        strengths = np.zeros((len(sums), self.classes), dtype=np.int64)
        for m, member in enumerate(self.members):
            for position, c in enumerate(member):
                if self.subset_size == 2:
                    strengths[:, c] += member_sums[:, m, position]
                else:
                    others = np.delete(member_sums[:, m], position, axis=1)
                    strengths[:, c] += member_sums[:, m, position] - others.max(axis=1)
        return strengths

    def predict(self, sums: IntArray) -> IntArray:
        """Winner of the vote, or ``classes`` where it stays unclassified."""
        votes = self.scores(sums)
        tied = votes == votes.max(axis=1, keepdims=True)
        count = tied.sum(axis=1)
        result = np.where(count == 1, np.argmax(tied, axis=1), np.int64(self.classes))
        rows = np.flatnonzero(count == self.subset_size)
        if len(rows):
            masks = np.zeros((len(self.members), self.classes), dtype=np.int64)
            masks[np.arange(len(self.members))[:, None], np.array(self.members)] = 1
            own = np.argmax(tied[rows] @ masks.T, axis=1)
            result[rows] = self._winners(sums)[rows, own]
        rest = np.flatnonzero((count > 1) & (count != self.subset_size))
        if self.by_margin and len(rest):
            strengths = np.where(tied[rest], self.strengths(sums[rest]), np.iinfo(np.int64).min)
            result[rest] = np.argmax(strengths, axis=1)
        return result

    def statuses(self, sums: IntArray, labels: IntArray) -> IntArray:
        """How the vote went for rows of the true classes ``labels``: indices of `VOTE_STATUSES`, (rows,)."""
        votes = self.scores(sums)
        tied = votes == votes.max(axis=1, keepdims=True)
        count = tied.sum(axis=1)
        among = tied[np.arange(len(labels)), labels]
        right = self.predict(sums) == labels
        status = np.where(among, 3, 4)
        status = np.where(count == self.subset_size, np.where(right, 1, np.where(among, 2, 5)), status)
        return np.where(count == 1, np.where(right, 0, 6), status)

    def margin(self, sums: IntArray) -> IntArray:
        """Most votes minus second most."""
        return first_minus_second(self.scores(sums))


Decision: TypeAlias = Argmax | Sign | Vote
