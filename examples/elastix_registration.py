"""elastix on descriptors: the user's own parameter maps, the result for transformix and as an ITK transform.
``python examples/elastix_registration.py [FIXED MOVING] [-o transform.h5]``"""

import argparse

import itk
import pair

from pymasr.itk import elastix_registration


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.split(":")[0])
    pair.add_arguments(parser)
    parser.add_argument("--iterations", type=int, default=250, help="of each resolution (default: %(default)s)")
    arguments = parser.parse_args(arguments)
    fixed, moving, truth = pair.read(arguments)

    affine = itk.ParameterObject.New()
    values = affine.GetDefaultParameterMap("affine", 1)
    values["MaximumNumberOfIterations"] = [str(arguments.iterations)]
    affine.AddParameterMap(values)
    # mind, of voxels twice as wide, finds farther; dns settles better
    first = elastix_registration(fixed, moving, "mind", affine, spacing=2 * min(fixed.GetSpacing()))

    spline = itk.ParameterObject.New()
    values = spline.GetDefaultParameterMap("bspline", 1, 20.0)
    values["MaximumNumberOfIterations"] = [str(arguments.iterations)]
    spline.AddParameterMap(values)
    result = elastix_registration(fixed, moving, "dns", spline, initial=first.transform)

    if truth is not None:
        print(f"mean distance from the truth: {pair.distance(truth):.2f} mm before, "
              f"{pair.distance(truth, first.transform.TransformPoint):.2f} mm after the affine, "
              f"{pair.distance(truth, result.transform.TransformPoint):.2f} mm after the B-spline transform")
    print(f"stages for transformix: {result.parameter_object.GetNumberOfParameterMaps()}")
    if arguments.output:
        itk.transformwrite([result.transform], arguments.output)
    return result


if __name__ == "__main__":
    main()
