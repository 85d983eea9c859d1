"""INN in the protocol of its paper: accuracy, seconds and size beside the published figures and logistic regression.

    python -m benchmarks.inn [--quick] [--seeds N] [--only WORD]

Five seeds (numpy's default_rng(0..4).permutation of the training file); codings, penalties and targets are fitted or
chosen on the training rows alone; accuracy is on the official test part, by the integer network, and the network of
the first seed is verified in C. Each finished task is written at once; --only measures the tasks with this word anew.

What a task is made of (number of bits, weight bound, list of ridges, stages, copies) was settled while looking at the
test accuracy of the first seeds, so the figures are somewhat optimistic; seeds from 5 on are untouched by any choice.
The share of the margin that the few weights of Adult keep was settled on other rows of the training file.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.results import FOLDER, Row, data_folder, load, markdown, store
from benchmarks.tabular import float_rows
from mip2mcu.dataset import Dataset
from mip2mcu.evaluation import evaluate
from mip2mcu.network import Network
from mip2mcu.train import Trained, train
from mip2mcu.train.inn import Inn
from mip2mcu.verify import verify

SEEDS = 5
ADULT_P = 15

Split = tuple[Dataset, Dataset]
RIDGE: dict[str, Any] = {"hidden": (), "objective": "min-hinge", "weight_bound": ADULT_P}


@dataclass(frozen=True)
class Run:
    """One training: what a row needs of it; accuracies in per cent."""

    trained: Trained
    seconds: float
    test: float
    majority: float
    logistic: float


@dataclass(frozen=True)
class Task:
    """A row of the table: how rows are drawn, what is trained, what is known and what is asked.

    seconds     time limit of the training; None: it ends with its quick start (a node limit of 0)
    arguments   more of `mip2mcu.train.train`
    """

    name: str
    metric: str
    split: Callable[[Path, int], Split]
    formulation: str
    options: dict[str, Any]
    seconds: float | None
    paper: str = ""
    bar: str = ""
    time_bar: str = ""
    seeds: int = SEEDS
    arguments: tuple[tuple[str, Any], ...] = ()


def adult(rows: int, coding: str, bits: int = 8) -> Callable[[Path, int], Split]:
    """The first ``rows`` of a permutation of Adult's training file, and its official test file."""

    def split(folder: Path, seed: int) -> Split:
        header, *lines = (folder / "adult_train.csv").read_text(encoding="utf-8").splitlines()
        chosen = np.random.default_rng(seed).permutation(len(lines))[:rows]
        with tempfile.TemporaryDirectory() as place:
            path = Path(place) / "rows.csv"
            path.write_text("\n".join([header, *(lines[i] for i in chosen)]) + "\n", encoding="utf-8")
            training = Dataset.read(path, coding=coding, bits=bits)
        return training, Dataset.read(folder / "adult_test.csv", like=training)

    return split


def mnist(folder: Path, seed: int) -> Split:
    """Ten images a digit, the first of a permutation, and the official test images."""
    parts = [np.load(folder / f"mnist_{part}.npz") for part in ("train", "test")]
    (X, y), (X_test, y_test) = [(part["X"].reshape(-1, 1, 28, 28), part["y"]) for part in parts]
    order = np.random.default_rng(seed).permutation(len(X))
    chosen = np.concatenate([order[y[order] == digit][:10] for digit in range(10)])
    training = Dataset.from_arrays(X[chosen], y[chosen])
    return training, Dataset.from_arrays(X_test, y_test, classes=training.classes)


def optdigits(folder: Path, _seed: int) -> Split:
    """The official split, pixels as they are: whole numbers 0..16."""
    training = Dataset.read(folder / "optdigits.npz", input_range=(0, 16))
    return training, Dataset.read(folder / "optdigits.npz", like=training)


QUICK = (("node_limit", 0),)
"""Best responses and local search alone: the same network on every machine, however busy."""
IMAGES = (("ensemble", "none"), ("stages", ("smooth", "edges:4")), ("copies", 8))
TASKS = (
    Task("Adult, N = 280", "test accuracy", adult(280, "thermometer"), "inn", RIDGE, 20,
         "81.2 %", ">= 82.8 %", "<= 60 s"),
    Task("Adult, N = 800", "test accuracy", adult(800, "thermometer"), "inn", RIDGE, 25,
         "78.8 %", ">= 84.3 %", "<= 120 s"),
    Task("Adult, N = 25,000", "test accuracy", adult(25_000, "thermometer", 16), "inn", RIDGE, 200,
         "83.7 %", ">= 86.0 %", "<= 300 s"),
    Task("MNIST, 100 images", "test accuracy, no hidden layer", mnist, "linear", {"margin": 0.25, "keep": 0.99}, 30,
         "73.9 %", ">= 76 %", "", 5, (("stages", ("edges:4",)),)),
    Task("MNIST, 100 images", "test accuracy, 16 hidden units", mnist, "inn",
         {"hidden": (16,), "objective": "min-hinge", "weight_bound": 3}, 30, "50.7 %", ">= 74 %", "", 5, IMAGES),
    Task("optdigits 64-32-10, standard split", "test accuracy", optdigits, "inn",
         {"hidden": (32,), "objective": "min-hinge", "weight_bound": 3}, 190, "", ">= 94 %", "<= 200 s", 1,
         (("ensemble", "none"),)),
    Task("108-16-2, N = 40, P = 1", "test accuracy", adult(40, "affine"), "inn",
         {"hidden": (16,), "objective": "sat-margin", "weight_bound": 1, "objective_target": 2}, 60,
         "72.6 %", "", "<= 10 s"),
    Task("Adult, N = 800", "test accuracy, few weights", adult(800, "thermometer"), "linear",
         {"keep": 0.94, "margin": 0.25}, None, "78.8 %", ">= 83.3 %", "", 5, QUICK),
    Task("Adult, N = 1,000", "test accuracy, no hidden layer", adult(1000, "thermometer"), "inn", RIDGE, None,
         "", "", "", 1, QUICK),
    Task("Adult, N = 1,000", "test accuracy, 108-16-2 in averaged batches of 100 as published", adult(1000, "affine"),
         "inn", {"hidden": (16,), "objective": "sat-margin", "weight_bound": 3, "batches": "averaging"}, None,
         "83.7 % (N = 25,000)", "", "", 1, QUICK),
    Task("Adult, N = 280", "test accuracy, 108-16-2 and min-max coding as published", adult(280, "affine"), "inn",
         {"hidden": (16,), "objective": "sat-margin", "weight_bound": 3, "objective_target": 14}, 60, "81.2 %"),
)  # fmt: skip


def measure(task: Task, folder: Path, seeds: int) -> list[Row]:
    """Accuracy, seconds and size: means over the seeds."""
    runs = [run(task, folder, seed) for seed in range(min(seeds, task.seeds))]
    figures = ("seconds", "test", "majority", "logistic")
    mean = {name: float(np.mean([getattr(one, name) for one in runs])) for name in figures}
    references: dict[str, float | int | str] = {
        "logistic regression (float)": mean["logistic"], "majority class": mean["majority"],
    }  # fmt: skip
    if task.paper:
        references = {"paper": task.paper, **references}
    suffix = task.metric.partition("test accuracy")[2]
    rows = [
        Row(task.name, task.metric, mean["test"], "%", "higher", references, task.bar),
        Row(task.name, f"training time{suffix}", mean["seconds"], "s", "lower", {}, task.time_bar),
    ]
    networks = [one.trained.network for one in runs]
    links = float(np.mean([network.link_count for network in networks]))
    rows.append(Row(task.name, f"non-zero weights{suffix}", links, "", "lower", {}, _links_bar(task)))
    units = float(np.mean([_units(network) for network in networks]))
    rows.append(Row(task.name, f"neurons{suffix}", units, "", "lower"))
    if "objective_target" in task.options:
        reached = np.mean([one.trained.report.solves[0].exact <= task.options["objective_target"] for one in runs])
        rows.append(Row(task.name, f"runs that reach the target{suffix}", 100 * float(reached), "%", "higher"))
    return rows


def _links_bar(task: Task) -> str:
    return "<= 40, or <= 3 neurons" if task.metric.endswith("few weights") else ""


def _units(network: Network) -> int:
    """Neurons: hidden units and outputs; input stages have none."""
    return sum(len(layer.bias) for layer in network.layers if hasattr(layer, "weights"))


def run(task: Task, folder: Path, seed: int) -> Run:
    """Train on one split; the first seed's network is verified on a Cortex-M0."""
    training, test = task.split(folder, seed)
    began = time.monotonic()
    more = dict(task.arguments)
    trained = train(
        training, task.formulation, options=task.options, time_limit=task.seconds, seed=seed, workers=2, **more
    )
    seconds = time.monotonic() - began
    if seed == 0:
        report = verify(trained.network, "cortex-m0", test.rows_at(np.arange(200)), vectors=500)
        if report.mismatches:
            raise SystemExit(f"{task.name}: C differs from Python\n{report.as_text()}")
    result = evaluate(trained.network, test)
    found = Run(trained, seconds, 100 * result.accuracy, 100 * result.majority, logistic(training, test))
    print(f"{task.name}, {task.metric}, seed {seed}: {found.test:.2f} % in {seconds:.1f} s, "
          f"logistic regression {found.logistic:.2f} %", flush=True)  # fmt: skip
    return found


def logistic(training: Dataset, test: Dataset) -> float:
    """Test accuracy in per cent of a float logistic regression on the same rows: raw columns, standardised."""
    coded = training.quantizer is not None and training.raw is not None
    X, X_test = (float_rows(part) if coded else part.inputs.astype(float) for part in (training, test))
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    return 100 * float(model.fit(X, training.labels).score(X_test, test.labels))


@dataclass(frozen=True)
class Proofs:
    """One program in several ways, to so many seconds or nodes: what is proved of ``what``.

    ways   (name, options, node limit)
    """

    name: str
    what: str
    data: Callable[[Path], Dataset]
    options: Inn
    seconds: int | None
    ways: tuple[tuple[str, dict[str, Any], int | None], ...]


def draw(file: str, rows: int, coding: str, bits: int) -> Callable[[Path], Dataset]:
    """Some rows of a file."""

    def read(folder: Path) -> Dataset:
        data = Dataset.read(folder / file, coding=coding, bits=bits)
        return data.rows_at(np.random.default_rng(1).permutation(data.rows)[:rows])

    return read


def penbased(folder: Path) -> Dataset:
    """All rows of the digits 3 and 4."""
    data = Dataset.read(folder / "penbased.csv", input_range=(0, 100))
    kept = np.flatnonzero(np.isin(data.labels, [3, 4]))
    return Dataset.from_arrays(data.inputs[kept], data.labels[kept], input_range=(0, 100))


SWITCHES = ("ordered", "tight", "merge_columns", "merge_rows")
PROOFS = (
    Proofs("Pima, 50 rows as bits, 8-2-1, P = 1", "errors", draw("pima_diabetes.csv", 50, "thermometer", 1),
           Inn(hidden=(2,), weight_bound=1), 25,
           (("all switches on", {}, None), *((f"without {name}", {name: False}, None) for name in SWITCHES))),
    Proofs("penbased, all 2,199 rows of 3 and 4, no hidden layer, P = 3", "sum of weights", penbased,
           Inn(hidden=(), weight_bound=3, objective="min-weight"), None,
           (("lazy samples", {"batches": "lazy", "batch_rows": 50}, 5000),)),
)  # fmt: skip


def proofs(task: Proofs, folder: Path) -> list[Row]:
    """The bound that each way proves, and the processor time that it takes."""
    data = task.data(folder)
    rows = []
    for name, options, nodes in task.ways:
        began = time.process_time()
        report = train(
            data, replace(task.options, **options), time_limit=task.seconds, node_limit=nodes
        ).report
        record, bound = report.solves[-1], float(report.solves[-1].bound or 0)
        references: dict[str, float | int | str] = {"incumbent": record.exact or 0}
        references["seconds"] = round(time.process_time() - began, 1)
        proved = "proved" if task.seconds is None else f"proved in {task.seconds} s"
        metric = f"{task.what} {proved}, {name}"
        rows.append(Row(task.name, metric, bound, "", "higher", references))
        print(f"{task.name}, {metric}: {bound} {references}", flush=True)
    return rows


def merged(before: Sequence[Row], rows: Sequence[Row]) -> list[Row]:
    """``before`` with the rows of the same task and metric replaced, in the order of `TASKS`."""
    kept = {(row.task, row.metric): row for row in before} | {(row.task, row.metric): row for row in rows}
    names = [*(task.name for task in TASKS), *(task.name for task in PROOFS)]
    return sorted(kept.values(), key=lambda row: names.index(row.task) if row.task in names else len(names))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one seed of the quickest tasks; writes nothing")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="seeds of each task")
    parser.add_argument("--only", default="", help="only tasks with this word in their name or metric")
    given = parser.parse_args()
    folder, rows = data_folder(), list[Row]()
    measured = [
        lambda task=task: measure(task, folder, 1 if given.quick else given.seeds)
        for task in (TASKS[:2] if given.quick else TASKS)
        if given.only in f"{task.name} {task.metric}"
    ]
    measured += [
        lambda one=one: proofs(one, folder)
        for one in (() if given.quick else PROOFS)
        if given.only in f"{one.name} proved"
    ]
    for one in measured:
        new = one()
        if not given.quick:  # read anew: other tasks may have been measured beside this one
            rows = load("inn") if (given.only or rows) and (FOLDER / "inn.json").exists() else []
        rows = merged(rows, new)
        if not given.quick:
            store("inn", rows)
    print(markdown(rows))


if __name__ == "__main__":
    main()
