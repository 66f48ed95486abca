#ifndef itkFeatureWarpImageFilter_h
#define itkFeatureWarpImageFilter_h

#include "itkDSIRDenseMapping.h"
#include "itkImageToImageFilter.h"

namespace itk
{

/** \class FeatureWarpImageFilter
 *
 *  \brief Resamples a feature volume through a transform, all channels at once, linearly.
 *
 *  The output lies on the grid of the reference image; its voxel at x takes the features at Transform(x). Outside of the
 *  voxel centres of the input it takes the nearest ones.
 *
 * \ingroup DSIR
 */
class DSIR_EXPORT FeatureWarpImageFilter : public ImageToImageFilter<VectorImage<float, 3>, VectorImage<float, 3>>
{
public:
  ITK_DISALLOW_COPY_AND_MOVE(FeatureWarpImageFilter);

  using Self = FeatureWarpImageFilter;
  using FeatureImageType = VectorImage<float, 3>;
  using Superclass = ImageToImageFilter<FeatureImageType, FeatureImageType>;
  using Pointer = SmartPointer<Self>;
  using ConstPointer = SmartPointer<const Self>;
  using TransformType = Transform<double, 3, 3>;
  using ReferenceType = ImageBase<3>;

  itkFactorylessNewMacro(Self);
  const char *
  GetNameOfClass() const override
  {
    return "FeatureWarpImageFilter";
  }

  /** From points of the reference image to points of the features. */
  itkSetConstObjectMacro(Transform, TransformType);
  itkGetConstObjectMacro(Transform, TransformType);

  /** Whose largest possible region, spacing, origin and direction the output has. */
  itkSetConstObjectMacro(ReferenceImage, ReferenceType);
  itkGetConstObjectMacro(ReferenceImage, ReferenceType);

protected:
  FeatureWarpImageFilter() = default;
  ~FeatureWarpImageFilter() override = default;

  void
  VerifyPreconditions() const override;
  void
  GenerateOutputInformation() override;
  void
  GenerateInputRequestedRegion() override;
  void
  EnlargeOutputRequestedRegion(DataObject * output) override;
  void
  GenerateData() override;
  void
  PrintSelf(std::ostream & os, Indent indent) const override;

private:
  TransformType::ConstPointer m_Transform;
  ReferenceType::ConstPointer m_ReferenceImage;
};

} // namespace itk

#endif
