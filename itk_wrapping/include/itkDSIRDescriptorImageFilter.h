#ifndef itkDSIRDescriptorImageFilter_h
#define itkDSIRDescriptorImageFilter_h

#include "itkDSIRGrid.h"
#include "itkImageToImageFilter.h"

namespace itk
{

/** \class DSIRDescriptorImageFilter
 *
 *  \brief Base of filters that turn an image into a volume of structural descriptors, a VectorImage of float.
 *
 *  Intensities are first brought to [0, 1], and clipped: those of Window, or, by default, the percentiles 1 and 99 of
 *  the foreground, which is everything above the lowest intensity. The whole image is processed at once. Neighbours are
 *  counted in voxels: resample images whose voxels are far from cubes.
 *
 * \ingroup DSIR
 */
template <typename TInputImage>
class ITK_TEMPLATE_EXPORT DSIRDescriptorImageFilter : public ImageToImageFilter<TInputImage, VectorImage<float, 3>>
{
public:
  ITK_DISALLOW_COPY_AND_MOVE(DSIRDescriptorImageFilter);

  using Self = DSIRDescriptorImageFilter;
  using OutputImageType = VectorImage<float, 3>;
  using Superclass = ImageToImageFilter<TInputImage, OutputImageType>;
  using Pointer = SmartPointer<Self>;
  using ConstPointer = SmartPointer<const Self>;
  using WindowType = FixedArray<double, 2>;

  static_assert(TInputImage::ImageDimension == 3, "descriptors are made of three-dimensional images");

  const char *
  GetNameOfClass() const override
  {
    return "DSIRDescriptorImageFilter";
  }

  /** The intensities that become 0 and 1, such as (-200, 1024) HU; both 0: percentiles of the foreground. */
  itkSetMacro(Window, WindowType);
  itkGetConstReferenceMacro(Window, WindowType);

  /** Numbers a voxel. */
  virtual unsigned int
  GetNumberOfChannels() const = 0;

protected:
  DSIRDescriptorImageFilter() { m_Window.Fill(0.0); }
  ~DSIRDescriptorImageFilter() override = default;

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

  /** Writes the descriptors of `image`, one channel in [0, 1], to `out`. */
  virtual void
  Describe(const masr::View & image, const masr::View & out) const = 0;

private:
  WindowType m_Window;
};

} // namespace itk

#ifndef ITK_MANUAL_INSTANTIATION
#  include "itkDSIRDescriptorImageFilter.hxx"
#endif

#endif
