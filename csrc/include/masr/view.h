// Plain views on arrays that somebody else owns: what every op takes and returns.
#pragma once

#include <array>
#include <cstdint>
#include <string>

namespace masr {

enum class DType : std::uint8_t { float32, float16, bfloat16, float64, uint8 };

enum class Device : std::uint8_t { cpu, cuda };

/// Name of a type as users know it from NumPy and torch.
const char* name(DType type);

/// Bytes of one element.
std::int64_t item_size(DType type);

/// An (N, C, D, H, W) array: data, shape and strides (in elements). Never owns, never copies.
struct View {
  void* data = nullptr;
  DType dtype = DType::float32;
  Device device = Device::cpu;
  int device_index = 0;
  std::array<std::int64_t, 5> shape{};
  std::array<std::int64_t, 5> stride{};

  std::int64_t batch() const { return shape[0]; }
  std::int64_t channels() const { return shape[1]; }
  std::int64_t depth() const { return shape[2]; }
  std::int64_t height() const { return shape[3]; }
  std::int64_t width() const { return shape[4]; }
  std::int64_t voxels() const { return shape[2] * shape[3] * shape[4]; }
  std::int64_t elements() const { return shape[0] * shape[1] * voxels(); }
  bool empty() const { return elements() == 0; }
  explicit operator bool() const { return data != nullptr; }

  template <class T>
  T* at(std::int64_t n, std::int64_t c, std::int64_t z, std::int64_t y, std::int64_t x) const {
    return static_cast<T*>(data) + n * stride[0] + c * stride[1] + z * stride[2] + y * stride[3] + x * stride[4];
  }

  /// Rows of one channel are contiguous: what kernels that vectorise over x read without a copy.
  bool planar() const { return stride[4] == 1 || shape[4] <= 1; }
  /// All channels of a voxel are adjacent and the voxels of a row follow each other: what kernels that gather read.
  bool channels_last() const { return (stride[1] == 1 || shape[1] <= 1) && (stride[4] == shape[1] || shape[4] <= 1); }
};

/// A contiguous planar view; `shape` is (N, C, D, H, W).
View contiguous_view(void* data, DType dtype, const std::array<std::int64_t, 5>& shape);

/// "(1, 12, 96, 80, 96) float32", for messages.
std::string describe(const View& view);

}  // namespace masr
