"""Descent of a loss over one tensor, without a graph: L-BFGS (Liu and Nocedal, Mathematical Programming 45, 1989) and
Adam (Kingma and Ba, ICLR 2015).

What an iteration decides by comes to the host, a few numbers at a time; everything else stays on the tensor's device.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import torch

from pymasr import numerics
from pymasr.registration.convergence import Convergence

#: Loss and gradient at a point; the gradient may be overwritten by the next call.
Objective = Callable[[torch.Tensor], tuple[float, torch.Tensor]]


@dataclass(frozen=True)
class Schedule:
    """How long and in which steps to descend.

    Attributes:
        rate: length that the largest entry of the first step has (Adam: that about every entry has).
        iterations: evaluations of the loss, at most.
        tolerance: of :class:`~pymasr.registration.convergence.Convergence`.
        final: share of Adam's rate that is left at the end.
    """

    rate: float
    iterations: int
    tolerance: float = 0.0
    final: float = 0.05


def lbfgs(objective: Objective, start: torch.Tensor, schedule: Schedule, memory: int = 8) -> torch.Tensor:
    """The best point visited by limited-memory BFGS from `start`, with a backtracking line search.

    Args:
        memory: steps that curvature is learnt from.
    """
    x, (loss, gradient) = start, _copied(objective(start))
    convergence = Convergence(schedule.tolerance, window=3)
    convergence.reached(loss)
    steps: deque[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = deque(maxlen=memory)
    evaluations = 1
    while evaluations < schedule.iterations:
        direction = _two_loops(gradient, steps)
        slope, largest = _measured(direction, gradient)
        if not slope < 0:  # rounding has spoilt what was learnt
            steps.clear()
            direction = -gradient
            slope, largest = _measured(direction, gradient)
        if not largest > 0 or not math.isfinite(largest):
            break
        length = 1.0 if steps else schedule.rate / largest
        while evaluations < schedule.iterations:
            trial = x + length * direction
            trial_loss, trial_gradient = objective(trial)
            evaluations += 1
            if trial_loss <= loss + 1e-4 * length * slope:
                break
            # the minimum of the parabola through what is known, within bounds
            bent = 2 * (trial_loss - loss - length * slope)
            shorter = -slope * length ** 2 / bent if math.isfinite(bent) and bent > 0 else 0.0
            length = min(max(shorter, 0.1 * length), 0.5 * length)
            if length * largest < 1e-4 * schedule.rate:
                return x
        else:
            return x
        step, change = trial - x, trial_gradient - gradient
        curvature = numerics.dot(step, change)
        if bool(curvature > 1e-10 * numerics.dot(change, change)):
            steps.append((step, change, curvature))
        x, loss, gradient = trial, trial_loss, trial_gradient.clone()
        if convergence.reached(loss):
            break
    return x


def _copied(evaluated: tuple[float, torch.Tensor]) -> tuple[float, torch.Tensor]:
    return evaluated[0], evaluated[1].clone()


def _two_loops(gradient: torch.Tensor, steps: deque) -> torch.Tensor:
    """Minus the inverse Hessian, as far as the steps tell, times the gradient."""
    direction, shares = -gradient, []
    for step, change, curvature in reversed(steps):
        shares.append(numerics.dot(step, direction) / curvature)
        numerics.add_scaled(direction, change, -shares[-1])
    if steps:
        _, change, curvature = steps[-1]
        direction.mul_(curvature / numerics.dot(change, change))
    for (step, change, curvature), share in zip(steps, reversed(shares), strict=True):
        numerics.add_scaled(direction, step, share - numerics.dot(change, direction) / curvature)
    return direction


def _measured(direction: torch.Tensor, gradient: torch.Tensor) -> list[float]:
    """Slope of the loss along `direction`, and its largest entry."""
    return numerics.read(numerics.dot(direction, gradient), direction.abs().max())


def adam(objective: Objective, start: torch.Tensor, schedule: Schedule) -> torch.Tensor:
    """The best point visited by Adam from `start`, with a rate that decays along a cosine."""
    x = start.clone()
    stepper = Adam(x, schedule.rate, schedule.final, schedule.iterations)
    convergence = Convergence(schedule.tolerance)
    best, least = start, math.inf
    for iteration in range(schedule.iterations):
        loss, gradient = objective(x)
        if loss < least:
            best, least = x.clone(), loss
        if convergence.reached(loss) or iteration + 1 == schedule.iterations:
            break
        stepper.step(gradient)
    return best


class Adam:
    """Steps of a tensor against gradients.

    Args:
        parameters: changed in place.
        rate: first learning rate: about the length of the first step of every entry.
        final: share of `rate` left at the end.
        iterations: steps after which the rate has decayed.
    """

    BETA1, BETA2 = 0.9, 0.999
    #: Added to the root mean square of an entry's gradient, as a share of that of the whole first gradient: entries
    #: that nothing pulls on then stay where they are.
    EPSILON = 1e-3

    def __init__(self, parameters: torch.Tensor, rate: float, final: float, iterations: int):
        self.parameters = parameters
        self.rate, self.final, self.iterations = rate, final, iterations
        self.first = torch.zeros_like(parameters)
        self.second = torch.zeros_like(parameters)
        self.step_count = 0
        self.epsilon = 0.0

    def step(self, gradient: torch.Tensor) -> None:
        """One step down."""
        if self.epsilon == 0:
            square, = numerics.read(numerics.dot(gradient, gradient))
            self.epsilon = self.EPSILON * math.sqrt(square / gradient.numel()) or 1e-30
        decay = self.final + (1 - self.final) * 0.5 * (1 + math.cos(math.pi * self.step_count / self.iterations))
        self.step_count += 1
        self.first.mul_(self.BETA1).add_(gradient, alpha=1 - self.BETA1)
        self.second.mul_(self.BETA2).addcmul_(gradient, gradient, value=1 - self.BETA2)
        scale = (self.second / (1 - self.BETA2 ** self.step_count)).sqrt_().add_(self.epsilon)
        self.parameters.addcdiv_(self.first, scale, value=-self.rate * decay / (1 - self.BETA1 ** self.step_count))


#: By the name that settings give.
OPTIMISERS = {"lbfgs": lbfgs, "adam": adam}
