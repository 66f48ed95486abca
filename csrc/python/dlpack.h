// DLPack's ABI (version 0.8, https://dmlc.github.io/dlpack), as far as we read it.
#pragma once

#include <cstdint>

namespace dlpack {

constexpr std::int32_t cpu = 1, cuda = 2, cuda_host = 3;

struct Device {
  std::int32_t type;  // one of the above, or another
  std::int32_t index;
};

struct DataType {
  std::uint8_t code;  // 0 int, 1 uint, 2 float, 4 bfloat, 6 bool
  std::uint8_t bits;
  std::uint16_t lanes;
};

struct Tensor {
  void* data;
  Device device;
  std::int32_t ndim;
  DataType dtype;
  std::int64_t* shape;
  std::int64_t* strides;  // in elements; null for contiguous
  std::uint64_t byte_offset;
};

struct ManagedTensor {
  Tensor tensor;
  void* context;
  void (*deleter)(ManagedTensor*);
};

}  // namespace dlpack
