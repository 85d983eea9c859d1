"""Selection by programs: their meaning and their truth, by brute force on small layers."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from mip2mcu.mip.solver import Solver, lp_text
from mip2mcu.prune.budget import counts_for
from mip2mcu.prune.reconstruct import Budget, chosen_units, given_by, reconstruction, removal_model
from mip2mcu.prune.removal import LeastSquares, sampled
from mip2mcu.prune.selection import Problem
from mip2mcu.prune.subset import Choice, _added, _chosen, _dropped, best_subset
from tests.float_networks import conv_network, dense_network, labelled_by


def problem(network, share=0.5, **options):
    data = labelled_by(network, rows=150)
    return Problem(network, data.inputs.astype(float), data.labels, counts_for(network.widths, share), **options)


def choice(units=8, taps=1, targets=3, ridge=1e-3, seed=0):
    rng = np.random.default_rng(seed)
    columns = rng.normal(size=(60, units * taps)) @ rng.normal(size=(units * taps, units * taps))
    target = columns @ rng.normal(size=(units * taps, targets)) + rng.normal(size=(60, targets))
    return Choice.of(LeastSquares.of(columns, target), units, ridge)


def sets(units, count):
    for chosen in combinations(range(units), count):
        mask = np.zeros(units, dtype=bool)
        mask[list(chosen)] = True
        yield mask


# ---- best subset


@pytest.mark.parametrize("taps", [1, 3])
def test_at_whole_points_the_convex_function_is_the_error_of_the_refit(taps):
    task = choice(taps=taps)
    for mask in list(sets(8, 3))[::7]:
        assert task.tangent(mask.astype(float))[0] == pytest.approx(task.error(mask))


@pytest.mark.parametrize("taps", [1, 2])
def test_tangents_lie_below_the_function_everywhere(taps):
    task, rng = choice(taps=taps), np.random.default_rng(1)
    points = [*rng.random((10, 8)), np.ones(8), np.eye(8)[2], (rng.random(8) > 0.5).astype(float)]
    for at in points:
        height, slopes = task.tangent(at)
        for other in points:
            assert height + slopes @ (other - at) <= task.tangent(other)[0] + 1e-7 * task.total


def test_slopes_are_those_of_the_function():
    task, at = choice(), np.random.default_rng(1).uniform(0.3, 0.9, 8)
    slopes = task.tangent(at)[1]
    steps = [(task.tangent(at + 1e-5 * e)[0] - task.tangent(at - 1e-5 * e)[0]) / 2e-5 for e in np.eye(8)]
    assert np.allclose(slopes, steps, rtol=1e-3)


@pytest.mark.parametrize("taps", [1, 3])
def test_what_dropping_costs_and_adding_gains_is_the_difference_of_errors(taps):
    task = choice(taps=taps)
    mask = np.arange(8) < 5
    j, rise = _dropped(task, mask)
    smaller = mask.copy()
    smaller[j] = False
    assert rise[j] == pytest.approx(task.error(smaller) - task.error(mask))
    other, gain = _added(task, smaller)
    larger = smaller.copy()
    larger[other] = True
    assert gain == pytest.approx(task.error(smaller) - task.error(larger))
    assert gain >= rise[j] - 1e-9


@pytest.mark.parametrize("seed", range(4))
def test_the_program_proves_the_set_that_brute_force_finds(seed):
    task = choice(ridge=0.3, seed=seed)
    asked = problem(dense_network())
    chosen, record = _chosen(task, 4, asked, Solver(), "units")
    assert chosen.sum() == 4
    assert task.error(chosen) == pytest.approx(min(task.error(mask) for mask in sets(8, 4)))
    assert record.status == "optimal"
    assert record.bound <= task.error(chosen) / task.total


@pytest.mark.parametrize("make", [dense_network, conv_network])
def test_the_best_subset_of_a_network_has_the_counts_and_a_record_a_layer(make):
    network = make()
    selection = best_subset(problem(network, solver=Solver(time_limit=3)))
    assert tuple(len(own) for own in selection.kept) == counts_for(network.widths, 0.5)
    assert [record.stage for record in selection.solves] == [f"units of layer {k}" for k in network.prunable]


def test_a_layer_before_restores_only_what_stays():
    network = dense_network((6, 8, 5, 3))
    asked = problem(network, 0.4, solver=Solver(time_limit=3))
    selection = best_subset(asked)
    columns, target = sampled(network, 1, asked.inputs)
    task = Choice.of(LeastSquares.of(columns, target[:, selection.kept[1]]), 8, asked.ridge)
    mask = np.isin(np.arange(8), selection.kept[0])
    assert task.error(mask) == pytest.approx(min(task.error(other) for other in sets(8, 3)))


# ---- reconstruction


def missed(given, kept):
    """The objective without a solver: medians are the best shifts."""
    gone = np.setdiff1d(np.arange(given.shape[2]), kept)
    lost = given[:, :, gone].sum(axis=2)
    return np.abs(lost - np.median(lost, axis=0)).mean()


def test_the_program_reads_like_its_text(update_golden):
    from pathlib import Path

    golden = Path(__file__).parent / "golden" / "reconstruction.lp"
    given = np.array([[[2.0, 0.0, 1.0]], [[1.0, 3.0, -1.0]]])
    text = lp_text(removal_model(given, Budget(np.array([5.0, 7.0, 5.0]), 10.0, 2)))
    if update_golden:
        golden.write_text(text)
    assert text == golden.read_text()


@pytest.mark.parametrize("seed", range(3))
def test_removals_are_those_that_brute_force_finds(seed):
    given = np.random.default_rng(seed).normal(size=(9, 2, 6))
    asked = problem(dense_network())
    kept, record = chosen_units(given, Budget(np.ones(6), 3.0), asked, None, "sums")
    assert record.status == "optimal"
    best = min(missed(given, np.array(own)) for n in (1, 2, 3) for own in combinations(range(6), n))
    assert missed(given, kept) == pytest.approx(best)
    assert record.objective * np.abs(given).max() == pytest.approx(best, abs=1e-6)


def test_budgets_count_bytes_and_multiples():
    given = np.random.default_rng(0).normal(size=(9, 2, 6))
    asked = problem(dense_network())
    cost = np.array([10.0, 20, 30, 40, 50, 60])
    kept, _ = chosen_units(given, Budget(cost, 100.0), asked, None, "sums")
    assert 0 < cost[kept].sum() <= 100
    blocks, _ = chosen_units(given, Budget(np.ones(6), 5.0, 2), asked, None, "sums")
    assert len(blocks) in (2, 4)


@pytest.mark.parametrize("make", [dense_network, conv_network])
def test_given_adds_up_to_the_sums(make):
    network = make()
    asked = problem(network)
    for k in network.prunable:
        given = given_by(asked, k)
        after = network.reader(k)
        sums = sampled(network, after, asked.inputs)[0] @ network.at(after).matrix.T
        rows = np.sort(np.random.default_rng(0).permutation(len(sums))[:60])
        assert np.allclose(given.sum(axis=2), sums[rows])


@pytest.mark.parametrize("make", [dense_network, conv_network])
def test_reconstruction_keeps_as_many_units_as_asked_for(make):
    network = make()
    selection = reconstruction(problem(network, solver=Solver(time_limit=6)))
    assert tuple(len(own) for own in selection.kept) == counts_for(network.widths, 0.5)
    assert all(record.bound is not None for record in selection.solves)


def test_without_any_time_the_start_is_kept():
    given = np.random.default_rng(0).normal(size=(9, 2, 6))
    asked = problem(dense_network(), solver=Solver(time_limit=0.0))
    kept, record = chosen_units(given, Budget(np.ones(6), 4.0, 2), asked, None, "sums")
    assert len(kept) == 4
    assert record.status in ("not searched", "time limit")
