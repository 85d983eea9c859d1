"""Dense weights of 8 bits for cores that multiply two pairs of 16-bit values and add both products at once (SMLAD).

Two units share the words of a table. A half of a word holds ``a + 256 * b``, where a and b are their weights for one
input; the other half holds the same for the input two further on. Four inputs are read at once and spread over two
words of two halves, so that

    both  += (a + 256 * b) * x    for two inputs, with the table's word as it is
    first += a * x                for two inputs, with the low bytes of the word, sign-extended

and in the end ``b``'s sum is (both - first) / 256. All this is modulo 2**32, in which `first` and ``256 * b``'s sum are
exact as long as b's sum needs no more than 24 bits. Where it could need more, the difference is taken several times on
the way, each time over inputs too few for that.

The same file compiles for every core: without the instructions the same steps are plain C.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mip2mcu.export.layouts.base import Encoding, Kind, LayerContext, Lowered, Profile, sum_type
from mip2mcu.export.literals import Column, Table, column, tables_in, value_type, word_table
from mip2mcu.layers import Dense, Layer
from mip2mcu.ranges import IntArray, prefix_range, sum_range

WEIGHT_LIMIT = 127
"""Largest magnitude of a weight: with it, a + 256 * b fits 16 bits."""

_STEP_INPUTS = 4
"""Inputs that are read at once."""
_STEPS = 4
"""Steps in one turn of the loop, unless code shall be small."""
_DIFFERENCE_LIMIT = 2**23
"""Sums of this magnitude no longer fit 24 bits."""


@dataclass(frozen=True)
class DenseDspDetails:
    """Numbers of the partial ``dense_dsp``.

    pairs       of units; where the number of units is odd, the last has a partner of zeros
    rounds      between them the difference is taken; each has ``turns`` turns of ``steps`` steps of four inputs
    rest        steps behind the last round
    tail        inputs behind the last step
    signed      inputs can be negative
    """

    weights: Table
    bias: Column
    pairs: int
    rounds: int
    turns: int
    steps: int
    rest: int
    tail: int
    signed: bool


class DenseDspLayout:
    """Two units a pass, two products an instruction."""

    name = "dense_dsp"
    kind = Kind.DENSE
    summary = "one byte a weight, two units at once by SMLAD: cores with DSP instructions"

    def accepts(self, layer: Layer, context: LayerContext) -> str | None:
        """Takes dense layers with weights and inputs of 8 bits, on cores that have the instructions."""
        assert isinstance(layer, Dense)
        if not context.target.has_dsp:
            return "needs a core with DSP instructions"
        if layer.weights.shape[1] < _STEP_INPUTS:
            return f"takes layers of at least {_STEP_INPUTS} inputs, this one has {layer.weights.shape[1]}"
        limit = int(np.abs(layer.weights).max())
        if limit > WEIGHT_LIMIT:
            return f"takes weights from -{WEIGHT_LIMIT} to {WEIGHT_LIMIT}, these reach a magnitude of {limit}"
        if _input_type(context) not in ("uint8_t", "int8_t"):
            low, high = context.input_low.min(), context.input_high.max()
            return f"takes inputs of 8 bits, these lie in {low}..{high}"
        return None

    def lower(self, layer: Layer, context: LayerContext) -> Lowered:
        """The layer as words for pairs of units."""
        assert isinstance(layer, Dense)
        low, high = prefix_range(layer.weights, layer.bias, context.input_low, context.input_high)
        accumulator = sum_type(low, high, context)
        weights = layer.weights
        if layer.units % 2:
            weights = np.concatenate([weights, np.zeros_like(weights[:1])])
        details = _details(weights, layer.bias, context)
        return Lowered(
            layout=self.name,
            partial="dense_dsp",
            description="dense int8_t weights of two units in a half-word",
            reads=Encoding.VALUES,
            tables=(details.weights, *tables_in(details.bias)),
            details=details,
            sum_low=low,
            sum_high=high,
            sum_type=accumulator,
            supports=("settle", "signed_word", "dsp", "dsp_signed" if details.signed else "dsp_unsigned"),
            profile=_profile(layer.units, details),
        )


def _profile(units: int, details: DenseDspDetails) -> Profile:
    pairs = details.pairs
    turns = {
        "unit": units,
        "pair": pairs,
        "round": pairs * details.rounds if details.rounds > 1 else 0,
        "turn": pairs * details.rounds * details.turns,
        "rest": pairs * details.rest,
        "tail": pairs if details.tail else 0,
        "read": pairs * details.tail,
    }
    statements = {
        "round": int(details.rounds > 1),
        "turn": int(details.turns > 0),
        "rest": int(details.rest > 0),
        "tail": int(details.tail > 0),
        "read": details.tail,
    }
    return Profile(f"dense_dsp.{details.steps}", turns, statements)


def _details(weights: IntArray, bias: IntArray, context: LayerContext) -> DenseDspDetails:
    fours, tail = divmod(weights.shape[1], _STEP_INPUTS)
    steps = 1 if context.compact else _STEPS
    rounds, turns = _rounds(weights[1::2], steps, context)
    return DenseDspDetails(
        weights=word_table(
            f"{context.prefix}_weights",
            pair_words(weights),
            row=2 * (fours + (tail > 0)),
            comment=f"Layer {context.index}: the weights of two units, a + 256 * b in each half-word.",
        ),
        bias=column(f"{context.prefix}_bias", bias),
        pairs=len(weights) // 2,
        rounds=rounds,
        turns=turns,
        steps=steps,
        rest=fours - rounds * turns * steps,
        tail=tail,
        signed=_input_type(context) == "int8_t",
    )


def pair_words(weights: IntArray) -> np.ndarray:
    """The words (pairs, 2 * steps) for ``weights`` (2 * pairs, inputs): of each four inputs 0 and 2, then 1 and 3."""
    rows, inputs = weights.shape
    padded = np.zeros((rows, -(-inputs // _STEP_INPUTS) * _STEP_INPUTS), dtype=np.int64)
    padded[:, :inputs] = weights
    halves = (padded[0::2] + 256 * padded[1::2]) & 0xFFFF
    fours = halves.reshape(rows // 2, -1, _STEP_INPUTS)
    words = fours[:, :, :2] | fours[:, :, 2:] << 16
    return words.reshape(rows // 2, -1).astype(np.uint32)


def _rounds(weights: IntArray, steps: int, context: LayerContext) -> tuple[int, int]:
    """The number of rounds and of turns in each, as long as no sum over a round, or behind it, needs over 24 bits."""
    most = weights.shape[1] // (_STEP_INPUTS * steps)
    for parts in range(1, most + 1):
        turns = -(-most // parts)
        rounds = most // turns
        if _fit(weights, _shares(weights.shape[1], _STEP_INPUTS * steps * turns, rounds), context):
            return rounds, turns
    return 1, most


def _shares(inputs: int, length: int, rounds: int) -> list[slice]:
    """The inputs between two differences: those of each round and those behind; with one round all are taken as one."""
    if rounds == 1:
        return [slice(0, inputs)]
    return [*(slice(k * length, (k + 1) * length) for k in range(rounds)), slice(rounds * length, inputs)]


def _fit(weights: IntArray, shares: list[slice], context: LayerContext) -> bool:
    nothing = np.zeros(len(weights), dtype=np.int64)
    for share in shares:
        low, high = sum_range(weights[:, share], nothing, context.input_low[share], context.input_high[share])
        if low.min() < -_DIFFERENCE_LIMIT or high.max() >= _DIFFERENCE_LIMIT:
            return False
    return True


def _input_type(context: LayerContext) -> str | None:
    return value_type(int(context.input_low.min()), int(context.input_high.max()))
