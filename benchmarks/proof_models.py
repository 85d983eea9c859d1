"""The models that `benchmarks.prove` proves: the examples, one of each kind that a benchmark trains, the kernels' grid.

Trainings end after the quick start (no search): a proof depends on weights and their ranges, not on accuracy. The same
data give the same models.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path

from sklearn.datasets import load_digits

from benchmarks import bdnn, bemi, inn, oamip
from benchmarks.kernel_tasks import LayerTask, NetworkTask, layer_tasks, network_tasks
from benchmarks.results import data_folder
from mip2mcu.dataset import Dataset
from mip2mcu.network import Network
from mip2mcu.prune import fitted_to, quantise, read_onnx
from mip2mcu.prune.removal import pruned
from mip2mcu.prune.selection import by_spread
from mip2mcu.train import train
from mip2mcu.train.bdnn import Bdnn
from mip2mcu.train.bemi import Bemi
from mip2mcu.train.inn import Inn
from mip2mcu.train.linear import Linear

ROOT = Path(__file__).resolve().parent.parent
Maker = Callable[[], Network]
KERNELS = "kernels"
"""Begins the names of models that no benchmark trains."""


def _digits_example() -> Network:
    data = Dataset.read(ROOT / "examples" / "digits" / "train.csv")
    return train(data, Linear(weight_bound=1), node_limit=0).network


def _images(rows: int) -> Dataset:
    images, labels = bemi.mnist("train")
    return bemi.dataset(images, labels, bemi.first_of_each_class(labels, rows // 10))


def _lenet() -> Network:
    data = _images(500)
    return quantise(fitted_to(read_onnx(oamip.LENET), data, scale=1 / 255), data)


def _pruned_lenet() -> Network:
    data = _images(500)
    network = fitted_to(read_onnx(oamip.LENET), data, scale=1 / 255)
    problem = oamip.problem_of(network, data, 0.80, oamip.LARGE_LIMIT, 0)
    return quantise(pruned(network, by_spread(problem).kept, problem.inputs), data)


def _pruned_mlp() -> Network:
    X, y = load_digits(return_X_y=True)
    data = Dataset.from_arrays(X.astype(int), y, input_range=(0, 16))
    network = oamip.mlp((32, 16), data, 16, 0, max_iter=100)
    problem = oamip.problem_of(network, data, 0.60, oamip.DIGITS_LIMIT, 0)
    return quantise(pruned(network, by_spread(problem).kept, problem.inputs), data)


def _pruned_mnist() -> Network:
    data = _images(1000)
    network = oamip.mlp((300, 100), data, 255, 0, max_iter=5)
    problem = oamip.problem_of(network, data, 0.60, oamip.LARGE_LIMIT, 0)
    return quantise(pruned(network, by_spread(problem).kept, problem.inputs), data)


def _adult() -> Network:
    data, _ = inn.adult(280, "thermometer")(data_folder(), 0)
    return train(data, Inn(hidden=(), objective="min-hinge", weight_bound=inn.ADULT_P), node_limit=0).network


def _adult_hidden() -> Network:
    data, _ = inn.adult(40, "affine")(data_folder(), 0)
    return train(data, Inn(hidden=(16,), objective="min-hinge", weight_bound=3), node_limit=0).network


def _optdigits() -> Network:
    data, _ = inn.optdigits(data_folder(), 0)
    rows = data.rows_at(range(300))
    options = Inn(hidden=(32,), objective="min-hinge", weight_bound=3)
    return train(rows, options, ensemble="none", node_limit=0).network


def _slice() -> Dataset:
    images, labels = bemi.mnist("train")
    return bemi.dataset(images, labels, bemi.slice_of(labels, 10, 0))


def _staged_ensemble() -> Network:
    return train(_slice(), Linear(), ensemble="pairs", stages=("edges:4",), node_limit=0).network


def _published_ensemble() -> Network:
    options = Bemi((4, 4), variant="published")
    return train(_slice(), options, ensemble="pairs", vote="strict", node_limit=0).network


def _bdnn(coding: str, radius: tuple[int, ...]) -> Maker:
    def made() -> Network:
        parts = bdnn.parts(data_folder() / bdnn.TABLES["breast cancer"], 0, coding)
        return train(parts.training, Bdnn(bdnn.HIDDEN, robust_radius=radius), node_limit=0).network

    return made


SMALL: Mapping[str, Maker] = {
    "bdnn: breast cancer, numbers": _bdnn("affine", ()),
    "bdnn: breast cancer, thermometer bits, robust": _bdnn("thermometer", (1,)),
    "inn: Adult, 280 rows": _adult,
    "inn: Adult, 16 hidden units": _adult_hidden,
    "oamip: digits 64-32-16-10, 60 % of units": _pruned_mlp,
    "inn: optdigits 64-32-10": _optdigits,
}
LARGE: Mapping[str, Maker] = {
    "example: digits": _digits_example,
    "bemi: pairs, input stages": _staged_ensemble,
    "oamip: MNIST 784-300-100-10, 60 % of units": _pruned_mnist,
    "bemi: pairs, 784-4-4-1, strict vote": _published_ensemble,
    "oamip: LeNet-5, 80 % of units": _pruned_lenet,
    "example: LeNet-5": _lenet,
}
"""By name, what trains the model; those with few weights first."""


def makers() -> Mapping[str, Maker]:
    """By name, what makes each model, those with few weights first; those of `benchmarks.kernels` are among them."""
    grid = {inputs: _kernels(network_tasks(inputs=(inputs,))) for inputs in (64, 784)}
    return {**SMALL, **grid[64], **_kernels(layer_tasks()), **grid[784], **LARGE}


def _kernels(tasks: Iterable[LayerTask | NetworkTask]) -> dict[str, Maker]:
    return {f"{KERNELS}: {task.name}": partial(_network_of, task) for task in tasks}


def _network_of(task: LayerTask | NetworkTask) -> Network:
    return task.network
