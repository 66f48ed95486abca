// Intensities to [0, 1], as pymasr.features.normalise does it.
#ifndef itkDSIRNormalisation_h
#define itkDSIRNormalisation_h

#include "DSIRExport.h"

#include <array>
#include <cstdint>
#include <vector>

namespace itk
{
namespace DSIR
{
/** Percentiles 1 and 99 of the foreground of a volume (x fastest), taken over at most about two million voxels. */
DSIR_EXPORT std::array<double, 2>
            ForegroundWindow(const std::vector<float> & intensities, const std::array<std::int64_t, 3> & size);

/** [low, high] becomes [0, 1], clipped, in place. */
DSIR_EXPORT void
ApplyWindow(const std::array<double, 2> & window, std::vector<float> & intensities);
} // namespace DSIR
} // namespace itk

#endif
