"""BDNN on small tables: accuracy, robustness with and without robust training, exact proofs, certification.

    python -m benchmarks.bdnn [--quick] [TASK ...]

Each of ten repeats deals half of the rows to training, a quarter to validation and a quarter to the test (permutations
by numpy's default_rng(0..9)). Hidden layers have three units throughout. What is trained is chosen among the candidates
by its validation rows; the test rows are looked at once. The float models see the training rows.

Tasks: accuracy, robust, exact, uniform, optdigits. Rows of tasks that are not named keep their committed figures.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from benchmarks.results import FOLDER, Row, data_folder, load, save
from benchmarks.tabular import float_rows
from mip2mcu.certify import certify
from mip2mcu.dataset import Dataset
from mip2mcu.evaluation import evaluate
from mip2mcu.network import Network
from mip2mcu.train import train
from mip2mcu.train.bdnn import Bdnn
from mip2mcu.verify import verify

REPEATS = 10
HIDDEN = (3,)
SECONDS = 3.0
"""Time limit of a candidate."""
TABLES = {
    "breast cancer": "breast_cancer_wisconsin.csv",
    "heart": "heart_cleveland.csv",
    "ionosphere": "ionosphere.csv",
    "pima diabetes": "pima_diabetes.csv",
}
CANDIDATES = {
    "thermometer bits, radius 1": ("thermometer", Bdnn(HIDDEN, robust_radius=(1,))),
    "numbers": ("affine", Bdnn(HIDDEN)),
    "numbers, radius 1": ("affine", Bdnn(HIDDEN, robust_radius=(1,))),
}


@dataclass(frozen=True)
class Parts:
    """The three parts of a repeat."""

    training: Dataset
    validation: Dataset
    test: Dataset


def parts(path: Path, seed: int, coding: str) -> Parts:
    """Codings are fitted on training and validation rows; the test rows never reach them."""
    known, test = Dataset.read_split(path, 0.25, seed=seed, coding=coding)
    half = (2 * known.rows) // 3
    return Parts(known.rows_at(range(half)), known.rows_at(range(half, known.rows)), test)


def accuracy_of(network: Network, data: Dataset) -> float:
    """In per cent."""
    return 100 * evaluate(network, data).accuracy


def float_accuracies(training: Dataset, test: Dataset) -> dict[str, float]:
    """Test accuracy in per cent of the float models, one of them as wide as ours."""
    models = {
        "logistic regression (float)": LogisticRegression(max_iter=2000),
        "RBF-SVM (float)": SVC(),
        "ReLU MLP, same width (float)": MLPClassifier(HIDDEN, max_iter=3000, random_state=0),
    }
    X, X_test = float_rows(training), float_rows(test)
    return {
        name: 100 * float(make_pipeline(StandardScaler(), model).fit(X, training.labels).score(X_test, test.labels))
        for name, model in models.items()
    }


def mean(values: list[dict[str, float]]) -> dict[str, float]:
    return {name: float(np.mean([one[name] for one in values])) for name in values[0]}


def accuracy(folder: Path, repeats: int) -> Iterator[Row]:
    """The candidate that validation chooses, beside float models."""
    for name, file in TABLES.items():
        found = []
        for seed in range(repeats):
            began, best = time.monotonic(), (-1.0, 0.0)
            for coding, options in CANDIDATES.values():
                data = parts(folder / file, seed, coding)
                network = train(data.training, options, time_limit=SECONDS).network
                own = accuracy_of(network, data.validation)
                if own > best[0]:
                    best, chosen, chosen_data = (own, 0.0), network, data
            seconds = time.monotonic() - began
            report = verify(chosen, "cortex-m0", chosen_data.test, vectors=500)
            if report.mismatches:
                raise SystemExit(f"{name}: C differs from Python\n{report.as_text()}")
            plain = parts(folder / file, seed, "affine")
            result = evaluate(chosen, chosen_data.test)
            found.append(
                {
                    "ours": 100 * result.accuracy,
                    "seconds": seconds,
                    "majority class": 100 * result.majority,
                    **float_accuracies(plain.training, plain.test),
                }
            )
        figures = mean(found)
        references = {n: v for n, v in figures.items() if n not in ("ours", "seconds")}
        bar = "96.5 % in 10 s" if name == "breast cancer" else "the best of them less 2 points"
        yield Row(name, "test accuracy", figures["ours"], "%", "higher", references, bar)
        yield Row(name, "training time of all candidates", figures["seconds"], "s", "lower")


def robust(folder: Path, repeats: int) -> Iterator[Row]:
    """Breast cancer: clean and certified accuracy at one raw unit, with and without robust training."""
    found = []
    for seed in range(repeats):
        figures: dict[str, float] = {}
        for coding in ("affine", "thermometer"):
            data = parts(folder / TABLES["breast cancer"], seed, coding)
            for kind, radius in (("plain", ()), ("robust", (1,))):
                network = train(data.training, Bdnn(HIDDEN, robust_radius=radius), time_limit=2 * SECONDS).network
                certificate = certify(network, data.test, limit=1, time_limit=30.0)
                figures[f"{coding} {kind} clean"] = accuracy_of(network, data.test)
                figures[f"{coding} {kind} certified"] = 100 * certificate.certified(1) / data.test.rows
                figures[f"{coding} {kind} attacked"] = attacked(network, data.test, seed)
        began = time.monotonic()
        exact = certify(network, data.test, time_limit=60.0)
        figures["seconds"] = time.monotonic() - began
        figures["exact"] = 100 * exact.exact / exact.right
        found.append(figures)
    figures = mean(found)
    for coding, name in (("affine", "numbers"), ("thermometer", "thermometer bits")):
        for what, metric in (
            ("clean", "test accuracy"),
            ("certified", "certified accuracy, radius 1"),
            ("attacked", "accuracy under random signs, radius 1"),
        ):
            references = {"without robust training": figures[f"{coding} plain {what}"]}
            bar = "10 points above, clean accuracy no higher" if what == "certified" else ""
            task = f"breast cancer, {name}, robust"
            yield Row(task, metric, figures[f"{coding} robust {what}"], "%", "higher", references, bar)
    yield Row("breast cancer, certification", "rows settled exactly", figures["exact"], "%", "higher", {}, "100 %")
    yield Row("breast cancer, certification", "seconds", figures["seconds"], "s", "lower", {}, "60 s")


def attacked(network: Network, test: Dataset, seed: int) -> float:
    """Accuracy in per cent when every raw feature moves by one unit in a random direction, as in the paper."""
    assert test.raw is not None
    signs = np.random.default_rng(seed).choice([-1, 1], test.raw.shape)
    return 100 * float((network.predict(network.quantize(test.raw + signs)) == test.labels).mean())


def exact(folder: Path, repeats: int) -> Iterator[Row]:
    """The whole program to its proof, on 60 samples with three hidden units."""
    seconds, proved = [], 0
    for seed in range(repeats):
        data = parts(folder / TABLES["breast cancer"], seed, "affine").training
        began = time.monotonic()
        report = train(data.rows_at(range(60)), Bdnn(HIDDEN), time_limit=60.0).report
        seconds.append(time.monotonic() - began)
        proved += report.status == "optimal"
    yield Row("60 samples, 3 hidden units", "proved optimal", 100 * proved / repeats, "%", "higher", {}, "100 %")
    yield Row("60 samples, 3 hidden units", "longest proof", max(seconds), "s", "lower", {}, "15 s")


def uniform_set(seed: int, rows: int = 1000, features: int = 10) -> tuple[np.ndarray, np.ndarray]:
    """The published random sets in tenths: thirds [0, 10]^N is 1, [-10, 0]^N is 0, [-1, 1]^N a coin."""
    rng = np.random.default_rng(seed)
    third = rows // 3
    high, low = rng.uniform(0, 10, (third, features)), rng.uniform(-10, 0, (third, features))
    middle = rng.uniform(-1, 1, (rows - 2 * third, features))
    labels = np.concatenate([np.ones(third), np.zeros(third), rng.integers(0, 2, len(middle))]).astype(np.int64)
    order = rng.permutation(rows)
    return np.rint(10 * np.concatenate([high, low, middle])).astype(np.int64)[order], labels[order]


def uniform(_folder: Path, repeats: int) -> Iterator[Row]:
    """Random sets whose ceiling is known: a third of the labels are coin flips, so no classifier exceeds 83.3 %."""
    found = []
    for seed in range(repeats):
        data = Dataset.from_arrays(*uniform_set(seed), input_range=(-100, 100))
        training, test = data.rows_at(range(500)), data.rows_at(range(750, 1000))
        trained = train(training, Bdnn(HIDDEN, robust_radius=(10,)), time_limit=SECONDS)
        model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000)).fit(training.inputs, training.labels)
        found.append(
            {
                "ours": accuracy_of(trained.network, test),
                "logistic regression (float)": 100 * float(model.score(test.inputs, test.labels)),
            }
        )
    figures = mean(found)
    ours = figures.pop("ours")
    yield Row("uniform random sets", "test accuracy", ours, "%", "higher", {**figures, "ceiling": 83.3}, "80 %")


def optdigits(folder: Path, _repeats: int) -> Iterator[Row]:
    """One hidden layer of 32 ternary units on the official split."""
    training = Dataset.read(folder / "optdigits.npz", coding="thermometer")
    test = Dataset.read(folder / "optdigits.npz", like=training)
    began = time.monotonic()
    trained = train(training, Bdnn((32,)), ensemble="none", time_limit=200.0)
    yield Row(
        "optdigits, 32 ternary units", "test accuracy", accuracy_of(trained.network, test), "%", "higher", {}, "94 %"
    )
    yield Row("optdigits, 32 ternary units", "seconds", time.monotonic() - began, "s", "lower", {}, "200 s")


TASKS: dict[str, Callable[[Path, int], Iterator[Row]]] = {
    "accuracy": accuracy,
    "robust": robust,
    "exact": exact,
    "uniform": uniform,
    "optdigits": optdigits,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one repeat, nothing is written")
    parser.add_argument("tasks", nargs="*", default=list(TASKS), help=", ".join(TASKS))
    arguments = parser.parse_args()
    folder = data_folder()
    kept = {(r.task, r.metric): r for r in (load("bdnn") if (FOLDER / "bdnn.json").exists() else [])}
    for task in arguments.tasks:
        for row in TASKS[task](folder, 1 if arguments.quick else REPEATS):
            kept[row.task, row.metric] = row
            print(f"{row.task}, {row.metric}: {row.value:.2f} {row.unit} {dict(row.references)}", flush=True)
        if not arguments.quick:
            save("bdnn", list(kept.values()), quick=False)


if __name__ == "__main__":
    main()
