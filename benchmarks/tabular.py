"""What `mip2mcu train` gives with its defaults on small tables of sensor-like data, beside float models.

    python -m benchmarks.tabular [--quick]

Splits: the official one where there is one, else five random halves (numpy's default_rng(0..4)); means over splits.
Every model sees the training rows of the split only. The float models see the same columns, one-hot and standardised.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from benchmarks.results import Row, data_folder, save
from mip2mcu.dataset import Dataset
from mip2mcu.evaluation import evaluate
from mip2mcu.quantizer import OneHot
from mip2mcu.train import train
from mip2mcu.verify import verify

TIME_LIMIT = 30.0
SPLITS = 5


@dataclass(frozen=True)
class Task:
    """A data set: its files, and whether the second one is the official test part."""

    name: str
    train: str
    test: str | None = None


TASKS = (
    Task("optdigits", "optdigits.npz", "optdigits.npz"),
    Task("penbased", "penbased.csv"),
    Task("breast cancer", "breast_cancer_wisconsin.csv"),
    Task("pima diabetes", "pima_diabetes.csv"),
    Task("heart", "heart_cleveland.csv"),
    Task("ionosphere", "ionosphere.csv"),
    Task("DNA splice", "dna.npz", "dna.npz"),
    Task("vowel", "vowel_train.csv", "vowel_test.csv"),
)


def splits(task: Task, folder: Path, count: int) -> Iterator[tuple[Dataset, Dataset]]:
    """Pairs (training rows, test rows); codings are fitted on the training rows of each split."""
    if task.test is not None:
        training = Dataset.read(folder / task.train, coding="thermometer")
        yield training, Dataset.read(folder / task.test, like=training)
        return
    for seed in range(count):
        yield Dataset.read_split(folder / task.train, seed=seed, share=0.5)


def float_rows(data: Dataset) -> np.ndarray:
    """Raw features as floats: numbers as they are, categories one-hot."""
    assert data.quantizer is not None and data.raw is not None
    columns = []
    for i, feature in enumerate(data.quantizer.features):
        raw = data.raw[:, i]
        columns.append(feature.coding.apply(raw) if isinstance(feature.coding, OneHot) else raw[:, None])
    return np.concatenate(columns, axis=1).astype(float)


def float_accuracies(training: Dataset, test: Dataset) -> dict[str, float]:
    """Test accuracy in per cent of the float models that a user would otherwise pick."""
    models = {
        "logistic regression (float)": LogisticRegression(max_iter=2000),
        "RBF-SVM (float)": SVC(),
    }
    X, X_test = float_rows(training), float_rows(test)
    return {
        name: 100 * float(make_pipeline(StandardScaler(), model).fit(X, training.labels).score(X_test, test.labels))
        for name, model in models.items()
    }


def measure(task: Task, folder: Path, count: int) -> list[Row]:
    """Accuracy and seconds of one task; every network is verified in C on a Cortex-M0."""
    found: dict[str, list[float]] = {}
    for training, test in splits(task, folder, count):
        began = time.monotonic()
        trained = train(training, time_limit=TIME_LIMIT, workers=2)
        seconds = time.monotonic() - began
        report = verify(trained.network, "cortex-m0", test, vectors=2000)
        if report.mismatches:
            raise SystemExit(f"{task.name}: C differs from Python\n{report.as_text()}")
        result = evaluate(trained.network, test)
        figures = {
            "mip2mcu": 100 * result.accuracy,
            "majority class": 100 * result.majority,
            **float_accuracies(training, test),
            "seconds": seconds,
            "flash": report.as_dict()["flash_bytes"],
            "instructions": report.costs["predict"].maximum,
        }
        for name, figure in figures.items():
            found.setdefault(name, []).append(figure)
    mean = {name: float(np.mean(values)) for name, values in found.items()}
    references = {n: mean[n] for n in ("majority class", "logistic regression (float)", "RBF-SVM (float)")}
    return [
        Row(task.name, "test accuracy", mean["mip2mcu"], "%", "higher", references),
        Row(task.name, "training time", mean["seconds"], "s", "lower"),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two tasks, one split")
    quick = parser.parse_args().quick
    folder = data_folder()
    rows = []
    for task in TASKS[2:4] if quick else TASKS:
        rows += measure(task, folder, 1 if quick else SPLITS)
        print(f"{task.name}: {rows[-2].value:.2f} %", flush=True)
    save("tabular", rows, quick=quick)


if __name__ == "__main__":
    main()
