#ifndef itkMINDSSCImageFilter_h
#define itkMINDSSCImageFilter_h

#include "itkDSIRDescriptorImageFilter.h"
#include "masr/mind.h"

namespace itk
{

/** \class MINDSSCImageFilter
 *
 *  \brief The modality-independent neighbourhood descriptor with self-similarity context, twelve channels.
 *
 *  M. P. Heinrich et al., "Towards Realtime Multimodal Fusion for Image-Guided Interventions Using Self-Similarities",
 *  MICCAI 2013.
 *
 * \ingroup DSIR
 */
template <typename TInputImage>
class ITK_TEMPLATE_EXPORT MINDSSCImageFilter : public DSIRDescriptorImageFilter<TInputImage>
{
public:
  ITK_DISALLOW_COPY_AND_MOVE(MINDSSCImageFilter);

  using Self = MINDSSCImageFilter;
  using Superclass = DSIRDescriptorImageFilter<TInputImage>;
  using Pointer = SmartPointer<Self>;
  using ConstPointer = SmartPointer<const Self>;

  itkFactorylessNewMacro(Self);
  const char *
  GetNameOfClass() const override
  {
    return "MINDSSCImageFilter";
  }

  /** Of the patch, voxels: it has 2 Radius + 1 voxels a side. Default: 1. */
  itkSetMacro(Radius, unsigned int);
  itkGetConstMacro(Radius, unsigned int);

  /** Distance of the neighbours, voxels. Default: 1. */
  itkSetClampMacro(Dilation, unsigned int, 1, NumericTraits<unsigned int>::max());
  itkGetConstMacro(Dilation, unsigned int);

  unsigned int
  GetNumberOfChannels() const override
  {
    return 12;
  }

protected:
  MINDSSCImageFilter() = default;
  ~MINDSSCImageFilter() override = default;

  void
  Describe(const masr::View & image, const masr::View & out) const override
  {
    float mean;
    masr::mind_ssc(
      image, m_Radius, m_Dilation, out, masr::contiguous_view(&mean, masr::DType::float32, { 1, 1, 1, 1, 1 }));
  }

  void
  PrintSelf(std::ostream & os, Indent indent) const override
  {
    Superclass::PrintSelf(os, indent);
    os << indent << "Radius: " << m_Radius << std::endl << indent << "Dilation: " << m_Dilation << std::endl;
  }

private:
  unsigned int m_Radius{ 1 };
  unsigned int m_Dilation{ 1 };
};

} // namespace itk

#endif
