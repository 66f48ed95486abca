"""Adam (Kingma and Ba, ICLR 2015) on one tensor, without a graph, with a learning rate that decays along a cosine."""

from __future__ import annotations

import math

import torch


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
            # summed in NumPy: one thread, so the bits don't depend on the number of threads
            self.epsilon = self.EPSILON * math.sqrt(float((gradient.double().numpy() ** 2).mean())) or 1e-30
        decay = self.final + (1 - self.final) * 0.5 * (1 + math.cos(math.pi * self.step_count / self.iterations))
        self.step_count += 1
        self.first.mul_(self.BETA1).add_(gradient, alpha=1 - self.BETA1)
        self.second.mul_(self.BETA2).addcmul_(gradient, gradient, value=1 - self.BETA2)
        scale = (self.second / (1 - self.BETA2 ** self.step_count)).sqrt_().add_(self.epsilon)
        self.parameters.addcdiv_(self.first, scale, value=-self.rate * decay / (1 - self.BETA1 ** self.step_count))
