#ifndef itkDSIRDescriptorImageFilter_hxx
#define itkDSIRDescriptorImageFilter_hxx

#include "itkDSIRNormalisation.h"
#include "itkDSIRThreadLimit.h"

#include <algorithm>
#include <vector>

namespace itk
{

template <typename TInputImage>
void
DSIRDescriptorImageFilter<TInputImage>::GenerateOutputInformation()
{
  Superclass::GenerateOutputInformation();
  this->GetOutput()->SetNumberOfComponentsPerPixel(this->GetNumberOfChannels());
}

template <typename TInputImage>
void
DSIRDescriptorImageFilter<TInputImage>::GenerateInputRequestedRegion()
{
  Superclass::GenerateInputRequestedRegion();
  const_cast<TInputImage *>(this->GetInput())->SetRequestedRegionToLargestPossibleRegion();
}

template <typename TInputImage>
void
DSIRDescriptorImageFilter<TInputImage>::EnlargeOutputRequestedRegion(DataObject * output)
{
  Superclass::EnlargeOutputRequestedRegion(output);
  output->SetRequestedRegionToLargestPossibleRegion();
}

template <typename TInputImage>
void
DSIRDescriptorImageFilter<TInputImage>::GenerateData()
{
  const TInputImage * input = this->GetInput();
  OutputImageType *   output = this->GetOutput();
  const DSIR::Grid    grid(input);
  output->SetBufferedRegion(input->GetBufferedRegion());
  output->Allocate();
  const DSIR::ThreadLimit threads(this->GetNumberOfWorkUnits());

  std::vector<float> intensities(static_cast<std::size_t>(grid.Voxels()));
  std::transform(input->GetBufferPointer(),
                 input->GetBufferPointer() + grid.Voxels(),
                 intensities.begin(),
                 [](typename TInputImage::PixelType value) { return static_cast<float>(value); });
  const auto window = m_Window[0] == 0.0 && m_Window[1] == 0.0 ? DSIR::ForegroundWindow(intensities, grid.size)
                                                               : std::array<double, 2>{ m_Window[0], m_Window[1] };
  if (!(window[1] > window[0]))
  {
    itkExceptionMacro("the image must have contrast, got one intensity between " << window[0] << " and " << window[1]);
  }
  DSIR::ApplyWindow(window, intensities);
  this->Describe(DSIR::PlanarView(intensities.data(), masr::DType::float32, 1, grid), DSIR::ViewOf(output));
}

template <typename TInputImage>
void
DSIRDescriptorImageFilter<TInputImage>::PrintSelf(std::ostream & os, Indent indent) const
{
  Superclass::PrintSelf(os, indent);
  os << indent << "Window: " << m_Window << std::endl;
}

} // namespace itk

#endif
