set(DOCUMENTATION "Registration by structural descriptors: a metric of feature volumes for the registration framework
(v4), filters that make such volumes, and one that warps them, all on the fused kernels of the library masr.")

itk_module(DSIR
  DEPENDS
    ITKCommon
    ITKDisplacementField
    ITKImageFilterBase
    ITKMetricsv4
    ITKSpatialObjects
    ITKTransform
  TEST_DEPENDS
    ITKRegistrationMethodsv4
    ITKOptimizersv4
  DESCRIPTION "${DOCUMENTATION}"
  EXCLUDE_FROM_DEFAULT
  ENABLE_SHARED
)
