"""Both optimisers descend to the minimum, return the best point they saw, and stop when there is nothing to gain."""

import numpy as np
import pytest
import torch

from pymasr.registration.convergence import Convergence
from pymasr.registration.optimiser import OPTIMISERS, Schedule, lbfgs


def bowl(condition=100.0, size=30, seed=0):
    """A quadratic with known minimum, its evaluations and the points of them."""
    generator = torch.Generator().manual_seed(seed)
    turn, _ = torch.linalg.qr(torch.randn((size, size), generator=generator, dtype=torch.float64))
    hessian = (turn * torch.logspace(0, np.log10(condition), size, dtype=torch.float64)) @ turn.T
    minimum = torch.randn(size, generator=generator, dtype=torch.float64)
    seen = []

    def objective(x):
        gradient = hessian @ (x.double() - minimum)
        loss = float(0.5 * (x.double() - minimum) @ gradient) + 1.0
        seen.append((loss, x.clone()))
        return loss, gradient.float()

    return objective, minimum, seen


@pytest.mark.parametrize("name, iterations", [("lbfgs", 60), ("adam", 400)])
def test_the_minimum_is_found(name, iterations):
    objective, minimum, seen = bowl()
    result = OPTIMISERS[name](objective, torch.zeros(30), Schedule(0.1, iterations))
    assert (result - minimum).abs().max() < 0.02 and len(seen) <= iterations
    assert torch.equal(result, min(seen, key=lambda s: s[0])[1]), "the best point visited"


def test_lbfgs_follows_a_bent_valley():
    def rosenbrock(x):
        x = x.detach().clone().requires_grad_()
        with torch.enable_grad():
            loss = (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()
            gradient, = torch.autograd.grad(loss, x)
        return loss.item(), gradient

    result = lbfgs(rosenbrock, torch.full((4,), -1.0, dtype=torch.float64), Schedule(0.1, 200))
    assert torch.allclose(result, torch.ones(4, dtype=torch.float64), atol=1e-3)


@pytest.mark.parametrize("name", OPTIMISERS)
def test_where_there_is_no_slope_nothing_moves(name):
    start = torch.ones(5)
    assert torch.equal(OPTIMISERS[name](lambda x: (0.0, torch.zeros(5)), start, Schedule(0.3, 20)), start)


@pytest.mark.parametrize("name", OPTIMISERS)
def test_a_loss_that_only_rises_gives_the_start_back(name):
    """A gradient that points the wrong way: whatever step is tried, the start was better."""
    start = torch.ones(5)
    result = OPTIMISERS[name](lambda x: (float(x.sum()), -torch.ones(5)), start, Schedule(0.3, 30))
    assert torch.equal(result, start)


@pytest.mark.parametrize("name", OPTIMISERS)
def test_a_loss_that_is_no_number_is_never_taken(name):
    def objective(x):
        return (float(x[0] ** 2) if x[0] < 2 else float("nan")), torch.tensor([-1.0])

    result = OPTIMISERS[name](objective, torch.tensor([-1.0]), Schedule(5.0, 40))
    assert abs(float(result)) <= 1


@pytest.mark.parametrize("name, iterations", [("lbfgs", 300), ("adam", 300)])
def test_a_tolerance_ends_the_descent_early(name, iterations):
    objective, minimum, seen = bowl(condition=10.0)
    result = OPTIMISERS[name](objective, torch.zeros(30), Schedule(0.1, iterations, tolerance=1e-3))
    assert len(seen) < iterations / 2 and (result - minimum).abs().max() < 0.3


def test_convergence_looks_at_the_least_loss_of_its_window():
    convergence = Convergence(0.1, window=2)
    assert [convergence.reached(loss) for loss in (10, 8, 6, 7, 5.9, 5.8)] == [False, False, False, False, True, True]
    endless = Convergence(0.0, window=1)
    assert not any(endless.reached(1.0) for _ in range(5))
