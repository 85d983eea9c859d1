"""Programs that the cost model is fitted to: random networks in all layouts, measured on every core.

Networks have 8 to 784 inputs of all kinds, one or two dense layers, every kind of weights and density; some are small
CNNs, some vote, some quantise. For each network those layouts are taken whose code has the fewest samples so far.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np

from benchmarks.measure import Figures, Subject, measure, model_subject
from mip2mcu.decisions import Argmax, Sign, Vote
from mip2mcu.export import Export, generate
from mip2mcu.export.costs import Item, decision_item, layer_item, pack_item, quantizer_items
from mip2mcu.export.layouts import Encoding
from mip2mcu.export.options import ExportOptions
from mip2mcu.export.planner import Candidate, Task, epilogue_kind, survey
from mip2mcu.export.program import tasks_of
from mip2mcu.export.scratch import Home
from mip2mcu.export.targets import Target
from mip2mcu.layers import Activation, AveragePool, Conv2d, Dense, MaxPool, Requantisation
from mip2mcu.network import Network
from mip2mcu.quantizer import Feature, OneHot, Quantizer, Thermometer, fit_affine

INPUTS = (8, 16, 24, 40, 64, 100, 200, 400, 784)
UNITS = (4, 10, 16, 33)
RANGES = ((0, 255), (0, 255), (0, 1), (0, 1), (-128, 127), (-1000, 1000))
VALUES = {"binary": (-1, 1), "ternary": (-1, 1), "three": range(-3, 4), "few": range(-7, 8), "many": range(-127, 128)}
DENSITIES = (1.0, 0.5, 0.25, 0.1, 0.05)
ROWS = 2
UNROLLED_WEIGHTS = 2500
"""Straight-line code for more weights is not measured: compilers need minutes for it."""


LEAST_INSTRUCTIONS, LEAST_CODE = 400, 200
"""Of smaller functions, errors count less."""


@dataclass(frozen=True)
class Sample:
    """Measured code: a layer, packing, quantising, or what is left of a program without these.

    of_instructions, of_code    what errors are relative to: the figures, of the whole program for what is left of it;
                                at least `LEAST_INSTRUCTIONS`, `LEAST_CODE`
    """

    items: tuple[Item, ...]
    instructions: int
    code: int
    stack: int
    of_instructions: int
    of_code: int


def random_weights(rng: np.random.Generator, shape: tuple[int, ...], kind: str, density: float) -> np.ndarray:
    """Weights of a kind, exactly that share of them not 0."""
    values = [value for value in VALUES[kind] if value]
    chosen = rng.choice(values, shape)
    if kind == "binary":
        return chosen
    flat = np.zeros(chosen.size, dtype=np.int64)
    used = rng.permutation(chosen.size)[: max(1, round(density * chosen.size))]
    flat[used] = chosen.reshape(-1)[used]
    return flat.reshape(shape)


def balanced_bias(rng: np.random.Generator, weights: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """A bias that makes either sign of a sum about equally likely."""
    middle = -(weights @ (low + high)) // 2
    return middle + rng.integers(-20, 21, len(weights))


def relu_scale(layer: Dense, low: np.ndarray, high: np.ndarray) -> Requantisation:
    """Maps the range of the layer's sums to 0..255, the same way for all units."""
    top = max(1, int(layer.sum_range(low, high)[1].max()))
    pre = max(0, top.bit_length() - 16)
    shift = 16
    mult = min(32767, max(1, (255 << shift) // max(1, top >> pre)))
    units = layer.units
    return Requantisation(np.full(units, pre), np.full(units, mult), np.full(units, shift))


def hidden_layer(
    rng: np.random.Generator, weights: np.ndarray, low: np.ndarray, high: np.ndarray, activation: Activation
) -> Dense:
    """A layer with ``activation`` and a balanced bias."""
    bias = balanced_bias(rng, weights, low, high)
    if activation is Activation.SIGN:
        return Dense(weights, bias, activation)
    return Dense(weights, bias, activation, relu_scale(Dense(weights, bias), low, high))


def dense_network(seed: int) -> Network:
    """One or two dense layers behind inputs of some kind."""
    rng = np.random.default_rng([seed, 1])
    inputs = int(rng.choice(INPUTS))
    least, most = RANGES[seed % len(RANGES)]
    low, high = np.full(inputs, least), np.full(inputs, most)
    kind = list(VALUES)[seed // len(RANGES) % len(VALUES)]
    density = float(rng.choice(DENSITIES))
    layers, ends = [], (low, high)
    if rng.integers(0, 5):
        weights = random_weights(rng, (int(rng.choice(UNITS)), inputs), kind, density)
        activation = Activation.RELU if rng.integers(0, 3) == 0 else Activation.SIGN
        layers.append(hidden_layer(rng, weights, *ends, activation))
        ends = layers[-1].output_range(*ends)
        kind = kind if rng.integers(0, 2) else str(rng.choice(list(VALUES)))
    weights = random_weights(rng, (int(rng.choice([2, 3, 10])), len(ends[0])), kind, density)
    layers.append(Dense(weights, balanced_bias(rng, weights, *ends)))
    return _decided(low, high, layers, Argmax(len(weights)))


def usual_network(seed: int) -> Network:
    """A hidden layer of 16 units behind some 64 or 784 inputs, and ten classes."""
    rng = np.random.default_rng([seed, 6])
    inputs = int(rng.choice([60, 64, 72, 760, 784, 800]))
    low, high = np.zeros(inputs, dtype=int), np.full(inputs, (255, 1)[seed % 2])
    kind = ("ternary", "few", "many")[seed // 2 % 3]
    density = (1.0, 0.5, 0.25, 0.1)[seed // 6 % 4]
    activation = Activation.RELU if kind == "many" else Activation.SIGN
    hidden = hidden_layer(rng, random_weights(rng, (16, inputs), kind, density), low, high, activation)
    last = Dense(random_weights(rng, (10, 16), kind, density), rng.integers(-9, 10, 10))
    return _decided(low, high, (hidden, last), Argmax(10))


def conv_network(seed: int) -> Network:
    """A convolution with or without a pool, and a dense layer behind it."""
    rng = np.random.default_rng([seed, 2])
    side, channels, kernel, maps = (int(rng.choice(s)) for s in ((8, 12, 16), (1, 2), (1, 3, 5), (2, 4, 6)))
    weights = random_weights(rng, (maps, channels, kernel, kernel), "many", 1.0)
    scale = Requantisation(np.full(maps, 6), np.full(maps, 500), np.full(maps, 12))
    layers = [Conv2d(weights, rng.integers(-99, 99, maps), activation=Activation.RELU, requantisation=scale)]
    pool = rng.integers(0, 4)
    window = (2, 2)
    if pool:
        stride = (2, 2) if pool < 3 else (1, 1)
        layers.append((MaxPool if rng.integers(0, 2) else AveragePool)(window, stride))
    low, high = np.zeros(side * side * channels, dtype=int), np.full(side * side * channels, 255)
    shape = (channels, side, side)
    for layer in layers:
        shape = layer.output_shape(shape)
    size = int(np.prod(shape))
    layers.append(Dense(random_weights(rng, (4, size), "ternary", 0.1), np.zeros(4)))
    return _decided(low, high, layers, Argmax(4), (channels, side, side))


def deciding_network(seed: int) -> Network:
    """One small layer and any decision rule, apart from that of a single class, which computes nothing."""
    rng = np.random.default_rng([seed, 3])
    classes = int(rng.integers(3, 9))
    rules = [Sign(), Vote(classes, 2), Vote(classes, 2, True), Vote(classes, 3), Vote(classes, 3, True)]
    rule = rules[seed % len(rules)]
    weights = random_weights(rng, (rule.sums_expected(), 24), "ternary", 0.25)
    return _decided(np.zeros(24, dtype=int), np.full(24, 255), [Dense(weights, np.zeros(len(weights)))], rule)


def quantizing_network(seed: int) -> Network:
    """One small layer behind a quantizer with one to three kinds of features."""
    rng = np.random.default_rng([seed, 4])
    kinds = [
        Feature("a", fit_affine(-300, 900), 0, 1, "int16_t"),
        Feature("t", Thermometer(0, 500, (90, 200, 333)), 0, 0, "int16_t"),
        Feature("o", OneHot(("x", "y", "z")), 3, 0, "int16_t"),
    ]
    chosen = [feature for k, feature in enumerate(kinds) if (seed + 1) >> k & 1] or kinds
    quantizer = Quantizer(tuple(chosen))
    weights = random_weights(rng, (3, quantizer.width), "ternary", 0.5)
    layers = [Dense(weights, np.zeros(3))]
    high = quantizer.input_high
    return Network(np.zeros_like(high), high, tuple(layers), Argmax(3), ("a", "b", "c"), quantizer=quantizer)


def _decided(low, high, layers, rule, shape=()) -> Network:
    classes = tuple(f"c{c}" for c in range(rule.classes))
    return Network(low, high, tuple(layers), rule, classes, input_shape=shape)


# ---- which programs ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Combination:
    """Layouts of all layers, as an option names them, and the keys of their items."""

    layouts: str
    keys: tuple[str, ...]


def combinations(network: Network, target: Target, rng: np.random.Generator, most: int = 60) -> list[Combination]:
    """Some of the combinations of layouts that ``network`` can have."""
    tasks = tasks_of(network, target, ExportOptions())
    surveyed = []
    for task in tasks:
        few = np.count_nonzero(getattr(task.layer, "weights", 0)) <= UNROLLED_WEIGHTS
        found = [c for c in survey(task, ExportOptions()) if c.lowered is not None and (few or c.layout != "unrolled")]
        surveyed.append(found)
    chains = list(product(*surveyed))
    chosen = [chains[k] for k in rng.permutation(len(chains))[:most]]
    return [_combination(network, tasks, chain) for chain in chosen]


def _combination(network: Network, tasks: list[Task], chain: tuple[Candidate, ...]) -> Combination:
    names = ["auto"] * len(network.layers)
    keys = []
    written = [*(c.lowered.reads for c in chain[1:]), Encoding.VALUES]
    for task, candidate, encoding in zip(tasks, chain, written, strict=True):
        names[task.context.index] = f"{candidate.layout}/{'compact' if candidate.compact else 'fast'}"
        epilogue = epilogue_kind(task.layer, encoding)
        item = layer_item(candidate.lowered, epilogue, task.input_type(candidate.lowered.reads), task.context.target)
        keys.append(f"{item.key} {epilogue}")
    return Combination(",".join(names), tuple(keys))


def sampled(target: Target, networks: Iterable[Network], wanted: int, each: int) -> Iterator[tuple[Network, str]]:
    """Networks with layouts of their layers, at most ``each`` of one, until every key was seen ``wanted`` times."""
    seen: Counter[str] = Counter()
    for number, network in enumerate(networks):
        found = combinations(network, target, np.random.default_rng(number))
        for _ in range(each):
            found = [entry for entry in found if min(seen[key] for key in entry.keys) < wanted]
            if not found:
                break
            best = min(found, key=lambda entry: sorted(seen[key] for key in entry.keys))
            found.remove(best)
            seen.update(best.keys)
            yield network, best.layouts


def measured(
    target: Target, *, networks: int, wanted: int = 2, each: int = 2, known: Path | None = None
) -> list[Sample]:
    """Samples of ``target`` out of so many dense networks, and some of every other kind; ``known`` as for `measure`."""
    kinds = {
        usual_network: networks,
        dense_network: networks,
        conv_network: networks // 10,
        deciding_network: 10,
        quantizing_network: 7,
    }
    every = (make(seed) for make, count in kinds.items() for seed in range(count))
    exports, jobs = [], []
    for number, (network, layouts) in enumerate(sampled(target, every, wanted, each)):
        rng = np.random.default_rng([number, 5])
        rows = rng.integers(network.input_low, network.input_high + 1, (ROWS, network.inputs))
        export = generate(network, target, f"m{number}", options=ExportOptions(layout=layouts))
        exports.append(export)
        jobs.append((target, _apart(model_subject(export, network, rows), len(export.program.layers))))
    figures = measure(jobs, known=known)
    return [sample for export, taken in zip(exports, figures, strict=True) for sample in _samples(export, taken)]


def _apart(subject: Subject, layers: int) -> Subject:
    """``subject`` with a function of its own for each layer, which is counted too."""
    name = subject.name
    text = re.sub(r"\blayer(\d+)_", rf"{name}_layer\1_", subject.files[f"{name}.c"])
    heads = rf"static (?:NOT_INLINED )?void ({name}_layer\d+_apply)\("
    functions = tuple(re.findall(heads, text))
    assert len(functions) == layers
    text = re.sub(heads, r"static __attribute__((noinline, noclone)) void \1(", text)
    files = {**subject.files, f"{name}.c": text}
    return replace(subject, files=files, inner=functions, sized=(*subject.linked, *functions))


def _samples(export: Export, taken: Figures) -> list[Sample]:
    program, target = export.program, export.target
    samples = []
    for layer in program.layers:
        function = f"layer{layer.index}_apply"
        item = layer_item(layer.lowered, layer.epilogue.kind, layer.input.c_type, target)
        figures = taken.instructions[function], taken.code[function], taken.stacks[function]
        samples.append(_of_itself((item,), *figures))
    left = taken.instructions["predict"] - sum(sample.instructions for sample in samples)
    code = taken.code["predict"] - sum(sample.code for sample in samples)
    held = 4 * (program.sums + (program.decision.scores if program.decision.members else 0))
    held += program.scratch.bytes if program.scratch.home is Home.STACK else 0
    stack = taken.stacks["predict"] - max(sample.stack for sample in samples) - held
    item = decision_item(program.decision, len(program.layers))
    rest = _of_itself((item,), taken.instructions["predict"], taken.code["predict"], max(stack, 0))
    samples.append(replace(rest, instructions=left, code=code))
    if program.quantizer is not None:
        samples.append(_of_itself(quantizer_items(program.quantizer), 0, taken.code["quantize"], 0))
    elif program.packed:
        packing = pack_item(program.input.elements)
        samples.append(_of_itself((packing,), taken.instructions["pack"], taken.code["pack"], taken.stacks["pack"]))
    return samples


def _of_itself(items: tuple[Item, ...], instructions: int, code: int, stack: int) -> Sample:
    return Sample(items, instructions, code, stack, max(instructions, LEAST_INSTRUCTIONS), max(code, LEAST_CODE))

