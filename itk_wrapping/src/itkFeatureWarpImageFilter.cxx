#include "itkFeatureWarpImageFilter.h"
#include "itkDSIRThreadLimit.h"

#include "masr/warp.h"

#include <vector>

namespace itk
{

void
FeatureWarpImageFilter::VerifyPreconditions() const
{
  Superclass::VerifyPreconditions();
  if (!m_Transform || !m_ReferenceImage)
  {
    itkExceptionMacro("the " << (m_Transform ? "reference image" : "transform") << " is missing");
  }
}

void
FeatureWarpImageFilter::GenerateOutputInformation()
{
  Superclass::GenerateOutputInformation();
  FeatureImageType * output = this->GetOutput();
  output->CopyInformation(m_ReferenceImage);
  output->SetNumberOfComponentsPerPixel(this->GetInput()->GetNumberOfComponentsPerPixel());
}

void
FeatureWarpImageFilter::GenerateInputRequestedRegion()
{
  // that of the output lies on another grid
  const_cast<FeatureImageType *>(this->GetInput())->SetRequestedRegionToLargestPossibleRegion();
}

void
FeatureWarpImageFilter::EnlargeOutputRequestedRegion(DataObject * output)
{
  Superclass::EnlargeOutputRequestedRegion(output);
  output->SetRequestedRegionToLargestPossibleRegion();
}

void
FeatureWarpImageFilter::GenerateData()
{
  FeatureImageType * output = this->GetOutput();
  output->SetBufferedRegion(output->GetLargestPossibleRegion());
  output->Allocate();
  const DSIR::ThreadLimit threads(this->GetNumberOfWorkUnits());
  const DSIR::Grid        grid(output);
  const auto              mapping = DSIR::DenseMapping::ForPositions(m_Transform, grid, DSIR::Grid(this->GetInput()));
  std::vector<float>      buffer;
  masr::View              displacement;
  if (mapping->HasDisplacement())
  {
    buffer.resize(static_cast<std::size_t>(3 * grid.Voxels()));
    mapping->WriteDisplacement(buffer.data());
    displacement = DSIR::PlanarView(buffer.data(), masr::DType::float32, 3, grid);
  }
  masr::warp(DSIR::ViewOf(this->GetInput()),
             displacement,
             mapping->Matrix(),
             masr::Padding::border,
             masr::Interpolation::linear,
             DSIR::ViewOf(output));
}

void
FeatureWarpImageFilter::PrintSelf(std::ostream & os, Indent indent) const
{
  Superclass::PrintSelf(os, indent);
  os << indent << "Transform: " << m_Transform.GetPointer() << std::endl;
  os << indent << "ReferenceImage: " << m_ReferenceImage.GetPointer() << std::endl;
}

} // namespace itk
