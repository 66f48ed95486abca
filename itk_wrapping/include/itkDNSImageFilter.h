#ifndef itkDNSImageFilter_h
#define itkDNSImageFilter_h

#include "itkDSIRDescriptorImageFilter.h"
#include "masr/dns.h"

#include <algorithm>
#include <vector>

namespace itk
{

/** \class DNSImageFilter
 *
 *  \brief Neighbourhood self-similarity of the intensity, twelve channels for each distance of the neighbours.
 *
 *  T. C. W. Mok et al., "Modality-Agnostic Structural Image Representation Learning for Deformable Multi-Modality
 *  Medical Image Registration", CVPR 2024, section 3.2, here of the intensity in place of learned features.
 *
 * \ingroup DSIR
 */
template <typename TInputImage>
class ITK_TEMPLATE_EXPORT DNSImageFilter : public DSIRDescriptorImageFilter<TInputImage>
{
public:
  ITK_DISALLOW_COPY_AND_MOVE(DNSImageFilter);

  using Self = DNSImageFilter;
  using Superclass = DSIRDescriptorImageFilter<TInputImage>;
  using Pointer = SmartPointer<Self>;
  using ConstPointer = SmartPointer<const Self>;
  using DilationsType = std::vector<std::int64_t>;

  itkFactorylessNewMacro(Self);
  const char *
  GetNameOfClass() const override
  {
    return "DNSImageFilter";
  }

  /** Distances of the neighbours, voxels, at least 1. Default: (1). */
  void
  SetDilations(const DilationsType & dilations)
  {
    if (dilations.empty() || *std::min_element(dilations.begin(), dilations.end()) < 1)
    {
      itkExceptionMacro("Dilations must be one or more distances of at least 1");
    }
    m_Dilations = dilations;
    this->Modified();
  }
  const DilationsType &
  GetDilations() const
  {
    return m_Dilations;
  }

  /** Squared difference, of intensities in [0, 1], that counts as no structure. Default: 1e-4. */
  itkSetMacro(Noise, float);
  itkGetConstMacro(Noise, float);

  unsigned int
  GetNumberOfChannels() const override
  {
    return static_cast<unsigned int>(12 * m_Dilations.size());
  }

protected:
  DNSImageFilter() = default;
  ~DNSImageFilter() override = default;

  void
  Describe(const masr::View & image, const masr::View & out) const override
  {
    masr::dns(image, m_Dilations, masr::DnsReduction::l2, m_Noise, out);
  }

  void
  PrintSelf(std::ostream & os, Indent indent) const override
  {
    Superclass::PrintSelf(os, indent);
    os << indent << "Dilations:";
    for (const auto dilation : m_Dilations)
    {
      os << ' ' << dilation;
    }
    os << std::endl << indent << "Noise: " << m_Noise << std::endl;
  }

private:
  DilationsType m_Dilations{ 1 };
  float         m_Noise{ 1e-4f };
};

} // namespace itk

#endif
