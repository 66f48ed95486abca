"""SimpleITK's ImageRegistrationMethod with descriptors for a metric: same names, same meanings."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import SimpleITK as sitk
import torch

from pymasr.errors import InputError
from pymasr.geometry import Geometry
from pymasr.io import Image, as_image, as_mask
from pymasr.registration.channels import Channels, ChannelSource, Extractor
from pymasr.sitk import optimisers, search
from pymasr.sitk.free import Free, FreeField, Points, as_free
from pymasr.sitk.images import geometry_of
from pymasr.sitk.maps import Chain, LinearMap, Map, about, as_map
from pymasr.sitk.metric import Masks, Metric
from pymasr.sitk.optimisers import Optimiser, Problem
from pymasr.sitk.scales import ScalesEstimator

#: The seed for which SimpleITK takes the time.
_WALL_CLOCK = 0
_EVENTS = (sitk.sitkStartEvent, sitk.sitkEndEvent, sitk.sitkIterationEvent, sitk.sitkMultiResolutionIterationEvent,
           sitk.sitkAnyEvent)
#: Methods of SimpleITK's class that mean something else than descriptors, or that its users can do without, and why.
_REFUSED = {
    **{f"SetMetricAs{name}": "this class compares descriptors; take SimpleITK.ImageRegistrationMethod for that metric"
       for name in ("ANTSNeighborhoodCorrelation", "Correlation", "Demons", "JointHistogramMutualInformation",
                    "MattesMutualInformation", "MeanSquares")},
    **{f"MetricUse{image}ImageGradientFilter{state}":
       "the derivative is that of the linear interpolation itself, no gradient filter is used"
       for image in ("Fixed", "Moving") for state in ("On", "Off")},
    **{f"SetMetricUse{image}ImageGradientFilter":
       "the derivative is that of the linear interpolation itself, no gradient filter is used"
       for image in ("Fixed", "Moving")},
    "SetOptimizerAsPowell": "it is not supported; take SetOptimizerAsConjugateGradientLineSearch or, without "
                            "derivatives, SetOptimizerAsAmoeba",
    "Abort": "it is not supported; call StopRegistration in a command",
}


class ImageRegistrationMethod:
    """Registration of 3-D SimpleITK images by the squared difference of their descriptors.

    Methods have the names, arguments, defaults and meaning of :class:`SimpleITK.ImageRegistrationMethod`; instead of a
    metric of intensities there is :meth:`SetMetricAsDSIR`. What can't be honoured raises
    :class:`pymasr.errors.InputError`.

    Features are made anew at every level: on isotropic voxels whose edge is the shrink factor times the finer image's,
    from images smoothed as the level says (no less than its voxels ask for), along axes that agree in the anatomy under
    the transform that the level starts from. Their difference is averaged over the voxels of the virtual domain, shrunk
    as the level says, or over points sampled from it. The same input and settings (and, for sampling, the same seed)
    give the same bits, whatever the number of threads.
    """

    NONE, REGULAR, RANDOM = (sitk.ImageRegistrationMethod.NONE, sitk.ImageRegistrationMethod.REGULAR,
                             sitk.ImageRegistrationMethod.RANDOM)
    Never, Once, EachIteration = optimisers.NEVER, optimisers.ONCE, optimisers.EACH_ITERATION

    def __init__(self):
        self._features: Any = None
        self._masks: dict[str, sitk.Image] = {}
        self._initial: sitk.Transform | None = None
        self._in_place, self._scale_factors = True, ()
        self._around = {"fixed": sitk.Transform(3, sitk.sitkIdentity), "moving": sitk.Transform(3, sitk.sitkIdentity)}
        self._virtual: Geometry | None = None
        self._shrink, self._sigmas, self._in_mm = [1], [0.0], True
        self._sampling, self._percentages, self._seed = self.NONE, [1.0], _WALL_CLOCK
        self._make_optimiser: Callable[[], Optimiser] | None = None
        self._scales: np.ndarray | None = None
        self._weights: np.ndarray | None = None
        self._estimator: dict | None = None
        self._commands: list[tuple[int, Callable[[], Any]]] = []
        self._optimiser: Optimiser | None = None
        self._problem: Problem | None = None
        self._running, self._level = False, 0

    def __getattr__(self, name):
        if name in _REFUSED:
            raise InputError(f"{name}: {_REFUSED[name]}")
        if hasattr(sitk.ImageRegistrationMethod, name):
            raise InputError(f"{name}: pymasr.sitk.ImageRegistrationMethod does not have it")
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def GetName(self) -> str:
        return "ImageRegistrationMethod"

    # the metric

    def SetMetricAsDSIR(self, features: str | Extractor | Sequence = "masr") -> None:
        """Compare descriptors: the mean over points and channels of the squared difference, divided by that of
        unrelated voxels: 0 for a perfect match, about 1 for none. That is of the order of a mutual information, which
        the tolerances in scripts are made for.

        Args:
            features: "masr", "dsir", "dns", "mind", with parameters, or a weighted sum (see
                :func:`pymasr.features.parse`); a function of an image (D, H, W) float32 in [0, 1] with isotropic voxels
                to features (C, D, H, W); or a pair (fixed, moving) of feature volumes on the images' own grids,
                SimpleITK vector images or arrays (C, D, H, W). Volumes that are given are smoothed at each level as the
                images would be, never made anew, and the metric is their mean squared difference itself.
        """
        if isinstance(features, (tuple, list)):
            features = tuple(_volume(volume) for volume in features)
        self._features = features

    def SetMetricFixedMask(self, binaryMask: sitk.Image) -> None:
        """Only points of the fixed image where this is not 0 count."""
        self._masks["fixed"] = binaryMask

    def SetMetricMovingMask(self, binaryMask: sitk.Image) -> None:
        """Only points whose place in the moving image is not 0 in this count."""
        self._masks["moving"] = binaryMask

    def SetMetricSamplingStrategy(self, strategy: int) -> None:
        """NONE: all voxels of the virtual domain; REGULAR or RANDOM: some of them, moved at random by about a third of
        a voxel."""
        _require(strategy in (self.NONE, self.REGULAR, self.RANDOM), "SetMetricSamplingStrategy",
                 "NONE, REGULAR or RANDOM", strategy)
        self._sampling = strategy

    def SetMetricSamplingPercentage(self, percentage: float, seed: int = _WALL_CLOCK) -> None:
        """Share (0 to 1) of the voxels that are sampled; seed 0 takes the clock's."""
        self.SetMetricSamplingPercentagePerLevel([percentage], seed)

    def SetMetricSamplingPercentagePerLevel(self, percentage: Sequence[float], seed: int = _WALL_CLOCK) -> None:
        percentage = [float(p) for p in percentage]
        _require(percentage and all(0 < p <= 1 for p in percentage), "SetMetricSamplingPercentage",
                 "shares within 0 and 1", percentage)
        self._percentages, self._seed = percentage, int(seed)

    def GetMetricSamplingPercentagePerLevel(self) -> tuple[float, ...]:
        return tuple(self._percentages)

    def SetInterpolator(self, Interpolator: int) -> None:
        """Only sitkLinear: the fused kernels interpolate features linearly."""
        _require(Interpolator == sitk.sitkLinear, "SetInterpolator", "sitkLinear, in which features are interpolated",
                 Interpolator)

    def GetInterpolator(self) -> int:
        return sitk.sitkLinear

    # transforms

    def SetInitialTransform(self, transform: sitk.Transform, inPlace: bool = True) -> None:
        """The transform to optimise, from the virtual domain to the moving image; of a composite, what was added
        last."""
        _require(isinstance(transform, sitk.Transform), "SetInitialTransform", "a SimpleITK transform",
                 type(transform).__name__)
        self._initial, self._in_place, self._scale_factors = transform, bool(inPlace), ()

    def SetInitialTransformAsBSpline(self, transform: sitk.BSplineTransform, inPlace: bool = True,
                                     scaleFactors: Sequence[int] = ()) -> None:
        """The same; at level k the mesh is `scaleFactors[k]` times as fine as that of `transform` (0: as it was)."""
        _require(isinstance(transform, sitk.BSplineTransform), "SetInitialTransformAsBSpline", "a BSplineTransform",
                 type(transform).__name__)
        self.SetInitialTransform(transform, inPlace)
        self._scale_factors = tuple(int(factor) for factor in scaleFactors)

    def GetInitialTransform(self) -> sitk.Transform:
        return sitk.Transform() if self._initial is None else self._initial

    def GetInitialTransformInPlace(self) -> bool:
        return self._in_place

    def SetMovingInitialTransform(self, transform: sitk.Transform) -> None:
        """Applied after the optimised one, not changed and not part of the result. As in SimpleITK, a linear transform
        that is optimised is given its centre of rotation."""
        self._around["moving"] = transform

    def GetMovingInitialTransform(self) -> sitk.Transform:
        return self._around["moving"]

    def SetFixedInitialTransform(self, transform: sitk.Transform) -> None:
        """From the virtual domain to the fixed image."""
        self._around["fixed"] = transform

    def GetFixedInitialTransform(self) -> sitk.Transform:
        return self._around["fixed"]

    def SetVirtualDomain(self, virtualSize: Sequence[int], virtualOrigin: Sequence[float],
                         virtualSpacing: Sequence[float], virtualDirection: Sequence[float]) -> None:
        """The grid over whose points the metric is averaged; by default that of the fixed image."""
        self._virtual = Geometry(tuple(int(n) for n in reversed(virtualSize)), tuple(map(float, virtualSpacing)),
                                 tuple(map(float, virtualOrigin)), tuple(map(float, virtualDirection)))

    def SetVirtualDomainFromImage(self, virtualImage: sitk.Image) -> None:
        self._virtual = geometry_of(virtualImage)

    # levels

    def SetShrinkFactorsPerLevel(self, shrinkFactors: Sequence[int]) -> None:
        """By how much the virtual domain and the features' grids are coarser, at each level."""
        factors = [int(factor) for factor in shrinkFactors]
        _require(factors and min(factors) >= 1, "SetShrinkFactorsPerLevel", "whole numbers of at least 1",
                 shrinkFactors)
        self._shrink = factors

    def SetSmoothingSigmasPerLevel(self, smoothingSigmas: Sequence[float]) -> None:
        """Standard deviation of the Gaussian that the images are smoothed with, at each level: mm or voxels."""
        sigmas = [float(sigma) for sigma in smoothingSigmas]
        _require(sigmas and min(sigmas) >= 0, "SetSmoothingSigmasPerLevel", "numbers of at least 0", smoothingSigmas)
        self._sigmas = sigmas

    def SetSmoothingSigmasAreSpecifiedInPhysicalUnits(self, arg: bool) -> None:
        self._in_mm = bool(arg)

    def SmoothingSigmasAreSpecifiedInPhysicalUnitsOn(self) -> None:
        self._in_mm = True

    def SmoothingSigmasAreSpecifiedInPhysicalUnitsOff(self) -> None:
        self._in_mm = False

    def GetCurrentLevel(self) -> int:
        return self._level

    # optimisers

    def SetOptimizerAsGradientDescent(self, learningRate: float, numberOfIterations: int,
                                      convergenceMinimumValue: float = 1e-6, convergenceWindowSize: int = 10,
                                      estimateLearningRate: int = optimisers.ONCE,
                                      maximumStepSizeInPhysicalUnits: float = 0.0) -> None:
        self._make_optimiser = lambda: optimisers.GradientDescent(
            learningRate, numberOfIterations, convergenceMinimumValue, convergenceWindowSize, estimateLearningRate,
            maximumStepSizeInPhysicalUnits)

    def SetOptimizerAsRegularStepGradientDescent(self, learningRate: float, minStep: float, numberOfIterations: int,
                                                 relaxationFactor: float = 0.5,
                                                 gradientMagnitudeTolerance: float = 1e-4,
                                                 estimateLearningRate: int = optimisers.NEVER,
                                                 maximumStepSizeInPhysicalUnits: float = 0.0) -> None:
        _require(0 <= relaxationFactor < 1, "SetOptimizerAsRegularStepGradientDescent",
                 "given a relaxationFactor of at least 0 and below 1", relaxationFactor)
        self._make_optimiser = lambda: optimisers.RegularStep(
            learningRate, minStep, numberOfIterations, relaxationFactor, gradientMagnitudeTolerance,
            estimateLearningRate, maximumStepSizeInPhysicalUnits)

    def SetOptimizerAsGradientDescentLineSearch(
            self, learningRate: float, numberOfIterations: int, convergenceMinimumValue: float = 1e-6,
            convergenceWindowSize: int = 10, lineSearchLowerLimit: float = 0, lineSearchUpperLimit: float = 5.0,
            lineSearchEpsilon: float = 0.01, lineSearchMaximumIterations: int = 20,
            estimateLearningRate: int = optimisers.ONCE, maximumStepSizeInPhysicalUnits: float = 0.0) -> None:
        self._make_optimiser = lambda: optimisers.LineSearch(
            learningRate, numberOfIterations, convergenceMinimumValue, convergenceWindowSize, lineSearchLowerLimit,
            lineSearchUpperLimit, lineSearchEpsilon, lineSearchMaximumIterations, estimateLearningRate,
            maximumStepSizeInPhysicalUnits)

    def SetOptimizerAsConjugateGradientLineSearch(
            self, learningRate: float, numberOfIterations: int, convergenceMinimumValue: float = 1e-6,
            convergenceWindowSize: int = 10, lineSearchLowerLimit: float = 0, lineSearchUpperLimit: float = 5.0,
            lineSearchEpsilon: float = 0.01, lineSearchMaximumIterations: int = 20,
            estimateLearningRate: int = optimisers.ONCE, maximumStepSizeInPhysicalUnits: float = 0.0) -> None:
        self._make_optimiser = lambda: optimisers.ConjugateGradient(
            learningRate, numberOfIterations, convergenceMinimumValue, convergenceWindowSize, lineSearchLowerLimit,
            lineSearchUpperLimit, lineSearchEpsilon, lineSearchMaximumIterations, estimateLearningRate,
            maximumStepSizeInPhysicalUnits)

    def SetOptimizerAsLBFGSB(self, gradientConvergenceTolerance: float = 1e-5, numberOfIterations: int = 500,
                             maximumNumberOfCorrections: int = 5, maximumNumberOfFunctionEvaluations: int = 2000,
                             costFunctionConvergenceFactor: float = 1e7,
                             lowerBound: float = float(np.finfo(float).tiny),
                             upperBound: float = float(np.finfo(float).max), trace: bool = False) -> None:
        """SciPy's L-BFGS-B. As in SimpleITK, the default bounds are none, and scales are not looked at."""
        _require(not trace, "SetOptimizerAsLBFGSB", "given no trace", trace)
        search.require_scipy("SetOptimizerAsLBFGSB")
        self._make_optimiser = lambda: search.LBFGSB(
            gradientConvergenceTolerance, numberOfIterations, maximumNumberOfCorrections,
            maximumNumberOfFunctionEvaluations, costFunctionConvergenceFactor, lowerBound, upperBound)

    def SetOptimizerAsLBFGS2(self, solutionAccuracy: float = 1e-5, numberOfIterations: int = 0,
                             hessianApproximateAccuracy: int = 6, deltaConvergenceDistance: int = 0,
                             deltaConvergenceTolerance: float = 1e-5, lineSearchMaximumEvaluations: int = 40,
                             lineSearchMinimumStep: float = 1e-20, lineSearchMaximumStep: float = 1e20,
                             lineSearchAccuracy: float = 1e-4) -> None:
        """SciPy's L-BFGS, whose line search has no other steps and accuracy than the defaults."""
        for name, value, default in (("lineSearchMinimumStep", lineSearchMinimumStep, 1e-20),
                                     ("lineSearchMaximumStep", lineSearchMaximumStep, 1e20),
                                     ("lineSearchAccuracy", lineSearchAccuracy, 1e-4)):
            _require(value == default, f"SetOptimizerAsLBFGS2: {name}", f"{default:g}, no other is supported", value)
        search.require_scipy("SetOptimizerAsLBFGS2")
        self._make_optimiser = lambda: search.LBFGS2(
            solutionAccuracy, numberOfIterations, hessianApproximateAccuracy, deltaConvergenceDistance,
            deltaConvergenceTolerance, lineSearchMaximumEvaluations)

    def SetOptimizerAsAmoeba(self, simplexDelta: float, numberOfIterations: int,
                             parametersConvergenceTolerance: float = 1e-8, functionConvergenceTolerance: float = 1e-4,
                             withRestarts: bool = False) -> None:
        """SciPy's Nelder-Mead simplex; iterations are evaluations, as in SimpleITK."""
        _require(not withRestarts, "SetOptimizerAsAmoeba", "given no restarts, which are not supported", withRestarts)
        search.require_scipy("SetOptimizerAsAmoeba")
        self._make_optimiser = lambda: search.Amoeba(simplexDelta, numberOfIterations, parametersConvergenceTolerance,
                                                     functionConvergenceTolerance)

    def SetOptimizerAsExhaustive(self, numberOfSteps: Sequence[int], stepLength: float = 1.0) -> None:
        steps = [int(n) for n in numberOfSteps]
        _require(steps and min(steps) >= 0, "SetOptimizerAsExhaustive", "given numbers of steps of at least 0",
                 numberOfSteps)
        self._make_optimiser = lambda: search.Exhaustive(steps, stepLength)

    def SetOptimizerAsOnePlusOneEvolutionary(self, numberOfIterations: int = 100, epsilon: float = 1.5e-4,
                                             initialRadius: float = 1.01, growthFactor: float = -1.0,
                                             shrinkFactor: float = -1.0, seed: int = _WALL_CLOCK) -> None:
        self._make_optimiser = lambda: search.OnePlusOne(numberOfIterations, epsilon, initialRadius, growthFactor,
                                                         shrinkFactor, seed)

    def SetOptimizerScales(self, scales: Sequence[float]) -> None:
        """By what steps are divided, one number for every parameter (a displacement field has three)."""
        self._scales, self._estimator = np.array(scales, float), None

    def SetOptimizerWeights(self, weights: Sequence[float]) -> None:
        """By what steps are multiplied, the same; 0 leaves a parameter as it is."""
        self._weights = np.array(weights, float)

    def GetOptimizerWeights(self) -> tuple[float, ...]:
        return () if self._weights is None else tuple(self._weights.tolist())

    def SetOptimizerScalesFromPhysicalShift(self, centralRegionRadius: int = 5,
                                            smallParameterVariation: float = 0.01) -> None:
        self._scales = None
        self._estimator = {"kind": "physical", "radius": int(centralRegionRadius), "variation": smallParameterVariation}

    def SetOptimizerScalesFromIndexShift(self, centralRegionRadius: int = 5,
                                         smallParameterVariation: float = 0.01) -> None:
        self._scales = None
        self._estimator = {"kind": "index", "radius": int(centralRegionRadius), "variation": smallParameterVariation}

    def SetOptimizerScalesFromJacobian(self, centralRegionRadius: int = 5) -> None:
        self._scales, self._estimator = None, {"kind": "jacobian", "radius": int(centralRegionRadius)}

    # commands, and what they can ask for

    def AddCommand(self, event: int, command: Callable[[], Any] | sitk.Command) -> int:
        """Call `command` (a function without arguments, or a sitk.Command) at an event: start, end, iteration,
        multi-resolution iteration, or any of these."""
        _require(event in _EVENTS, "AddCommand", "sitkStartEvent, sitkEndEvent, sitkIterationEvent, "
                 "sitkMultiResolutionIterationEvent or sitkAnyEvent", event)
        if isinstance(command, sitk.Command):
            command = command.Execute
        _require(callable(command), "AddCommand", "given a function or a sitk.Command", command)
        self._commands.append((event, command))
        return len(self._commands)

    def HasCommand(self, event: int) -> bool:
        return any(event == own for own, _ in self._commands)

    def RemoveAllCommands(self) -> None:
        self._commands = []

    def GetOptimizerIteration(self) -> int:
        return 0 if self._optimiser is None else self._optimiser.iteration

    def GetMetricValue(self) -> float:
        return 0.0 if self._optimiser is None else self._optimiser.value

    def GetOptimizerLearningRate(self) -> float:
        return 0.0 if self._optimiser is None or not self._running else self._optimiser.learning_rate

    def GetOptimizerConvergenceValue(self) -> float:
        return 0.0 if self._optimiser is None or not self._running else self._optimiser.convergence_value

    def GetOptimizerPosition(self) -> tuple[float, ...]:
        return tuple(self._problem.position.tolist()) if self._running and self._problem is not None else ()

    def GetOptimizerScales(self) -> tuple[float, ...]:
        """Those that were set; estimated ones while it runs."""
        scales = self._scales
        if self._running and self._problem is not None:
            scales = self._problem.scales
        return () if scales is None else tuple(np.asarray(scales).tolist())

    def GetMetricNumberOfValidPoints(self) -> int:
        return 0 if self._problem is None else self._problem.metric.count

    def GetOptimizerStopConditionDescription(self) -> str:
        return "" if self._optimiser is None else self._optimiser.description

    def StopRegistration(self) -> bool:
        """In a command: end this level after this iteration; as in SimpleITK the next one follows. False where the
        optimiser can't."""
        if not self._running or self._optimiser is None or not self._optimiser.can_be_stopped:
            return False
        self._optimiser.stopped = True
        return True

    # running

    def Execute(self, fixed: sitk.Image, moving: sitk.Image) -> sitk.Transform:
        """The optimised transform: the one that was set, or with ``inPlace=False`` a composite that holds a copy of it.

        Raises:
            pymasr.errors.InputError: a setting is missing or contradicts another, images that can't be used, nothing to
                compare at the start of a level.
        """
        _require(self._initial is not None, "Execute", "called after SetInitialTransform", "no transform")
        _require(self._make_optimiser is not None, "Execute", "called after one of SetOptimizerAs...", "no optimiser")
        levels = len(self._shrink)
        _require(len(self._sigmas) == levels, "SetSmoothingSigmasPerLevel",
                 f"given as many numbers as there are shrink factors, {levels}", self._sigmas)
        percentages = self._percentages * levels if len(self._percentages) == 1 else self._percentages
        _require(len(percentages) == levels, "SetMetricSamplingPercentagePerLevel",
                 f"given as many numbers as there are levels, {levels}", percentages)
        source, images, masks = self._prepared(fixed, moving)
        result = self._initial if self._in_place else _copy(self._initial)
        target, rest = _last(result)
        _take_centre(target, self._around["moving"])
        free = as_free(target, self._scale_factors)
        around = self._moving_map(rest)
        generator = np.random.default_rng(self._seed or None)
        self._optimiser, self._problem = self._make_optimiser(), None
        self._running, self._level = True, 0
        try:
            self._tell(sitk.sitkStartEvent)
            for level, (shrink, sigma, share) in enumerate(zip(self._shrink, self._sigmas, percentages, strict=True)):
                self._level = level
                self._run_level(free, target, result, source, images, masks, around, shrink, sigma, share, generator)
            self._level = levels
            self._write(free, target, result)
            self._tell(sitk.sitkEndEvent)
        finally:
            self._running, self._level = False, 0
        return result.Downcast()

    def MetricEvaluate(self, fixed: sitk.Image, moving: sitk.Image) -> float:
        """The metric with the transforms and masks as they are set, over the whole virtual domain, without smoothing
        and shrinking."""
        source, images, masks = self._prepared(fixed, moving)
        initial = sitk.Transform(3, sitk.sitkIdentity) if self._initial is None else self._initial
        target, rest = _last(initial)
        free = as_free(target) if target.GetNumberOfParameters() else as_free(sitk.TranslationTransform(3))
        moving_map = self._moving_map(rest)
        virtual = self._virtual or images[0].geometry
        free.at_level(virtual)
        channels = self._channels(source, free, moving_map, virtual, 1, 0.0)
        metric = self._metric(free, channels, Points(virtual), moving_map, masks)
        value = metric.value()
        _require_points(metric)
        return value

    def _prepared(self, fixed: sitk.Image, moving: sitk.Image) -> tuple[ChannelSource, tuple[Image, Image], Masks]:
        _require(self._features is not None, "Execute", "called after SetMetricAsDSIR", "no metric")
        images = (as_image(fixed, name="fixed image"), as_image(moving, name="moving image"))
        masks = {}
        for name, image in zip(("fixed", "moving"), images, strict=True):
            mask = self._masks.get(name)
            if mask is not None:
                mask = as_mask(mask, image, name=f"{name} mask")
                masks[name] = (mask.array, mask.geometry)
        return ChannelSource(*images, self._features), images, Masks(**masks)

    def _run_level(self, free: Free, target: sitk.Transform, result: sitk.Transform, source: ChannelSource,
                   images: tuple[Image, Image], masks: Masks, moving_map: Map, shrink: int, sigma: float, share: float,
                   generator: np.random.Generator) -> None:
        virtual = shrunk(self._virtual or images[0].geometry, shrink)
        free.at_level(virtual)
        points = self._points(virtual, share, generator)
        if isinstance(free, FreeField) and points.listed is not None:
            raise InputError("SetMetricSamplingStrategy: must be NONE for a displacement field, of which every voxel "
                             "is needed")
        channels = self._channels(source, free, moving_map, virtual, shrink, sigma)
        metric = self._metric(free, channels, points, moving_map, masks)
        metric.value()
        _require_points(metric)
        estimator = None
        if self._estimator is not None:
            estimator = ScalesEstimator(free=free, after=moving_map, virtual=virtual,
                                        moving=images[1].geometry, **self._estimator)
        size = free.local or free.parameters.size
        for name, given in (("SetOptimizerScales", self._scales), ("SetOptimizerWeights", self._weights)):
            _require(given is None or given.shape == (size,), name, f"given {size} numbers for this transform",
                     None if given is None else given.shape[0])
        self._tell(sitk.sitkMultiResolutionIterationEvent)
        self._problem = Problem(metric, free, self._scales, self._weights, estimator)

        def report() -> None:
            if not free.local:  # writing a whole field at every iteration would cost more than the iteration
                self._write(free, target, result)
            self._tell(sitk.sitkIterationEvent)

        self._optimiser.run(self._problem, report)

    def _moving_map(self, rest: Map | None) -> Map:
        """What follows the optimised transform."""
        after = as_map(self._around["moving"])
        if rest is None:
            return after
        if isinstance(rest, LinearMap) and isinstance(after, LinearMap):
            return LinearMap(after.matrix @ rest.matrix)
        return Chain([rest, after])

    def _metric(self, free: Free, channels: Channels, points: Points, moving_map: Map, masks: Masks) -> Metric:
        return Metric(channels, points, free, as_map(self._around["fixed"]), moving_map, masks)

    def _channels(self, source: ChannelSource, free: Free, moving_map: Map, virtual: Geometry, shrink: int,
                  sigma: float) -> Channels:
        """Features of a level, the moving ones along the axes to which the transforms take those of the fixed image."""
        to_fixed, to_moving = as_map(self._around["fixed"]), Chain([free.map, moving_map])
        near = (virtual.centre, max(virtual.spacing))
        transform = about(to_moving, *near) @ np.linalg.inv(about(to_fixed, *near))
        smoothing = [[sigma] * 3 if self._in_mm else [sigma * s for s in image.geometry.spacing[::-1]]
                     for image in source.images]
        return source.at(shrink * source.finest_spacing, transform, smoothing)

    def _points(self, virtual: Geometry, share: float, generator: np.random.Generator) -> Points:
        """Those of the virtual domain, or some of them, each moved by about a third of a voxel."""
        if self._sampling == self.NONE:
            return Points(virtual)
        count = math.prod(virtual.shape)
        if self._sampling == self.REGULAR:
            chosen = np.arange(0, count, math.ceil(1 / share))
        else:
            chosen = generator.integers(0, count, max(1, int(count * share)))
        listed = Points(virtual).physical[:, chosen]
        spacing = np.array(virtual.spacing)[:, None]
        return Points(virtual, listed + generator.standard_normal(listed.shape) * spacing / 3)

    @staticmethod
    def _write(free: Free, target: sitk.Transform, result: sitk.Transform) -> None:
        """Give the transform that the user holds the present parameters."""
        free.write(target)
        if result is not target:  # a composite, which keeps a copy
            result.RemoveTransform()
            result.AddTransform(target)

    def _tell(self, event: int) -> None:
        for own, command in self._commands:
            if own in (event, sitk.sitkAnyEvent):
                command()


def shrunk(geometry: Geometry, factor: int) -> Geometry:
    """The grid of itk::ShrinkImageFilter: `factor` times fewer voxels along every axis, at least one, around the
    middle."""
    if factor == 1:
        return geometry
    factors = [min(factor, n) for n in geometry.shape]
    shape = [max(1, n // f) for n, f in zip(geometry.shape, factors, strict=True)]
    spacing = [s * f for s, f in zip(geometry.spacing, factors[::-1], strict=True)]
    grid = Geometry(tuple(shape), tuple(spacing), geometry.origin, geometry.direction)
    origin = np.array(geometry.origin) + geometry.centre - grid.centre
    return Geometry(grid.shape, grid.spacing, tuple(map(float, origin)), grid.direction)


def _take_centre(target: sitk.Transform, after: sitk.Transform) -> None:
    """The centre of a linear transform is that of the last linear one that follows it, as ITK has it."""
    own, after = target.Downcast(), after.Downcast()
    if not hasattr(own, "SetCenter"):
        return
    following = [after]
    if isinstance(after, sitk.CompositeTransform):
        after.FlattenTransform()
        following = [after.GetNthTransform(k).Downcast() for k in range(after.GetNumberOfTransforms())]
    centred = [transform for transform in following if hasattr(transform, "GetCenter")]
    if centred:
        own.SetCenter(centred[-1].GetCenter())
        target.SetFixedParameters(own.GetFixedParameters())


def _copy(transform: sitk.Transform) -> sitk.CompositeTransform:
    downcast = transform.Downcast()
    if isinstance(downcast, sitk.CompositeTransform):
        return sitk.CompositeTransform(downcast)
    return sitk.CompositeTransform([type(downcast)(downcast)])


def _last(transform: sitk.Transform) -> tuple[sitk.Transform, Map | None]:
    """The transform of a composite that is optimised, a copy, and the map of the others; or the transform itself."""
    downcast = transform.Downcast()
    if not isinstance(downcast, sitk.CompositeTransform):
        return transform, None
    if not isinstance(transform, sitk.CompositeTransform):
        raise InputError("SetInitialTransform: a composite must be given as a SimpleITK.CompositeTransform, "
                         "transform.Downcast()")
    count = downcast.GetNumberOfTransforms()
    if count == 0:
        raise InputError("SetInitialTransform: the composite holds no transform to optimise")
    rest = [downcast.GetNthTransform(k) for k in range(count - 1)]
    return downcast.GetNthTransform(count - 1), as_map(sitk.CompositeTransform(rest)) if rest else LinearMap(np.eye(4))


def _volume(volume: Any) -> Any:
    """(C, D, H, W) of a vector image."""
    if not isinstance(volume, sitk.Image):
        return volume
    array = sitk.GetArrayFromImage(volume)
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(array[..., None] if array.ndim == 3 else array, -1, 0),
                                                 dtype=np.float32))


def _require_points(metric: Metric) -> None:
    if metric.count == 0:
        raise InputError("no point of the fixed image (of its mask) lies in the moving image (in its mask) under the "
                         "initial transforms; start with SimpleITK.CenteredTransformInitializer")


def _require(holds: bool, name: str, expected: str, got: Any) -> None:
    if not holds:
        raise InputError(f"{name}: must be {expected}, got {got!r}")
