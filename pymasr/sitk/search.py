"""Optimisers that take no gradient steps of their own: quasi-Newton and simplex methods of SciPy, exhaustive and random
search."""

from __future__ import annotations

import importlib.util
import itertools
from collections import deque

import numpy as np

from pymasr.errors import InputError
from pymasr.sitk.optimisers import Optimiser

_TINY, _LARGEST = float(np.finfo(float).tiny), float(np.finfo(float).max)


def require_scipy(method: str) -> None:
    if importlib.util.find_spec("scipy") is None:
        raise InputError(f"{method}: needs SciPy, which is not installed: pip install scipy")


class _Scipy(Optimiser):
    """A minimiser of SciPy."""

    @property
    def can_be_stopped(self):
        return False

    def evaluate(self, position: np.ndarray) -> tuple[float, np.ndarray]:
        """Value and gradient; both are those of the mean, whatever the transform."""
        self.problem.position = position.copy()
        value, downhill = self.problem.metric.value_and_derivative()
        count = max(self.problem.metric.count, 1) if self.problem.free.local else 1
        return value, -downhill / count

    def minimise(self, method: str, function, options: dict, **more):
        from scipy.optimize import minimize

        problem = self.problem

        def after(intermediate_result):
            # what was evaluated last need not be where the iteration ended
            problem.position = self.unscaled(intermediate_result.x)
            self.value = float(intermediate_result.fun)
            self.report()
            self.iteration += 1
            if (reason := self.converged(intermediate_result.x)) is not None:
                self.stop(reason)
                raise StopIteration

        found = minimize(function, self.scaled(problem.position), method=method, callback=after, options=options,
                         **more)
        problem.position, self.value = self.unscaled(found.x), float(found.fun)
        if not self.description:
            self.stop(" ".join(str(found.message).split()))

    def scaled(self, position: np.ndarray) -> np.ndarray:
        return position

    def unscaled(self, position: np.ndarray) -> np.ndarray:
        return position.copy()

    def converged(self, position: np.ndarray) -> str | None:
        """Why to stop here, beside SciPy's own reasons."""
        return None


class LBFGSB(_Scipy):
    """L-BFGS within bounds (Byrd, Lu, Nocedal and Zhu, SIAM J. Sci. Comput. 16, 1995)."""

    name = "LBFGSBOptimizerv4"

    def __init__(self, tolerance: float, iterations: int, corrections: int, evaluations: int, factor: float,
                 lower: float, upper: float):
        super().__init__()
        self.options = {"gtol": tolerance, "maxiter": iterations, "maxcor": corrections, "maxfun": evaluations,
                        "ftol": factor * float(np.finfo(float).eps)}
        self.bounds = (None if lower == _TINY else lower, None if upper == _LARGEST else upper)

    def descend(self):
        bounds = None if self.bounds == (None, None) else [self.bounds] * self.problem.position.size
        self.minimise("L-BFGS-B", self.evaluate, self.options, jac=True, bounds=bounds)


class LBFGS2(_Scipy):
    """L-BFGS without bounds, with the stopping criteria of libLBFGS."""

    name = "LBFGS2Optimizerv4"

    def __init__(self, accuracy: float, iterations: int, corrections: int, distance: int, delta: float,
                 evaluations: int):
        super().__init__()
        self.accuracy, self.distance, self.delta = accuracy, distance, delta
        self.options = {"gtol": 0.0, "ftol": 0.0, "maxiter": iterations or 10 ** 9, "maxfun": 10 ** 9,
                        "maxcor": corrections, "maxls": evaluations}

    def descend(self):
        self.past: deque[float] = deque(maxlen=self.distance + 1)
        self.minimise("L-BFGS-B", self.evaluate, self.options, jac=True)

    def evaluate(self, position):
        value, self.gradient = super().evaluate(position)
        return value, self.gradient

    def converged(self, position):
        length = np.sqrt((self.gradient ** 2).sum()) / max(1.0, np.sqrt((position ** 2).sum()))
        if length < self.accuracy:
            return f"Solution accuracy reached after {self.iteration} iterations."
        self.past.append(self.value)
        if self.distance and len(self.past) > self.distance and (
                self.past[0] - self.value) / abs(self.value or 1.0) < self.delta:
            return f"Delta convergence tolerance reached after {self.iteration} iterations."
        return None


class Amoeba(_Scipy):
    """Downhill simplex (Nelder and Mead) in the scaled parameters."""

    name = "AmoebaOptimizerv4"

    def __init__(self, delta: float, evaluations: int, position_tolerance: float, value_tolerance: float):
        super().__init__()
        self.delta = delta
        self.options = {"maxfev": evaluations, "xatol": position_tolerance, "fatol": value_tolerance}

    def descend(self):
        problem = self.problem
        if problem.free.local:
            raise InputError("SetOptimizerAsAmoeba: must be another optimiser for a displacement field")
        self.factors = np.ones(problem.position.size) if problem.scales is None else np.asarray(problem.scales)
        start = problem.position * self.factors
        simplex = np.vstack([start, start + self.delta * np.eye(start.size)])

        def value(position):
            problem.position = self.unscaled(position)
            return problem.metric.value()

        self.minimise("Nelder-Mead", value, {**self.options, "initial_simplex": simplex})

    def scaled(self, position):
        return position * self.factors

    def unscaled(self, position):
        return position / self.factors


class Exhaustive(Optimiser):
    """Values on a grid of parameters around the start; it ends at the least.

    Args:
        steps: to either side, for each parameter.
        length: of a step, times the parameter's scale if the user set scales.
    """

    name = "ExhaustiveOptimizerv4"

    def __init__(self, steps: list[int], length: float):
        super().__init__()
        self.steps, self.length = steps, length

    def descend(self):
        problem, start = self.problem, self.problem.position
        if len(self.steps) != start.size:
            raise InputError(f"SetOptimizerAsExhaustive: must be given {start.size} numbers of steps for this "
                             f"transform, got {len(self.steps)}")
        step = self.length * (np.ones(start.size) if problem.given_scales is None else problem.given_scales)
        best, least = start, _LARGEST
        # the first parameter changes fastest
        for index in itertools.product(*(range(-n, n + 1) for n in reversed(self.steps))):
            problem.position = start + np.array(index[::-1]) * step
            self.value = problem.metric.value()
            if self.value < least:
                best, least = problem.position, self.value
            self.report()
            self.iteration += 1
            if self.stopped:
                self.stop("StopOptimization() called.")
                break
        else:
            self.stop(f"Completed sampling of parametric space of size {start.size}")
        problem.position, self.value = best, least


class OnePlusOne(Optimiser):
    """(1+1) evolution strategy (Styner, Brechbuehler, Szekely and Gerig, IEEE Trans. Med. Imaging 19, 2000): steps
    drawn from a normal distribution that grows along successes and shrinks along failures."""

    name = "OnePlusOneEvolutionaryOptimizerv4"

    def __init__(self, iterations: int, epsilon: float, radius: float, growth: float, shrink: float, seed: int):
        super().__init__()
        self.iterations, self.epsilon, self.radius = iterations, epsilon, radius
        self.growth = 1.05 if growth == -1 else growth
        self.shrink = self.growth ** -0.25 if shrink == -1 else shrink
        self.generator = np.random.default_rng(seed or None)

    def descend(self):
        problem = self.problem
        if problem.free.local:
            raise InputError("SetOptimizerAsOnePlusOneEvolutionary: must be another optimiser for a displacement field")
        spread = self.radius * np.eye(problem.position.size)
        if problem.scales is not None:
            spread /= np.asarray(problem.scales)
        parent, self.value = problem.position, problem.metric.value()
        for _ in range(self.iterations):
            if self.stopped:
                self.stop("StopOptimization() called.")
                break
            drawn = self.generator.standard_normal(parent.size)
            step = (spread * drawn).sum(1)
            problem.position = parent + step
            value = problem.metric.value()
            better = value < self.value
            if better:
                parent, self.value = problem.position, value
            problem.position = parent
            self.report()
            self.iteration += 1
            length = float(np.sqrt((spread ** 2).sum()))
            if length <= self.epsilon:
                self.stop(f"Fnorm ({length:g}) is less than Epsilon ({self.epsilon:g}) at iteration #{self.iteration}")
                break
            change = (self.growth if better else self.shrink) - 1
            spread += change / (drawn ** 2).sum() * np.outer(step, drawn)
        else:
            self.stop(f"Maximum number of iterations ({self.iterations}) exceeded.")
