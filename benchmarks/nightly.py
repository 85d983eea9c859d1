"""Ten million vectors: models of every kind, in every layout, under every compiler, on every core; 0 mismatches.

    python -m benchmarks.nightly [--quick]        (`make nightly` runs the fuzzing first)

A program is built once and run on every emulator of its core. What was compared is noted in the user's cache: a run
that was interrupted goes on where it stopped, and a program that has changed in any way (its C, compiler, flags,
emulator, vectors) is compared again. The result has no times: the same code and tools give the same file.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.results import Row, save
from mip2mcu.decisions import Argmax, Sign, Vote
from mip2mcu.errors import ExportError
from mip2mcu.export import TARGETS, Export, ExportOptions, generate
from mip2mcu.export.layouts import LAYOUTS
from mip2mcu.layers import Activation, AveragePool, Conv2d, Dense, MaxPool, Requantisation
from mip2mcu.network import Network
from mip2mcu.quantizer import Affine, Feature, OneHot, Quantizer, Thermometer
from mip2mcu.verify.comparison import Comparison, check_description, chunk_rows
from mip2mcu.verify.cores import core_for
from mip2mcu.verify.harness import Harness, build
from mip2mcu.verify.hunting import Hunt, hunt
from mip2mcu.verify.report import Mismatch
from mip2mcu.verify.runners import Runner, runners_for
from mip2mcu.verify.toolchains import Toolchain, cache_folder, find_toolchain
from mip2mcu.verify.vectors import input_chunks, raw_chunks
from mip2mcu.verify.verification import SANITIZERS

TOTAL, A_CORE = 10_000_000, 100_000
"""The bars: vectors in all, and on every emulator of every core."""
CORES = ("cortex-m0", "cortex-m3", "cortex-m4", "cortex-m7", "cortex-m33", "cortex-m55", "avr", "rv32imc", "rv32ec")
GOALS = ("balanced", "speed", "size")
OPTIMISATIONS = ("-O0", "-Os", "-O2", "-O3")
_QUICK = 100


# ---- models --------------------------------------------------------------------------------------------------------


def _labels(count: int) -> tuple[str, ...]:
    return tuple(f"class {c}" for c in range(count))


def _network(layers, decision, low=0, high=255, shape=(), inputs=0) -> Network:
    inputs = inputs or layers[0].weights.shape[1]
    ends = np.full(inputs, low), np.full(inputs, high)
    return Network(*ends, tuple(layers), decision, _labels(decision.classes), shape)


def _ternary(rng) -> Network:
    hidden = Dense(rng.integers(-1, 2, (12, 49)), rng.integers(-200, 200, 12), Activation.SIGN)
    return _network([hidden, Dense(rng.integers(-1, 2, (5, 12)), [0] * 5)], Argmax(5))


def _packed(rng) -> Network:
    hidden = Dense(rng.choice([-1, 1], (33, 70)), rng.integers(-20, 20, 33), Activation.SIGN)
    return _network([hidden, Dense(rng.choice([-1, 1], (4, 33)), [0, 1, 0, 1])], Argmax(4), high=1)


def _pairs(rng) -> Network:
    return _network([Dense(rng.integers(-7, 8, (10, 20)), rng.integers(-9, 10, 10))], Vote(5), high=15)


def _subsets(rng) -> Network:
    decision = Vote(4, 3, by_margin=True)
    hidden = Dense(rng.integers(-3, 4, (16, 9)), rng.integers(-9, 10, 16), Activation.SIGN)
    blocks = np.kron(np.eye(4, dtype=int), rng.choice([-1, 1], (3, 4)))
    return _network([hidden, Dense(blocks, rng.integers(-1, 2, 12))], decision, low=-8, high=7)


def _requantised(rng) -> Network:
    weights = rng.integers(-127, 128, (10, 16))
    scale = Requantisation(np.full(10, 3), np.full(10, 140), np.full(10, 12))
    hidden = Dense(weights, rng.integers(-999, 1000, 10), Activation.RELU, scale)
    return _network([hidden, Dense(rng.integers(-127, 128, (3, 10)), [5, -5, 0])], Argmax(3), low=-128, high=127)


def _wide_weights(rng) -> Network:
    return _network([Dense(rng.integers(-32767, 32768, (1, 12)), [-12345])], Sign(), low=-999, high=999)


def _pixels(rng) -> Network:
    scale = Requantisation(np.array([0, 1, 0]), np.array([900, 1500, 700]), np.array([13, 13, 12]))
    kernel = rng.integers(-9, 10, (3, 1, 3, 3))
    convolution = Conv2d(kernel, [10, -30, 0], (1, 1), (1, 1, 1, 1), 7, Activation.RELU, scale)
    layers = [convolution, MaxPool((2, 2), (2, 2)), AveragePool((1, 2), (1, 2))]
    return _network([*layers, Dense(rng.integers(-7, 8, (3, 18)), [0, 1, 2])], Argmax(3), shape=(1, 6, 8), inputs=48)


def _quantized(rng) -> Network:
    features = [Feature("offset", Affine(-100, 900, 0, 16711, 16), 5, 1, "int16_t")]
    features += [Feature(f"speed {i}", Thermometer(0, 99, tuple(range(9, 99, 9))), 7, 0, "int16_t") for i in range(3)]
    features += [Feature("colour", OneHot(("blue", "green", "red")), 3, 0, "int16_t")]
    quantizer = Quantizer(tuple(features))
    weights = rng.integers(-5, 6, (3, quantizer.width)) * (rng.random((3, quantizer.width)) < 0.5)
    high = quantizer.input_high
    return Network(
        np.zeros_like(high), high, (Dense(weights, [1, 2, 3]),), Argmax(3), _labels(3), quantizer=quantizer
    )


MODELS = {
    "ternary": _ternary,
    "packed": _packed,
    "pairs": _pairs,
    "subsets": _subsets,
    "requantised": _requantised,
    "wide weights": _wide_weights,
    "pixels": _pixels,
    "quantized": _quantized,
}


def models() -> dict[str, Network]:
    """The same networks every night, one of each kind."""
    return {name: make(np.random.default_rng(k)) for k, (name, make) in enumerate(MODELS.items())}


# ---- jobs ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Job:
    """One program: a model's C for a target, and how it is compiled and compared.

    vectors    on each runner
    """

    model: str
    target: str
    export: Export
    vectors: int
    compiler: str | None = None
    optimisation: str = "-O2"
    flags: tuple[str, ...] = ()


def _exports(networks: dict[str, Network], target: str, turn: int) -> Iterator[tuple[str, Export]]:
    """Every model as the planner lays it out, and every layout on the next model whose first layer takes it."""
    for k, (name, network) in enumerate(networks.items()):
        yield name, generate(network, target, options=ExportOptions(optimize=GOALS[(turn + k) % len(GOALS)]))
    names = list(networks)
    for layout in LAYOUTS:
        for k in range(len(names)):
            name = names[(turn + k) % len(names)]
            rest = [",auto"] * (len(networks[name].layers) - 1)
            with suppress(ExportError):
                yield name, generate(networks[name], target, layout="".join([layout, *rest]))
                break
        turn += 1


def _jobs(networks: dict[str, Network], share: int) -> Iterator[Job]:
    for turn, target in enumerate(CORES):
        exports = list(_exports(networks, target, turn))
        yield from (Job(name, target, e, -(-A_CORE // (len(exports) * share))) for name, e in exports)
    left = TOTAL - A_CORE * sum(len(_emulators(target)) for target in CORES)
    ways = [(c, o, ()) for c in ("gcc", "clang") for o in OPTIMISATIONS] + [("gcc", "-O1", SANITIZERS)]
    each = -(-left // (len(networks) * (len(ways) - 1) * share))
    for turn, (compiler, optimisation, flags) in enumerate(ways):
        for k, (name, network) in enumerate(networks.items()):
            goal = GOALS[(turn + k) % len(GOALS)]
            export = generate(network, "host", options=ExportOptions(optimize=goal))
            yield Job(name, "host", export, each // (8 if flags else 1), compiler, optimisation, flags)


def _emulators(target: str) -> list[Runner]:
    """The runners of ``target``; every one must be installed."""
    core = core_for(TARGETS[target])
    runners = list(runners_for(core))
    for runner in runners:
        if not runner.is_installed(core):
            raise SystemExit(f"{target} needs {runner.name}: {runner.install}")
    return runners


# ---- one job -------------------------------------------------------------------------------------------------------


def _key(job: Job, network: Network, toolchain: Toolchain, runner: Runner) -> str:
    """What the result of ``job`` on ``runner`` depends on."""
    parts = [network.sha256, *(job.export.files[name] for name in sorted(job.export.files)), toolchain.version]
    parts += [job.optimisation, *job.flags, runner.version(core_for(TARGETS[job.target])), str(job.vectors)]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _compare(job: Job, network: Network, hunted: Hunt, toolchain: Toolchain, runners: dict[str, Runner]):
    """(key, outcome) of each of ``runners`` by key."""
    target = TARGETS[job.target]
    with tempfile.TemporaryDirectory(prefix="mip2mcu-nightly-") as folder:
        program = build(
            job.export.files, Path(folder), network=network, name="model", target=target, core=core_for(target),
            toolchain=toolchain, optimisation=job.optimisation, extra_flags=job.flags,
        )  # fmt: skip
        for key, runner in runners.items():
            if not runner.serves(program.core):
                raise SystemExit(f"{job.model} outgrows the board of {runner.name} for {job.target}")
            harness = Harness(program, runner)
            check_description(network, harness, "memory")
            comparison = Comparison(network, harness)
            seed = int(key[:8], 16)
            rows = chunk_rows(network)
            comparison.compare_inputs(input_chunks(network, None, job.vectors, seed, rows, hunted))
            if network.quantizer is not None:
                comparison.compare_raw(raw_chunks(network.quantizer, None, job.vectors, seed, rows))
            comparison.run_checks()
            yield key, _outcome(job, runner, comparison)


def _outcome(job: Job, runner: Runner, comparison: Comparison) -> dict:
    way = f"{job.compiler} {job.optimisation}{' sanitized' * bool(job.flags)}" if job.compiler else runner.name
    return {
        "target": job.target,
        "way": way,
        "model": job.model,
        "vectors": comparison.vectors,
        "quantized": sum(comparison.quantized.values()),
        "mismatches": comparison.mismatches,
        "first": _text(comparison.first),
    }


def _text(mismatch: Mismatch | None) -> str:
    return "" if mismatch is None else mismatch.as_text()


class Progress:
    """Outcomes by key, in a file of one JSON object a line."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.done: dict[str, dict] = {}
        if path.is_file():
            for line in path.read_text(encoding="utf-8").splitlines():
                with suppress(ValueError):  # the last line of a run that was killed
                    entry = json.loads(line)
                    self.done[entry.pop("key")] = entry

    def note(self, key: str, outcome: dict) -> None:
        self.done[key] = outcome
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps({"key": key, **outcome}) + "\n")


def run(share: int, progress: Progress) -> list[dict]:
    """The outcome of every job on every runner, in order."""
    networks = models()
    hunts: dict[str, Hunt] = {}
    outcomes = []
    for number, job in enumerate(_jobs(networks, share), start=1):
        network = networks[job.model]
        toolchain = find_toolchain(TARGETS[job.target], job.compiler)
        runners = {_key(job, network, toolchain, runner): runner for runner in _emulators(job.target)}
        open_runners = {key: runner for key, runner in runners.items() if key not in progress.done}
        if open_runners:
            if job.model not in hunts:
                hunts[job.model] = hunt(network)
            for key, outcome in _compare(job, network, hunts[job.model], toolchain, open_runners):
                progress.note(key, outcome)
            print(f"{number}: {job.target}, {job.model}", file=sys.stderr, flush=True)
        outcomes += [progress.done[key] for key in runners]
    return outcomes


# ---- the result ----------------------------------------------------------------------------------------------------


def rows_of(outcomes: list[dict]) -> list[Row]:
    """One row a way of running, one a kind of vector, and the two totals."""
    ways, kinds = Counter(), Counter()
    for outcome in outcomes:
        ways[outcome["target"], outcome["way"]] += sum(outcome["vectors"].values())
        kinds.update(outcome["vectors"])
    total, mismatches = sum(ways.values()), sum(outcome["mismatches"] for outcome in outcomes)
    rows = [
        Row("all", "vectors", total, "", bar=f"{TOTAL:,}"),
        Row("all", "mismatches", mismatches, "", "lower", bar="0"),
        Row("all", "raw rows quantized", sum(outcome["quantized"] for outcome in outcomes), ""),
    ]
    for (target, way), count in ways.items():
        rows.append(Row(target, f"vectors, {way}", count, "", bar="" if target == "host" else f"{A_CORE:,}"))
    rows += [Row("kinds", kind.replace("_", " "), count, "") for kind, count in kinds.items()]
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a hundredth of the vectors, nothing is written")
    parser.add_argument("--fresh", action="store_true", help="forget what earlier runs have compared")
    options = parser.parse_args()
    path = cache_folder("nightly") / ("quick.jsonl" if options.quick else "progress.jsonl")
    if options.fresh:
        path.unlink(missing_ok=True)
    outcomes = run(_QUICK if options.quick else 1, Progress(path))
    save("nightly", rows_of(outcomes), quick=options.quick)
    wrong = [outcome for outcome in outcomes if outcome["mismatches"]]
    for outcome in wrong:
        print(f"{outcome['target']}, {outcome['way']}, {outcome['model']}: {outcome['first']}", file=sys.stderr)
    if wrong:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
