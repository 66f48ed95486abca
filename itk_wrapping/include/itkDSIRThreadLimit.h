#ifndef itkDSIRThreadLimit_h
#define itkDSIRThreadLimit_h

#include "itkIntTypes.h"
#include "masr/parallel.h"

#include <algorithm>

namespace itk
{
namespace DSIR
{
/** masr's threads are as many as an object of ITK may use, for as long as this exists. */
class ThreadLimit
{
public:
  explicit ThreadLimit(ThreadIdType threads)
    : m_Before(masr::num_threads())
  {
    masr::set_num_threads(std::max(1, static_cast<int>(threads)));
  }
  ~ThreadLimit() { masr::set_num_threads(m_Before); }
  ThreadLimit(const ThreadLimit &) = delete;
  ThreadLimit &
  operator=(const ThreadLimit &) = delete;

private:
  const int m_Before;
};
} // namespace DSIR
} // namespace itk

#endif
