"""Open options are chosen by cross-validation on training rows, and only there."""

from __future__ import annotations

import numpy as np

from mip2mcu.dataset import Dataset
from mip2mcu.mip.solver import Solver
from mip2mcu.parallel import executor
from mip2mcu.train import train
from mip2mcu.train.choice import WORK_LIMIT, choose
from mip2mcu.train.clock import Clock, Course
from mip2mcu.train.ensemble import Ensemble
from mip2mcu.train.inn import Inn
from mip2mcu.train.linear import KEEPS, MARGINS, Linear


def noisy(rows: int = 40, inputs: int = 5) -> Dataset:
    random = np.random.default_rng(1)
    X = random.integers(0, 2, (rows, inputs))
    return Dataset.from_arrays(X, X[:, 0] ^ (random.random(rows) < 0.1), input_range=(0, 1))


def chosen(formulation, dataset):
    with executor(1) as run:
        return choose(formulation, dataset, Ensemble("none"), Solver(node_limit=0), Course(run, Clock(None)))


def test_candidates_begin_with_the_defaults_and_keep_what_is_given():
    assert Linear().candidates()[0] == Linear(margin=MARGINS[0], keep=KEEPS[0])
    assert len(Linear().candidates()) == len(MARGINS) * len(KEEPS)
    assert Linear(margin=0.5, keep=0.9).candidates() == (Linear(margin=0.5, keep=0.9),)


def test_a_choice_is_made_among_the_candidates_and_said():
    choice = chosen(Linear(), noisy())
    assert choice.formulation in Linear().candidates()
    assert choice.note.startswith("options chosen by 5-fold cross-validation on the training rows: margin ")


def test_given_options_are_left_alone():
    choice = chosen(Linear(margin=0.5, keep=0.9), noisy())
    assert (choice.formulation, choice.note) == (Linear(margin=0.5, keep=0.9), "")


def test_large_data_take_the_defaults():
    rows = WORK_LIMIT // 5 + 1
    X = np.zeros((rows, 5), dtype=np.int64)
    X[: rows // 2, 0] = 1
    data = Dataset.from_arrays(X, X[:, 0], input_range=(0, 1))
    assert chosen(Linear(), data).formulation == Linear(margin=MARGINS[0], keep=KEEPS[0])


def test_a_class_with_one_row_cannot_be_cross_validated():
    data = Dataset.from_arrays([[0]] + [[1]] * 50, [0] + [1] * 50, input_range=(0, 1))
    assert chosen(Linear(), data).note == ""


def test_few_rows_take_the_defaults():
    assert chosen(Linear(), noisy(rows=39)).note == ""


def test_formulations_without_open_options_pass_through():
    assert chosen(Inn(hidden=(2,)), noisy()).formulation == Inn(hidden=(2,))


def test_the_report_names_the_options_that_were_used():
    report = train(noisy(), node_limit=0).report
    assert dict(report.options)["margin"] in MARGINS
    assert report.notes[0].startswith("options chosen by")
