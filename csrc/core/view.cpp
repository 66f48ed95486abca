#include "masr/view.h"

namespace masr {

const char* name(DType type) {
  switch (type) {
    case DType::float32: return "float32";
    case DType::float16: return "float16";
    case DType::bfloat16: return "bfloat16";
    case DType::float64: return "float64";
    case DType::uint8: return "uint8";
  }
  return "unknown";
}

std::int64_t item_size(DType type) {
  switch (type) {
    case DType::float32: return 4;
    case DType::float16:
    case DType::bfloat16: return 2;
    case DType::float64: return 8;
    case DType::uint8: return 1;
  }
  return 0;
}

View contiguous_view(void* data, DType dtype, const std::array<std::int64_t, 5>& shape) {
  View view;
  view.data = data;
  view.dtype = dtype;
  view.shape = shape;
  std::int64_t stride = 1;
  for (int axis = 4; axis >= 0; --axis) {
    view.stride[axis] = stride;
    stride *= shape[axis];
  }
  return view;
}

std::string describe(const View& view) {
  std::string text = "(";
  for (int axis = 0; axis < 5; ++axis) text += (axis ? ", " : "") + std::to_string(view.shape[axis]);
  return text + ") " + name(view.dtype);
}

}  // namespace masr
