"""The optimisers of ITK's registration framework v4, by the rules that SimpleITK documents for them.

Each takes a :class:`Problem`, whose derivative points downhill, and reports every iteration. What is written here after
ITK's documentation: gradient descent with a step that moves no point farther than a given distance, regular steps that
shrink when the direction turns round (itk::RegularStepGradientDescentOptimizerv4), golden section line searches, and
Polak-Ribiere conjugate gradients.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable

import numpy as np

from pymasr.sitk.free import Free
from pymasr.sitk.metric import Metric
from pymasr.sitk.scales import ScalesEstimator

NEVER, ONCE, EACH_ITERATION = range(3)
_EPSILON, _LARGEST = float(np.finfo(float).eps), float(np.finfo(float).max)


class Problem:
    """What an optimiser sees of a level.

    Attributes:
        metric, free: see there.
        scales: (parameters,) or, with local support, (3,); steps are divided by them. None: all 1.
        given_scales: those of the user alone.
        weights: the same; steps are multiplied by them.
        estimator: of scales and steps, or None.
    """

    def __init__(self, metric: Metric, free: Free, scales: np.ndarray | None, weights: np.ndarray | None,
                 estimator: ScalesEstimator | None):
        self.metric, self.free, self.weights, self.estimator = metric, free, weights, estimator
        self.given_scales = scales
        self.scales = scales if estimator is None else estimator.scales()

    @property
    def position(self) -> np.ndarray:
        return self.free.parameters

    @position.setter
    def position(self, parameters: np.ndarray) -> None:
        self.free.parameters = parameters

    def scaled(self, gradient: np.ndarray) -> np.ndarray:
        factor = 1.0 if self.weights is None else self.weights
        if self.scales is not None:
            factor = factor / self.scales
        if np.ndim(factor) == 0:
            return gradient * factor
        return (gradient.reshape(-1, len(factor)) * factor).ravel()


class Optimiser(ABC):
    """State that SimpleITK's getters show, beside the descent.

    Attributes:
        name: of ITK's class.
        iteration: done.
        value: of the metric, where it was last looked at.
        learning_rate, convergence_value: of optimisers that have them, else 0.
        description: why it stopped.
        stopped: whether somebody asked it to.
    """

    name = ""

    def __init__(self):
        self.iteration, self.value = 0, 0.0
        self.learning_rate = self.convergence_value = 0.0
        self.description, self.stopped = "", False

    def stop(self, reason: str) -> None:
        self.description = f"{self.name}: {reason}"

    @property
    def can_be_stopped(self) -> bool:
        """Whether StopRegistration works."""
        return True

    def run(self, problem: Problem, report: Callable[[], None]) -> None:
        """Descend at a level; `report` is called at every iteration. As in ITK one optimiser serves all levels: what it
        has learnt of step lengths stays."""
        self.iteration, self.description, self.stopped = 0, "", False
        self.problem, self.report = problem, report
        self.descend()

    @abstractmethod
    def descend(self) -> None:
        """Change the problem's position."""


class Convergence:
    """Slope of the last values, as shares of all that were seen: itk::WindowConvergenceMonitoringFunction.

    A line (a linear B-spline of two control points, fitted as in Lee, Wolberg and Shin, IEEE Trans. Vis. Comput. Graph.
    3, 1997) goes through the last `window` values over [0, 1].
    """

    def __init__(self, window: int):
        self.values: deque[float] = deque(maxlen=window)
        self.total = 0.0

    def add(self, value: float) -> float:
        """Minus the slope, or the largest number while there are too few values."""
        self.values.append(value)
        self.total += abs(value)
        window = self.values.maxlen
        if len(self.values) < window or window < 2:
            return _LARGEST
        t = np.arange(window) / (window - 1)
        values = np.array(self.values) / self.total
        shares = (1 - t) ** 2 + t ** 2
        left, right = ((w ** 3 * values / shares).sum() / (w ** 2).sum() for w in (1 - t, t))
        return float(left - right)


class GradientDescent(Optimiser):
    """Steps along the scaled gradient.

    Args:
        learning_rate: factor of the gradient, unless it is estimated.
        iterations: at most.
        minimum_convergence, window: it stops when :class:`Convergence` over the last `window` values falls to this;
            None never does.
        estimate: when the rate is taken such that a step moves no point by more than `largest_step`: NEVER, ONCE
            (before the first step) or EACH_ITERATION. Nothing is estimated without a scales estimator.
        largest_step: mm (voxels with the index estimator); 0 is the smallest virtual spacing.
        keep_best: whether it ends at the best position seen.
    """

    name = "GradientDescentOptimizerv4Template"

    def __init__(self, learning_rate: float, iterations: int, minimum_convergence: float | None = 1e-6,
                 window: int = 10, estimate: int = ONCE, largest_step: float = 0.0, keep_best: bool = False):
        super().__init__()
        self.learning_rate, self.iterations, self.minimum_convergence = learning_rate, iterations, minimum_convergence
        self.window, self.estimate, self.largest_step, self.keep_best = window, estimate, largest_step, keep_best

    def descend(self):
        problem = self.problem
        if problem.estimator is not None and self.largest_step <= _EPSILON:
            self.largest_step = problem.estimator.largest_step()
        convergence = None if self.minimum_convergence is None else Convergence(self.window)
        self.start()
        best, least = problem.position, _LARGEST
        while True:
            if self.stopped:
                self.stop("StopOptimization() called.")
                break
            if self.iteration >= self.iterations:
                self.stop(f"Maximum number of iterations ({self.iterations}) exceeded.")
                break
            self.value, gradient = problem.metric.value_and_derivative()
            if convergence is not None:
                self.convergence_value = convergence.add(self.value)
                if self.convergence_value <= self.minimum_convergence:
                    self.stop(f"Convergence checker passed at iteration {self.iteration}.")
                    break
            if not self.step(gradient):
                break
            if self.keep_best and self.value < least:
                best, least = problem.position, self.value
            self.iteration += 1
        if self.keep_best:
            problem.position = best
            self.value = least if least < _LARGEST else self.value

    def start(self) -> None:
        """Whatever a descent begins with."""

    def step(self, gradient: np.ndarray) -> bool:
        """Move along the gradient; False to stop."""
        gradient = self.problem.scaled(gradient)
        self.estimate_rate(gradient)
        self.problem.position = self.problem.free.updated(gradient * self.learning_rate)
        self.report()
        return True

    def estimate_rate(self, gradient: np.ndarray) -> None:
        if self.problem.estimator is None or not (
                self.estimate == EACH_ITERATION or (self.estimate == ONCE and self.iteration == 0)):
            return
        scale = self.problem.estimator.step_scale(gradient)
        self.learning_rate = self.largest_step / scale if scale > _EPSILON else 1.0


class RegularStep(GradientDescent):
    """Steps of a given length, which shrinks by `relaxation` whenever the gradient turns round.

    Args:
        minimum_step: it stops at shorter steps.
        tolerance: it stops at shorter scaled gradients.
    """

    name = "RegularStepGradientDescentOptimizerv4"

    def __init__(self, learning_rate: float, minimum_step: float, iterations: int, relaxation: float = 0.5,
                 tolerance: float = 1e-4, estimate: int = NEVER, largest_step: float = 0.0):
        super().__init__(learning_rate, iterations, None, estimate=estimate, largest_step=largest_step)
        self.minimum_step, self.relaxation, self.tolerance = minimum_step, relaxation, tolerance
        self.convergence_value = _LARGEST

    def start(self):
        self.shrinkage, self.previous = 1.0, None

    def step(self, gradient):
        gradient = self.problem.scaled(gradient)
        length = math.sqrt(float((gradient * gradient).sum()))
        if length < self.tolerance:
            self.stop(f"Gradient magnitude tolerance met after {self.iteration} iterations. Gradient magnitude "
                      f"({length:g}) is less than gradient magnitude tolerance ({self.tolerance:g}).")
            return False
        if self.previous is not None and float((gradient * self.previous).sum()) < 0:
            self.shrinkage *= self.relaxation
        if self.shrinkage * self.learning_rate < self.minimum_step:
            self.stop(f"Step too small after {self.iteration} iterations. Current step "
                      f"({self.shrinkage * self.learning_rate:g}) is less than minimum step ({self.minimum_step:g}).")
            return False
        if self.problem.estimator is not None and (
                self.estimate == EACH_ITERATION or (self.estimate == ONCE and self.iteration == 0)):
            self.estimate_rate(gradient)
            self.learning_rate *= length
        self.previous = gradient
        self.problem.position = self.problem.free.updated(gradient * self.shrinkage * self.learning_rate, 1 / length)
        self.report()
        return True


class LineSearch(GradientDescent):
    """Gradient descent whose every step is the minimum along the gradient, found by golden sections.

    Args:
        lower, upper: multiples of the learning rate between which the minimum is sought.
        accuracy: relative width at which the search ends.
        most_sections: of a search.
    """

    name = "GradientDescentLineSearchOptimizerv4Template"
    _SHARE = 2 - 1.618034

    def __init__(self, learning_rate: float, iterations: int, minimum_convergence: float = 1e-6, window: int = 10,
                 lower: float = 0.0, upper: float = 5.0, accuracy: float = 0.01, most_sections: int = 20,
                 estimate: int = ONCE, largest_step: float = 0.0):
        super().__init__(learning_rate, iterations, minimum_convergence, window, estimate, largest_step, keep_best=True)
        self.lower, self.upper, self.accuracy, self.most_sections = lower, upper, accuracy, most_sections

    def direction(self, gradient: np.ndarray) -> np.ndarray:
        return gradient

    def step(self, gradient):
        gradient = self.problem.scaled(gradient)
        if self.iteration == 0:
            self.estimate_rate(gradient)
        direction = self.direction(gradient)
        self.learning_rate = self._search(direction)
        self.problem.position = self.problem.free.updated(direction * self.learning_rate)
        self.report()
        return True

    def _search(self, direction: np.ndarray) -> float:
        """The rate at the minimum between the limits."""
        here = self.problem.position

        def value(rate: float) -> float:
            self.problem.position = self.problem.free.updated(direction * rate)
            found = self.problem.metric.value()
            self.problem.position = here
            return found

        a, b, c = (self.learning_rate * limit for limit in (self.lower, 1.0, self.upper))
        at_b = None
        for _ in range(self.most_sections + 1):
            right = c - b > b - a
            x = b + self._SHARE * (c - b) if right else b - self._SHARE * (b - a)
            if abs(c - a) < self.accuracy * (abs(b) + abs(x)):
                break
            at_x = value(x)
            at_b = value(b) if at_b is None else at_b
            if at_x < at_b:
                a, b, c, at_b = (b, x, c, at_x) if right else (a, x, b, at_x)
            elif right:
                c = x
            elif at_x == _LARGEST:  # neither place can be compared: back towards where that was possible
                a, b, c = a, x, b
            else:
                a = x
        return (a + c) / 2


class ConjugateGradient(LineSearch):
    """The same along conjugate directions (Polak and Ribiere), begun anew where their factor is not in [0, 5]."""

    name = "ConjugateGradientLineSearchOptimizerv4Template"

    def start(self):
        self.previous = self.conjugate = None

    def direction(self, gradient):
        factor = 0.0
        if self.previous is not None and (below := float((self.previous ** 2).sum())) > _EPSILON:
            factor = float(((gradient - self.previous) * gradient).sum()) / below
        if self.conjugate is None or factor < 0 or factor > 5:
            factor = 0.0
        self.previous = gradient
        self.conjugate = gradient if factor == 0 else gradient + factor * self.conjugate
        return self.conjugate
