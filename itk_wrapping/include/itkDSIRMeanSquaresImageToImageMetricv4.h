#ifndef itkDSIRMeanSquaresImageToImageMetricv4_h
#define itkDSIRMeanSquaresImageToImageMetricv4_h

#include "itkDSIRDenseMapping.h"
#include "itkDSIRMeanSquaresImageToImageMetricv4GetValueAndDerivativeThreader.h"
#include "itkImageToImageFilter.h"
#include "itkImageToImageMetricv4.h"

#include <type_traits>
#include <utility>
#include <vector>

namespace itk
{

/** \class DSIRMeanSquaresImageToImageMetricv4
 *
 *  \brief Mean squared difference of two feature volumes, such as DSIRs, MIND or DNS: one metric for images of one or
 *         of different modalities.
 *
 *  The value is the mean, over the valid points of the virtual domain and over the channels, of the squared difference
 *  between the moving features at the moving point and the fixed features at the fixed point, both interpolated
 *  linearly; with weights it is the weighted mean. As in all metrics of ITK v4, GetDerivative() gives the negative
 *  gradient; for a displacement field it gives, voxel by voxel, that of the voxel's own term, not divided by the number
 *  of points.
 *
 *  A point is valid where both masks, if there are any, hold it, where it lies within the voxel centres of both feature
 *  volumes, and where its weight is above 0. When no point is valid, evaluation throws.
 *
 *  Where features come from:
 *
 *  - With SetFeatureFilter(), Initialize() makes them from the images that it finds, once for each state of each image
 *    object: from the smoothed images of a registration level, and from the resampled ones of SyN, which also calls the
 *    metric with the roles exchanged. MINDSSCImageFilter and DNSImageFilter are such filters.
 *  - With SetFixedFeatures() and SetMovingFeatures(), or with AddLevelFeatures() for each level, they are used as they
 *    are. Grids coarser or finer than the image's do, but they must fill the same volume. An observer of
 *    MultiResolutionIterationEvent calls SetCurrentLevel(). SyN that resamples the images
 *    (DownsampleImagesForMetricDerivatives, its default) can't work with them, so that it makes Initialize() throw;
 *    without that SyN is served, roles exchanged.
 *
 *  The whole virtual domain (no sampled point set) goes through masr's fused kernel where the moving transform is
 *  linear, a displacement field, or a cubic B-spline along the virtual domain's axes, or one of the latter two followed
 *  by linear transforms that are not optimised, and where there is no moving mask or one on the grid of the moving
 *  features. Everything else goes point by point, as in the other metrics. Both give the same but for rounding to
 *  float32; GetFusedKernelUsed() tells which one it was.
 *
 *  Call Initialize() after any change, also one to the pixels of an image, its features, masks and weights, or to the
 *  fixed transform. Images are three-dimensional. Gradient filters and calculators of the base class are not used.
 *
 * \ingroup DSIR
 */
template <typename TFixedImage,
          typename TMovingImage,
          typename TVirtualImage = TFixedImage,
          typename TInternalComputationValueType = double,
          typename TMetricTraits =
            DefaultImageToImageMetricTraitsv4<TFixedImage, TMovingImage, TVirtualImage, TInternalComputationValueType>>
class ITK_TEMPLATE_EXPORT DSIRMeanSquaresImageToImageMetricv4
  : public ImageToImageMetricv4<TFixedImage, TMovingImage, TVirtualImage, TInternalComputationValueType, TMetricTraits>
{
public:
  ITK_DISALLOW_COPY_AND_MOVE(DSIRMeanSquaresImageToImageMetricv4);

  using Self = DSIRMeanSquaresImageToImageMetricv4;
  using Superclass =
    ImageToImageMetricv4<TFixedImage, TMovingImage, TVirtualImage, TInternalComputationValueType, TMetricTraits>;
  using Pointer = SmartPointer<Self>;
  using ConstPointer = SmartPointer<const Self>;

  itkFactorylessNewMacro(Self);
  const char *
  GetNameOfClass() const override
  {
    return "DSIRMeanSquaresImageToImageMetricv4";
  }

  static_assert(TFixedImage::ImageDimension == 3 && TMovingImage::ImageDimension == 3 &&
                  TVirtualImage::ImageDimension == 3,
                "feature volumes are three-dimensional");
  static_assert(std::is_same_v<TInternalComputationValueType, double>, "transforms are in double precision");

  using typename Superclass::DerivativeType;
  using typename Superclass::FixedImagePointType;
  using typename Superclass::FixedImageGradientType;
  using typename Superclass::MeasureType;
  using typename Superclass::MovingImageGradientType;
  using typename Superclass::MovingImagePointType;

  /** Channels float32, adjacent for each voxel. To view memory that is somebody else's, give an image a pixel container
   * with SetImportPointer(). */
  using FeatureImageType = DSIR::FeatureImageType;
  using ScalarImageType = Image<float, 3>;
  using FeatureFilterType = ImageToImageFilter<ScalarImageType, FeatureImageType>;
  using WeightImageType = Image<float, 3>;

  /** Makes features from both images. */
  itkSetObjectMacro(FeatureFilter, FeatureFilterType);
  itkGetModifiableObjectMacro(FeatureFilter, FeatureFilterType);

  /** Features that are given, for all levels; they take precedence over the filter. */
  void
  SetFixedFeatures(const FeatureImageType * features);
  void
  SetMovingFeatures(const FeatureImageType * features);

  /** Features of one more level, beginning with the coarsest; nothing may have been set with SetFixedFeatures(). */
  void
  AddLevelFeatures(const FeatureImageType * fixed, const FeatureImageType * moving);

  /** The level whose features the next Initialize() takes. */
  itkSetMacro(CurrentLevel, SizeValueType);
  itkGetConstMacro(CurrentLevel, SizeValueType);

  /** How much each point counts, not negative: interpolated linearly at the fixed point, 0 outside. Default: 1. */
  itkSetConstObjectMacro(Weights, WeightImageType);
  itkGetConstObjectMacro(Weights, WeightImageType);

  /** Whether to use the fused kernel where it can serve. Default: true. */
  itkSetMacro(UseFusedKernel, bool);
  itkGetConstMacro(UseFusedKernel, bool);
  itkBooleanMacro(UseFusedKernel);

  /** Whether the last evaluation did. */
  itkGetConstMacro(FusedKernelUsed, bool);

  /** Feature volumes that the filter has made since this object exists: for tests, and to see what a registration
   * spends. */
  itkGetConstMacro(NumberOfFeatureExtractions, SizeValueType);

  void
  Initialize() override;

  /** Channels at a point; false, and nothing written, outside of the voxel centres. `slopes` (3 x channels), the
   * derivatives along x, y and z in physical space, may be null. */
  class FeatureSampler
  {
  public:
    FeatureSampler() = default;
    /** Points up to `margin` voxels beyond the voxel centres count as on them. */
    FeatureSampler(const float * buffer, unsigned int channels, const DSIR::Grid & grid, double margin = 0.0);
    bool
    Evaluate(const Point<double, 3> & point, double * values, double * slopes) const;
    bool
    IsInside(const Point<double, 3> & point) const;
    unsigned int
    Channels() const
    {
      return m_Channels;
    }

  private:
    bool
    Locate(const Point<double, 3> & point, std::int64_t (&lower)[3], double (&fraction)[3]) const;

    const float *               m_Buffer = nullptr;
    unsigned int                m_Channels = 0;
    std::array<std::int64_t, 3> m_Size{};
    DSIR::AffineMap             m_ToVoxels;
    double                      m_Margin = 0.0;
  };

protected:
  DSIRMeanSquaresImageToImageMetricv4();
  ~DSIRMeanSquaresImageToImageMetricv4() override = default;

  void
  PrintSelf(std::ostream & os, Indent indent) const override;

  void
  GetValueAndDerivativeExecute() const override;

  // The base class would smooth and differentiate the scalar images, which nobody looks at here.
  void
  ComputeFixedImageGradientFilterImage() override
  {}
  void
  ComputeMovingImageGradientFilterImage() const override
  {}
  void
  ComputeFixedImageGradientAtPoint(const FixedImagePointType &, FixedImageGradientType &) const override
  {}
  void
  ComputeMovingImageGradientAtPoint(const MovingImagePointType &, MovingImageGradientType &) const override
  {}

  friend class DSIRMeanSquaresImageToImageMetricv4GetValueAndDerivativeThreader<
    ThreadedImageRegionPartitioner<Superclass::VirtualImageDimension>,
    Superclass,
    Self>;
  friend class DSIRMeanSquaresImageToImageMetricv4GetValueAndDerivativeThreader<ThreadedIndexedContainerPartitioner,
                                                                                Superclass,
                                                                                Self>;

private:
  using DenseThreaderType = DSIRMeanSquaresImageToImageMetricv4GetValueAndDerivativeThreader<
    ThreadedImageRegionPartitioner<Superclass::VirtualImageDimension>,
    Superclass,
    Self>;
  using SparseThreaderType =
    DSIRMeanSquaresImageToImageMetricv4GetValueAndDerivativeThreader<ThreadedIndexedContainerPartitioner,
                                                                     Superclass,
                                                                     Self>;
  using FeaturePointer = FeatureImageType::ConstPointer;
  using FeaturePair = std::pair<FeaturePointer, FeaturePointer>;

  /** Features made from an image in the state of that time. */
  struct Extraction
  {
    const DataObject * image;
    ModifiedTimeType   time;
    FeaturePointer     features;
  };

  /** What the fused kernel takes of the fixed side: features and weights on the grid of the virtual domain. */
  struct FixedSide
  {
    ModifiedTimeType   time = 0; ///< of the metric; 0: not prepared
    masr::View         features;
    masr::View         weights, counted; ///< without data: all 1; `counted` is 1 where the weight is not 0
    std::vector<float> featureBuffer, weightBuffer, countedBuffer;
  };

  void
  UseGivenFeatures();
  void
  ExtractFeatures();
  template <typename TImage>
  Extraction
  Extract(const TImage * image, const std::vector<Extraction> & known);
  void
  RequireFinite(const char * role, const FeatureImageType * features);
  void
  RequireSameVolume(const char * role, const FeatureImageType * features, const ImageBase<3> * image) const;
  double
  WeightAt(const Point<double, 3> & fixedPoint) const;
  void
  PrepareFixedSide() const;
  bool
  MovingMaskView(masr::View & mask) const;
  bool
  ExecuteFused() const;

  typename FeatureFilterType::Pointer m_FeatureFilter;
  std::vector<FeaturePair>            m_GivenFeatures; // one pair for all levels, or one a level
  bool                                m_GivenByLevel{ false };
  SizeValueType                       m_CurrentLevel{ 0 };
  WeightImageType::ConstPointer       m_Weights;
  bool                                m_UseFusedKernel{ true };
  mutable bool                        m_FusedKernelUsed{ false };
  SizeValueType                       m_NumberOfFeatureExtractions{ 0 };

  std::vector<Extraction>    m_Extractions; // of the images of the last Initialize()
  ModifiedTimeType           m_FilterTime{ 0 };
  DataObject::ConstPointer   m_GivenFixedImage, m_GivenMovingImage; // those that the given features were first used for
  std::vector<std::pair<const DataObject *, ModifiedTimeType>> m_FiniteFeatures;
  FeaturePointer             m_CurrentFixedFeatures, m_CurrentMovingFeatures;
  FeatureSampler             m_FixedSampler, m_MovingSampler, m_WeightSampler;

  mutable FixedSide          m_FixedSide;
  mutable std::vector<float> m_Displacement, m_Gradient; // kept from one evaluation to the next
};

} // namespace itk

#ifndef ITK_MANUAL_INSTANTIATION
#  include "itkDSIRMeanSquaresImageToImageMetricv4.hxx"
#endif

#endif
