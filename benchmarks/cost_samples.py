"""Programs that the cost model is fitted to: random networks in all layouts, measured on every core.

    covering     every kind of code, in networks of 8 to 784 inputs of all kinds with every kind of weights and density;
                 some are small CNNs, some vote, some quantise
    promising    usual networks in the layouts that a first fit takes for the fastest: where the planner chooses
                 between them, predictions must be good

What was measured is kept by case, so that a run which was stopped goes on where it was.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from math import prod
from pathlib import Path

import numpy as np

from benchmarks.measure import Subject, measure, model_subject
from mip2mcu.decisions import Argmax, Sign, Vote
from mip2mcu.export import generate
from mip2mcu.export.cost_table import Entry
from mip2mcu.export.costs import Item, decision_item, layer_item, pack_item, quantizer_items, taken_by
from mip2mcu.export.layouts import Encoding
from mip2mcu.export.options import ExportOptions
from mip2mcu.export.planner import Candidate, Task, epilogue_kind, survey
from mip2mcu.export.program import Program, lower, tasks_of
from mip2mcu.export.scratch import Home
from mip2mcu.export.targets import Target
from mip2mcu.filters import Edges, Smooth
from mip2mcu.layers import Activation, AveragePool, Conv2d, Dense, MaxPool, Requantisation, SumPool
from mip2mcu.network import Network
from mip2mcu.quantizer import Feature, OneHot, Quantizer, Thermometer, fit_affine

INPUTS = (8, 16, 24, 40, 64, 100, 200, 400, 784)
UNITS = (4, 10, 16, 33)
RANGES = ((0, 255), (0, 255), (0, 1), (0, 1), (-128, 127), (-1000, 1000))
VALUES = {"binary": (-1, 1), "ternary": (-1, 1), "three": range(-3, 4), "few": range(-7, 8), "many": range(-127, 128)}
DENSITIES = (1.0, 0.5, 0.25, 0.1, 0.05)
USUAL = 48
"""Kinds of usual networks."""
LONG = 256
"""Layers with as many inputs are covered by themselves."""
EACH = 2
"""Programs of one network, at most."""
FASTEST = 2
"""Promising programs of every usual network."""
UNROLLED_WEIGHTS = 3300
"""Straight-line code for more weights is not measured: compilers need minutes for it."""
TOGETHER = 16
"""Programs that are measured before they are kept."""


LEAST_INSTRUCTIONS, LEAST_CODE = 400, 200
"""Of smaller functions, errors count less."""


@dataclass(frozen=True)
class Case:
    """A program: the network that ``MAKERS[network]`` makes of ``seed``, in ``layouts`` as an option names them."""

    network: str
    seed: int
    layouts: str

    def make(self) -> Network:
        """The network."""
        return MAKERS[self.network](self.seed)


@dataclass(frozen=True)
class Taken:
    """What each function of a program takes, by name: instructions, bytes of code, bytes of stack."""

    instructions: Mapping[str, int]
    code: Mapping[str, int]
    stacks: Mapping[str, int]


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
    """A hidden layer of 16 units behind 784 or 64 inputs, and ten classes; `USUAL` seeds differ in kind."""
    rng = np.random.default_rng([seed, 6])
    inputs = (784, 64)[seed % 2]
    low, high = np.zeros(inputs, dtype=int), np.full(inputs, (255, 1)[seed // 2 % 2])
    kind = ("ternary", "few", "many")[seed // 4 % 3]
    density = (1.0, 0.5, 0.25, 0.1)[seed // 12 % 4]
    activation = Activation.RELU if kind == "many" else Activation.SIGN
    hidden = hidden_layer(rng, random_weights(rng, (16, inputs), kind, density), low, high, activation)
    last = Dense(random_weights(rng, (10, 16), kind, density), rng.integers(-9, 10, 10))
    return _decided(low, high, (hidden, last), Argmax(10))


def conv_network(seed: int) -> Network:
    """A convolution with or without a pool, and a dense layer behind it."""
    rng = np.random.default_rng([seed, 2])
    channels = (1, 1, 2, 6)[seed % 4]
    side = int(rng.choice([12, 16, 20] if channels == 1 else [8, 12, 14]))
    kernel = 1 if seed % 8 == 7 else int(rng.choice([3, 5]))
    maps = int(rng.choice([4, 6, 8]))
    weights = random_weights(rng, (maps, channels, kernel, kernel), "many", 1.0)
    scale = Requantisation(np.full(maps, 6), np.full(maps, 500), np.full(maps, 12))
    layers = [Conv2d(weights, rng.integers(-99, 99, maps), activation=Activation.RELU, requantisation=scale)]
    pool = 1 + seed // 4 % 3 if seed % 5 else 0
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


STAGES = (
    Smooth(), Edges(2, 1), Edges(4, 2), MaxPool((2, 2), (2, 2)), AveragePool((2, 2), (2, 2)), SumPool((2, 2), (2, 2)),
    MaxPool((3, 3), (2, 2)), AveragePool((3, 3), (1, 1)), SumPool((3, 3), (1, 1)), SumPool((1, 3), (1, 2)),
)  # fmt: skip


def staged_network(seed: int) -> Network:
    """A filter or a pool on the inputs, images or, for some, series, and a small layer behind it."""
    rng = np.random.default_rng([seed, 7])
    stage = STAGES[seed % len(STAGES)]
    series = seed // len(STAGES) == 2 and isinstance(stage, Smooth | Edges)
    shape = (3, 1, 48) if series else ((1, 16, 16), (1, 28, 28), (2, 12, 12))[seed // len(STAGES)]
    size = int(np.prod(stage.output_shape(shape)))
    layers = [stage, Dense(random_weights(rng, (4, size), "ternary", 0.1), np.zeros(4))]
    inputs = int(np.prod(shape))
    return _decided(np.zeros(inputs, dtype=int), np.full(inputs, 255), layers, Argmax(4), shape)


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


MAKERS: Mapping[str, Callable[[int], Network]] = {
    "usual": usual_network,
    "dense": dense_network,
    "conv": conv_network,
    "staged": staged_network,
    "deciding": deciding_network,
    "quantizing": quantizing_network,
}
COVERING = {"usual": USUAL, "dense": 60, "conv": 24, "staged": 16, "deciding": 10, "quantizing": 7}
"""Networks of each kind among which those for `covering` are chosen."""


# ---- which programs ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Combination:
    """Layouts of all layers, as an option names them, and the kinds of code that they are."""

    layouts: str
    keys: tuple[str, ...]


def combinations(network: Network, target: Target, rng: np.random.Generator, most: int = 60) -> list[Combination]:
    """Some of the combinations of layouts that ``network`` can have."""
    tasks, surveyed = _surveyed(network, target)
    chains = list(product(*surveyed))
    chosen = [chains[k] for k in rng.permutation(len(chains))[:most]]
    return [_combination(network, tasks, chain) for chain in chosen]


def _surveyed(network: Network, target: Target) -> tuple[list[Task], list[list[Candidate]]]:
    """The layers, and what each of them can be."""
    tasks = tasks_of(network, target, ExportOptions())
    surveyed = []
    for task in tasks:
        few = np.count_nonzero(getattr(task.layer, "weights", 0)) <= UNROLLED_WEIGHTS
        found = [c for c in survey(task, ExportOptions()) if c.lowered is not None and (few or c.layout != "unrolled")]
        surveyed.append(found)
    return tasks, surveyed


def _items(tasks: Sequence[Task], chain: Sequence[Candidate]) -> list[tuple[Item, str]]:
    """Of each layer its item, and what becomes of its sums."""
    found = []
    written = [*(c.lowered.reads for c in chain[1:]), Encoding.VALUES]
    for task, candidate, encoding in zip(tasks, chain, written, strict=True):
        epilogue = epilogue_kind(task.layer, encoding)
        input_type = task.input_type(candidate.lowered.reads)
        found.append((layer_item(candidate.lowered, epilogue, input_type, task.context.target), epilogue))
    return found


def _named(network: Network, tasks: Sequence[Task], chain: Sequence[Candidate]) -> str:
    """The layouts of ``chain`` as an option names them."""
    names = ["auto"] * len(network.layers)
    for task, candidate in zip(tasks, chain, strict=True):
        names[task.context.index] = f"{candidate.layout}/{'compact' if candidate.compact else 'fast'}"
    return ",".join(names)


def _combination(network: Network, tasks: Sequence[Task], chain: Sequence[Candidate]) -> Combination:
    keys = []
    for task, (item, epilogue) in zip(tasks, _items(tasks, chain), strict=True):
        is_long = prod(task.context.input_shape) >= LONG
        keys += [f"{item.key} {epilogue}", f"{item.key} {'long' if is_long else 'short'}"]
    return Combination(_named(network, tasks, chain), tuple(keys))


def covering(target: Target, networks: Mapping[str, int] = COVERING) -> Iterator[Case]:
    """Of dense networks, those that show a kind of code for the first time, at most `EACH` of one; and all others.

    Convolutions are shown in every layout.
    """
    seen: Counter[str] = Counter()
    for number, (kind, seed) in enumerate((kind, seed) for kind, count in networks.items() for seed in range(count)):
        network = MAKERS[kind](seed)
        found = combinations(network, target, np.random.default_rng(number))
        if kind == "conv":
            firsts = {entry.layouts.partition(",")[0]: entry.layouts for entry in reversed(found)}
            yield from (Case(kind, seed, firsts[name]) for name in sorted(firsts))
            continue
        if kind not in ("usual", "dense"):
            yield Case(kind, seed, found[0].layouts)
            continue
        for _ in range(EACH):
            found = [entry for entry in found if not all(seen[key] for key in entry.keys)]
            if not found:
                break
            best = max(found, key=lambda entry: sum(not seen[key] for key in entry.keys) / len(entry.keys))
            found.remove(best)
            seen.update(best.keys)
            yield Case(kind, seed, best.layouts)


def promising(target: Target, table: Mapping[str, Entry], count: int = USUAL) -> Iterator[Case]:
    """Usual networks in layouts that ``table`` takes for the fastest, the first layer in `FASTEST` different ones."""
    for seed in range(USUAL, USUAL + count):
        network = usual_network(seed)
        tasks, surveyed = _surveyed(network, target)
        chains = sorted(product(*surveyed), key=lambda chain: _predicted(network, tasks, chain, table))
        firsts: set[str] = set()
        for chain in chains:
            if len(firsts) < FASTEST and chain[0].title not in firsts:
                firsts.add(chain[0].title)
                yield Case("usual", seed, _named(network, tasks, chain))


def _predicted(
    network: Network, tasks: Sequence[Task], chain: Sequence[Candidate], table: Mapping[str, Entry]
) -> float:
    """Instructions of a network in the layouts ``chain``, without what all chains take."""
    items = [item for item, _ in _items(tasks, chain)]
    if chain[0].lowered.reads is Encoding.BITS:
        items.append(pack_item(network.inputs))
    costs = [taken_by(item, table) for item in items]
    return sum(float("inf") if cost is None else cost.instructions for cost in costs)


# ---- measuring -----------------------------------------------------------------------------------------------------


def measured(target: Target, cases: Iterable[Case], kept: Path, workers: int | None = None) -> dict[Case, Taken]:
    """What each of ``cases`` takes on ``target``: what the file ``kept`` holds is not measured again."""
    wanted = list(dict.fromkeys(cases))
    known = read_kept(kept).get(target.name, {})
    missing = [case for case in wanted if case not in known]
    for start in range(0, len(missing), TOGETHER):
        batch = missing[start : start + TOGETHER]
        jobs = [(target, _subject(case, target, f"m{k}")) for k, case in enumerate(batch)]
        found = [
            Taken(figures.instructions, figures.code, figures.stacks) for figures in measure(jobs, workers=workers)
        ]
        with kept.open("a", encoding="utf-8") as stream:
            for case, taken in zip(batch, found, strict=True):
                stream.write(json.dumps([target.name, asdict(case), asdict(taken)]) + "\n")
        known |= dict(zip(batch, found, strict=True))
        print(f"  {target.name}: {start + len(batch)} of {len(missing)} programs", flush=True)
    return {case: known[case] for case in wanted}


def read_kept(file: Path) -> dict[str, dict[Case, Taken]]:
    """What ``file`` holds, by target."""
    found: dict[str, dict[Case, Taken]] = {}
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    for target, case, taken in map(json.loads, lines):
        found.setdefault(target, {})[Case(**case)] = Taken(**taken)
    return found


def _subject(case: Case, target: Target, name: str) -> Subject:
    """The program of ``case``, with a function of its own for each layer, which is counted too."""
    network = case.make()
    rng = np.random.default_rng([case.seed, 5])
    row = rng.integers(network.input_low, network.input_high + 1, (1, network.inputs))
    export = generate(network, target, name, options=ExportOptions(layout=case.layouts))
    subject = model_subject(export, network, row)
    text = re.sub(r"\blayer(\d+)_", rf"{name}_layer\1_", subject.files[f"{name}.c"])
    heads = rf"static (?:NOT_INLINED )?void ({name}_layer\d+_apply)\("
    functions = tuple(re.findall(heads, text))
    assert len(functions) == len(export.program.layers)
    text = re.sub(heads, r"static __attribute__((noinline, noclone)) void \1(", text)
    files = {**subject.files, f"{name}.c": text}
    counted = tuple(function for function in subject.counted if function != f"{name}_sums")
    return replace(subject, files=files, counted=counted, inner=functions, sized=(*subject.linked, *functions))


# ---- samples -------------------------------------------------------------------------------------------------------


def samples_of(case: Case, target: Target, taken: Taken) -> list[Sample]:
    """The functions of ``case``, with their items as today's layouts tell them."""
    program = lower(case.make(), target, "m", ExportOptions(layout=case.layouts))
    samples = []
    for layer in program.layers:
        function = f"layer{layer.index}_apply"
        item = layer_item(layer.lowered, layer.epilogue.kind, layer.input.c_type, target)
        figures = taken.instructions[function], taken.code[function], taken.stacks[function]
        samples.append(_of_itself((item,), *figures))
    samples.append(_rest(program, samples, taken))
    if program.quantizer is not None:
        samples.append(_of_itself(quantizer_items(program.quantizer), 0, taken.code["quantize"], 0))
    elif program.packed:
        packing = pack_item(program.input.elements)
        samples.append(_of_itself((packing,), taken.instructions["pack"], taken.code["pack"], taken.stacks["pack"]))
    return samples


def _rest(program: Program, layers: Sequence[Sample], taken: Taken) -> Sample:
    """What `predict` takes beside the ``layers``."""
    left = taken.instructions["predict"] - sum(sample.instructions for sample in layers)
    code = taken.code["predict"] - sum(sample.code for sample in layers)
    held = 4 * (program.sums + (program.decision.scores if program.decision.members else 0))
    held += program.scratch.bytes if program.scratch.home is Home.STACK else 0
    stack = taken.stacks["predict"] - max(sample.stack for sample in layers) - held
    item = decision_item(program.decision, len(program.layers))
    rest = _of_itself((item,), taken.instructions["predict"], taken.code["predict"], max(stack, 0))
    return replace(rest, instructions=left, code=code)


def _of_itself(items: tuple[Item, ...], instructions: int, code: int, stack: int) -> Sample:
    return Sample(items, instructions, code, stack, max(instructions, LEAST_INSTRUCTIONS), max(code, LEAST_CODE))
