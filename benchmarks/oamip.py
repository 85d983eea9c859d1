"""What pruning by programs keeps of trained networks, beside simple selectors, and what int8 costs after it.

    python -m benchmarks.oamip [--quick] [PART ...]        parts: digits, mnist, lenet

digits  scikit-learn's `load_digits` (1,797 rows), network 64-32-16-10, four random splits of 3:1, shares of units kept
        in both hidden layers, all selectors with all repairs; means over the splits
mnist   784-300-100-10 trained by scikit-learn on the official training part, 60 % of the units kept
lenet   examples/lenet/lenet5.onnx (trained by PyTorch), 80 % of the filters and units kept, verified on a Cortex-M4

Selection, repair, calibration and ridge see training rows only; all accuracies are on test rows. Parts that are not
named keep their figures of the committed result.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier

from benchmarks.results import FOLDER, Row, data_folder, load, save
from mip2mcu.dataset import Dataset
from mip2mcu.evaluation import evaluate
from mip2mcu.mip.solver import Solver
from mip2mcu.prune import FloatNetwork, Scoring, fitted_to, from_sklearn, quantise, read_onnx
from mip2mcu.prune.budget import counts_for
from mip2mcu.prune.decoupling import oamip
from mip2mcu.prune.reconstruct import reconstruction
from mip2mcu.prune.removal import REPAIRS, pruned
from mip2mcu.prune.selection import Problem, Selection, by_chance, by_magnitude, by_spread
from mip2mcu.prune.subset import best_subset
from mip2mcu.verify import verify

Method = Callable[[Problem], Selection]

SELECTORS: dict[str, Method] = {
    "best subset": best_subset,
    "reconstruction": reconstruction,
    "OAMIP": oamip,
    "OAMIP by classes": partial(oamip, scoring=Scoring("classes")),
    "OAMIP by layers": partial(oamip, scoring=Scoring("layers")),
    "random": by_chance,
    "magnitude": by_magnitude,
    "std x norm": by_spread,
}
OURS = "best subset"
SHARES = (0.75, 0.60, 0.45)
OAMIP_BARS = {0.75: 96.8, 0.60: 95.4, 0.45: 86.3}
SPLITS = 4
TRAINED_ON = 1347
DIGITS_LIMIT = Solver(time_limit=8.0)
LARGE_LIMIT = Solver(time_limit=120.0)
VERIFIED = (800, 400)
"""Test rows and searched or random vectors that the C of LeNet-5 is compared on."""
LENET = Path(__file__).resolve().parent.parent / "examples" / "lenet" / "lenet5.onnx"


def digits(quick: bool) -> list[Row]:
    """Means over the splits: a row a share, repair and selector of programs, the others as references."""
    accuracies: dict[tuple[str, float, str], list[float]] = {}
    whole: list[float] = []
    losses: list[float] = []
    X, y = load_digits(return_X_y=True)
    for seed in range(1 if quick else SPLITS):
        order = np.random.default_rng(seed).permutation(len(X))
        training, test = (
            Dataset.from_arrays(X[rows].astype(int), y[rows], input_range=(0, 16))
            for rows in (order[:TRAINED_ON], order[TRAINED_ON:])
        )
        network = mlp((32, 16), training, 16, seed, max_iter=600)
        whole.append(accuracy(network, test))
        for share in SHARES:
            problem = problem_of(network, training, share, DIGITS_LIMIT, seed)
            for name, select in SELECTORS.items():
                kept = select(problem).kept
                for repair in REPAIRS:
                    smaller = pruned(network, kept, problem.inputs, repair)
                    accuracies.setdefault((name, share, repair), []).append(accuracy(smaller, test))
                losses.append(accuracies[name, share, "refit"][-1] - int8_accuracy(smaller, training, test))
        print(f"digits, split {seed}: done", flush=True)
    mean = {key: float(np.mean(found)) for key, found in accuracies.items()}
    rows = [Row("digits", "accuracy of the whole network", float(np.mean(whole)), "%")]
    rows += [row for share in SHARES for repair in REPAIRS for row in digits_rows(mean, share, repair)]
    cases = len(SHARES) * len(SELECTORS)
    worst = max(float(np.mean(losses[i::cases])) for i in range(cases))
    return [*rows, Row("digits", "largest mean loss by int8", worst, "points", "lower", bar="at most 0.5")]


def digits_rows(mean: dict[tuple[str, float, str], float], share: float, repair: str) -> list[Row]:
    """One row for our best selector with all others beside it; OAMIP's own row where it has a bar."""
    metric = f"accuracy, {100 * share:.0f} % kept, {repair}"
    references = {name: mean[name, share, repair] for name in SELECTORS if name != OURS}
    bar = ""
    if repair == "refit":
        bar = "above std x norm" + (" by 2 points" if share == min(SHARES) else "")
    rows = [Row("digits", metric, mean[OURS, share, repair], "%", "higher", references, bar)]
    if repair == "refit":
        published = Row("digits", f"{metric}, OAMIP scores", mean["OAMIP", share, repair], "%")
        rows.append(Row(**{**vars(published), "bar": f"at least {OAMIP_BARS[share]}"}))
    return rows


def mnist(quick: bool) -> list[Row]:
    """60 % of the units of a large dense network."""
    training, test = mnist_data()
    began = time.monotonic()
    network = mlp((300, 100), training, 255, 0, max_iter=2 if quick else 8)
    print(f"mnist: trained in {time.monotonic() - began:.0f} s", flush=True)
    return large("mnist 784-300-100-10", network, training, test, 0.60, ("OAMIP by classes", "std x norm", OURS), 40)


def lenet(quick: bool) -> list[Row]:
    """80 % of the filters and units of LeNet-5, verified on a Cortex-M4."""
    training, test = mnist_data()
    network = fitted_to(read_onnx(LENET), training, scale=1 / 255)
    names = ("std x norm",) if quick else ("OAMIP by layers", "std x norm", OURS)
    rows = large("LeNet-5", network, training, test, 0.80, names, 15)
    problem = problem_of(network, training, 0.80, LARGE_LIMIT, 0)
    smaller = pruned(network, SELECTORS[names[-1]](problem).kept, problem.inputs)
    rows_of_data, others = (20, 20) if quick else VERIFIED
    report = verify(quantise(smaller, training), "cortex-m4", test.rows_at(range(rows_of_data)), vectors=others)
    if report.mismatches:
        raise SystemExit(f"LeNet-5: C differs from Python\n{report.as_text()}")
    found = report.as_dict()
    task = "LeNet-5 on a Cortex-M4"
    return [
        *rows,
        Row(task, "flash", int(found["flash_bytes"]), "B", "lower"),
        Row(task, "RAM", int(found["ram_bytes"]), "B", "lower"),
        Row(task, "instructions of predict", report.costs["predict"].maximum, "", "lower"),
        Row(task, "vectors compared, no mismatch", int(found["vectors"]), ""),
    ]


def large(
    task: str,
    network: FloatNetwork,
    training: Dataset,
    test: Dataset,
    share: float,
    names: tuple[str, ...],
    least_removed: int,
) -> list[Row]:
    """Loss of accuracy after the refit and after int8, seconds of the selection, by selector; the last one is ours."""
    whole = accuracy(network, test)
    problem = problem_of(network, training, share, LARGE_LIMIT, 0)
    removed = 100 * (1 - sum(problem.counts) / sum(network.widths))
    lost, lost_int8, seconds = {}, {}, {}
    for name in names:
        began = time.monotonic()
        kept = SELECTORS[name](problem).kept
        seconds[name] = time.monotonic() - began
        smaller = pruned(network, kept, problem.inputs)
        refitted = accuracy(smaller, test)
        lost[name] = whole - refitted
        lost_int8[name] = refitted - int8_accuracy(smaller, training, test)
        print(f"{task}: {name} {refitted:.2f} % in {seconds[name]:.0f} s", flush=True)
    ours, others = names[-1], names[:-1]
    rows = [
        Row(task, "accuracy of the whole network", whole, "%"),
        Row(task, "units removed", removed, "%", bar=f"at least {least_removed}"),
    ]
    for metric, values, unit, bar in (
        ("lost after the refit", lost, "points", "at most 1"),
        ("lost by int8", lost_int8, "points", "at most 0.5"),
        ("selection", seconds, "s", "at most 300, OAMIP by classes" if "OAMIP by classes" in names else ""),
    ):
        shown = {name: round(value, 1) + 0.0 for name, value in values.items()}  # no minus before 0.0
        rows.append(Row(task, metric, shown[ours], unit, "lower", {name: shown[name] for name in others}, bar))
    return rows


# ---- pieces --------------------------------------------------------------------------------------------------------


def mlp(hidden: tuple[int, ...], training: Dataset, top: int, seed: int, max_iter: int) -> FloatNetwork:
    """A network that scikit-learn trains on inputs divided by ``top``."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        estimator = MLPClassifier(hidden, max_iter=max_iter, random_state=seed)
        estimator.fit(training.inputs / top, [training.classes[c] for c in training.labels])
    return fitted_to(from_sklearn(estimator), training, scale=1 / top)


def mnist_data() -> tuple[Dataset, Dataset]:
    """The official training and test parts."""
    training = Dataset.read(data_folder() / "mnist_train.npz", coding="raw")
    return training, Dataset.read(data_folder() / "mnist_test.npz", like=training)


def problem_of(network: FloatNetwork, training: Dataset, share: float, solver: Solver, seed: int) -> Problem:
    counts = counts_for(network.widths, share)
    return Problem(network, training.inputs.astype(float), training.labels, counts, solver, seed=seed, workers=2)


def accuracy(network: FloatNetwork, test: Dataset) -> float:
    """In per cent."""
    return 100 * network.accuracy(test.inputs, test.labels)


def int8_accuracy(network: FloatNetwork, training: Dataset, test: Dataset) -> float:
    """In per cent, after quantisation calibrated on training rows."""
    return 100 * evaluate(quantise(network, training), test).accuracy


PARTS: dict[str, Callable[[bool], list[Row]]] = {"digits": digits, "mnist": mnist, "lenet": lenet}
TASKS = {"digits": "digits", "mnist": "mnist", "lenet": "LeNet"}


def committed(part: str) -> list[Row]:
    """Rows of ``part`` in the committed result."""
    if not (FOLDER / "oamip.json").exists():
        return []
    return [row for row in load("oamip") if row.task.startswith(TASKS[part])]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[[], *PARTS], help="parts to measure; default: all")
    parser.add_argument("--quick", action="store_true", help="one split, short trainings")
    arguments = parser.parse_args()
    wanted = arguments.parts or list(PARTS)
    rows = [row for part in PARTS for row in (PARTS[part](arguments.quick) if part in wanted else committed(part))]
    save("oamip", rows, quick=arguments.quick)


if __name__ == "__main__":
    main()
