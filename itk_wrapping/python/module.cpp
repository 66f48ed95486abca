// pymasr.itk._itk: DSIRMeanSquaresImageToImageMetricv4 as an object of the `itk` package.
//
// An object made here is handed out as the package's own proxy of its base class, ImageToImageMetricv4, so that the
// package's registration methods take it. Its own settings are functions of this module. pymasr/itk/metric.py is the
// interface; it has checked what comes in.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <link.h>
#include <malloc.h>

#include <array>
#include <atomic>
#include <cstring>
#include <string>
#include <utility>

#include "itkDSIRMeanSquaresImageToImageMetricv4.h"
#include "itkImage.h"
#include "itkMeanSquaresImageToImageMetricv4.h"
#include "itkVersion.h"
#include "swigpyrun.h"

namespace py = pybind11;

namespace {

using FeatureImageType = itk::DSIR::FeatureImageType;
using Array = py::array_t<float, py::array::c_style>;

/// Spacing and origin (x, y, z) and the direction matrix row by row.
struct Geometry {
  std::array<double, 3> spacing, origin;
  std::array<double, 9> direction;
};

template <class T>
std::array<double, 9> row_by_row(const T& matrix) {
  std::array<double, 9> values;
  for (unsigned i = 0; i < 9; ++i) values[i] = matrix(i / 3, i % 3);
  return values;
}

/// Runs with the interpreter's lock; after the interpreter's end nothing is run.
template <class F>
void with_python(F&& function) {
  if (!Py_IsInitialized()) return;
  py::gil_scoped_acquire lock;
  function();
}

/// Pixels of an image that lie in a NumPy array.
class ArrayContainer : public itk::ImportImageContainer<itk::SizeValueType, float> {
 public:
  using Self = ArrayContainer;
  using Superclass = itk::ImportImageContainer<itk::SizeValueType, float>;
  using Pointer = itk::SmartPointer<Self>;
  itkFactorylessNewMacro(Self);

  void hold(const Array& array) {
    owner_ = array;
    this->SetImportPointer(const_cast<float*>(array.data()), itk::SizeValueType(array.size()), false);
  }

 protected:
  ~ArrayContainer() override {
    PyObject* owner = owner_.release().ptr();
    with_python([owner] { Py_DECREF(owner); });
  }

 private:
  py::object owner_ = py::none();
};

template <class TImage>
void set_grid(TImage* image, const Array& array, const Geometry& geometry) {
  typename TImage::SizeType size;
  typename TImage::DirectionType direction;
  for (unsigned k = 0; k < 3; ++k) size[k] = itk::SizeValueType(array.shape(2 - k));
  for (unsigned i = 0; i < 9; ++i) direction(i / 3, i % 3) = geometry.direction[i];
  image->SetRegions(size);
  image->SetSpacing(geometry.spacing.data());
  image->SetOrigin(geometry.origin.data());
  image->SetDirection(direction);
  auto container = ArrayContainer::New();
  container->hold(array);
  image->SetPixelContainer(container);
}

/// An array (D, H, W, C), not copied.
FeatureImageType::Pointer features_from(const Array& array, const Geometry& geometry) {
  auto image = FeatureImageType::New();
  set_grid(image.GetPointer(), array, geometry);
  image->SetNumberOfComponentsPerPixel(unsigned(array.shape(3)));
  return image;
}

/// Features by a Python function: function(array (D, H, W), spacing, origin, direction) -> array (D, H, W, C).
class CallbackFilter : public itk::ImageToImageFilter<itk::Image<float, 3>, FeatureImageType> {
 public:
  using Self = CallbackFilter;
  using Superclass = itk::ImageToImageFilter<itk::Image<float, 3>, FeatureImageType>;
  using Pointer = itk::SmartPointer<Self>;
  itkFactorylessNewMacro(Self);

  void call(py::object function) { function_ = std::move(function); }

 protected:
  ~CallbackFilter() override {
    PyObject* function = function_.release().ptr();
    with_python([function] { Py_DECREF(function); });
  }

  void GenerateInputRequestedRegion() override {
    Superclass::GenerateInputRequestedRegion();
    const_cast<itk::Image<float, 3>*>(this->GetInput())->SetRequestedRegionToLargestPossibleRegion();
  }
  void EnlargeOutputRequestedRegion(itk::DataObject* output) override {
    Superclass::EnlargeOutputRequestedRegion(output);
    output->SetRequestedRegionToLargestPossibleRegion();
  }

  void GenerateData() override {
    const auto* image = this->GetInput();
    const auto size = image->GetBufferedRegion().GetSize();
    std::string problem;
    with_python([&] {
      try {
        // a copy: nobody knows how long the function keeps it
        Array array({py::ssize_t(size[2]), py::ssize_t(size[1]), py::ssize_t(size[0])});
        std::memcpy(array.mutable_data(), image->GetBufferPointer(), std::size_t(array.nbytes()));
        itk::Point<double, 3> origin;
        image->TransformIndexToPhysicalPoint(image->GetBufferedRegion().GetIndex(), origin);
        const auto triple = [](const auto& v) { return std::array<double, 3>{v[0], v[1], v[2]}; };
        const Geometry geometry{triple(image->GetSpacing()), triple(origin), row_by_row(image->GetDirection())};
        const auto result = py::cast<Array>(function_(array, geometry.spacing, geometry.origin, geometry.direction));
        if (result.ndim() != 4 || result.shape(0) != array.shape(0) || result.shape(1) != array.shape(1) ||
            result.shape(2) != array.shape(2)) {
          throw py::value_error("features must lie on the grid of the image");
        }
        this->GraftOutput(features_from(result, geometry));
      } catch (const std::exception& error) {
        problem = error.what();
      }
    });
    // A Python exception must not travel through ITK: it ends here, with its text.
    if (!problem.empty()) itkExceptionMacro("the function that makes features failed: " << problem);
  }

 private:
  py::object function_ = py::none();
};

std::atomic<int> alive{0};

template <class TImage>
class CountedMetric : public itk::DSIRMeanSquaresImageToImageMetricv4<TImage, TImage> {
 public:
  using Self = CountedMetric;
  using Superclass = itk::DSIRMeanSquaresImageToImageMetricv4<TImage, TImage>;
  using Pointer = itk::SmartPointer<Self>;
  itkFactorylessNewMacro(Self);

  /// Virtual functions of the base class, as the headers have them: its last one is GetComputeDerivative().
  static std::size_t base_slots() {
    auto last = &CountedMetric::GetComputeDerivative;
    static_assert(sizeof(last) == 2 * sizeof(std::ptrdiff_t), "a pointer to a member function as in the Itanium C++ ABI");
    std::ptrdiff_t parts[2];
    std::memcpy(parts, &last, sizeof(parts));
    return std::size_t(parts[0] - 1) / sizeof(void*) + 1;
  }

 protected:
  CountedMetric() { ++alive; }
  ~CountedMetric() override { --alive; }
};

template <class TImage>
struct Names;
template <>
struct Names<itk::Image<float, 3>> {
  static constexpr const char* base = "itkImageToImageMetricv4F3F3 *";
};
template <>
struct Names<itk::Image<double, 3>> {
  static constexpr const char* base = "itkImageToImageMetricv4D3D3 *";
};

swig_type_info* type_of(const char* name) {
  swig_type_info* type = SWIG_TypeQuery(name);
  if (!type) throw py::import_error(std::string("the itk package has no type ") + name);
  return type;
}

template <class TImage>
py::object new_metric() {
  using Metric = CountedMetric<TImage>;
  auto metric = Metric::New();
  itk::ImageToImageMetricv4<TImage, TImage>* base = metric.GetPointer();
  base->Register();  // the proxy's reference; its end unregisters
  return py::reinterpret_steal<py::object>(
      SWIG_NewPointerObj(static_cast<void*>(base), type_of(Names<TImage>::base), SWIG_POINTER_OWN));
}

itk::LightObject* object_of(py::handle proxy) {
  void* pointer = nullptr;
  if (!SWIG_IsOK(SWIG_ConvertPtr(proxy.ptr(), &pointer, type_of("itkLightObject *"), 0)) || !pointer) {
    throw py::type_error("expected an object of the itk package");
  }
  return static_cast<itk::LightObject*>(pointer);
}

/// Calls function(metric) with the metric behind a proxy.
template <class F>
auto with_metric(py::handle proxy, F&& function) {
  auto* object = object_of(proxy);
  if (auto* metric = dynamic_cast<CountedMetric<itk::Image<float, 3>>*>(object)) return function(metric);
  if (auto* metric = dynamic_cast<CountedMetric<itk::Image<double, 3>>*>(object)) return function(metric);
  throw py::type_error("expected a metric that pymasr.itk.dsir_metric returned");
}

/// Whether an address lies in code of a loaded library.
bool is_code(const void* address) {
  struct Search {
    std::uintptr_t address;
    bool found;
  } search{reinterpret_cast<std::uintptr_t>(address), false};
  dl_iterate_phdr(
      [](dl_phdr_info* library, std::size_t, void* data) {
        auto* search = static_cast<Search*>(data);
        for (int i = 0; i < library->dlpi_phnum; ++i) {
          const auto& segment = library->dlpi_phdr[i];
          const std::uintptr_t begin = library->dlpi_addr + segment.p_vaddr;
          if (segment.p_type == PT_LOAD && (segment.p_flags & PF_X) && search->address >= begin &&
              search->address < begin + segment.p_memsz) {
            search->found = true;
          }
        }
        return int(search->found);
      },
      &search);
  return search.found;
}

/// Virtual functions of an object: the entries of its table that are code. What follows the last one, in memory that a
/// compiler lays out, is the offset or the type information of another table.
std::size_t slots_of(const void* object) {
  const void* const* table = *static_cast<const void* const* const*>(object);
  std::size_t count = 0;
  while (is_code(table[count])) ++count;
  return count;
}

/// What is wrong with the class layout; "" when the headers and the package agree. `mean_squares` is the package's own
/// metric of the same images, which has no virtual functions beyond those of the base class.
template <class TImage>
std::string layout_problem(py::handle mean_squares) {
  const void* object = dynamic_cast<const void*>(object_of(mean_squares));
  const std::size_t slots = slots_of(object), expected = CountedMetric<TImage>::base_slots();
  if (slots != expected) {
    return "metrics have " + std::to_string(slots) + " virtual functions, expected " + std::to_string(expected);
  }
  void* probe = std::malloc(sizeof(itk::MeanSquaresImageToImageMetricv4<TImage, TImage>));
  const std::size_t size = malloc_usable_size(const_cast<void*>(object)), wanted = malloc_usable_size(probe);
  std::free(probe);
  return size == wanted ? "" : "metrics take " + std::to_string(size) + " bytes, expected " + std::to_string(wanted);
}

Geometry geometry_from(const std::array<double, 3>& spacing, const std::array<double, 3>& origin,
                       const std::array<double, 9>& direction) {
  return {spacing, origin, direction};
}

}  // namespace

PYBIND11_MODULE(_itk, m) {
  m.attr("itk_version") = std::to_string(ITK_VERSION_MAJOR) + "." + std::to_string(ITK_VERSION_MINOR) + "." +
                          std::to_string(ITK_VERSION_PATCH);

  py::class_<Geometry>(m, "Geometry").def(py::init(&geometry_from));

  m.def("layout_problem", [](py::handle floats, py::handle doubles) {
    const std::string problem = layout_problem<itk::Image<float, 3>>(floats);
    return problem.empty() ? layout_problem<itk::Image<double, 3>>(doubles) : problem;
  });
  m.def("new_metric", [](const std::string& pixel) {
    return pixel == "double" ? new_metric<itk::Image<double, 3>>() : new_metric<itk::Image<float, 3>>();
  });
  m.def("set_callback", [](py::handle proxy, py::object function) {
    auto filter = CallbackFilter::New();
    filter->call(std::move(function));
    with_metric(proxy, [&](auto* metric) { metric->SetFeatureFilter(filter); });
  });
  m.def("set_features", [](py::handle proxy, const Array& fixed, const Geometry& fixed_grid, const Array& moving,
                           const Geometry& moving_grid) {
    with_metric(proxy, [&](auto* metric) {
      metric->SetFixedFeatures(features_from(fixed, fixed_grid));
      metric->SetMovingFeatures(features_from(moving, moving_grid));
    });
  });
  m.def("add_level_features", [](py::handle proxy, const Array& fixed, const Geometry& fixed_grid, const Array& moving,
                                 const Geometry& moving_grid) {
    with_metric(proxy, [&](auto* metric) {
      metric->AddLevelFeatures(features_from(fixed, fixed_grid), features_from(moving, moving_grid));
    });
  });
  m.def("set_weights", [](py::handle proxy, const Array& weights, const Geometry& grid) {
    auto image = itk::Image<float, 3>::New();
    set_grid(image.GetPointer(), weights, grid);
    with_metric(proxy, [&](auto* metric) { metric->SetWeights(image); });
  });
  m.def("set_current_level", [](py::handle proxy, unsigned level) {
    with_metric(proxy, [&](auto* metric) { metric->SetCurrentLevel(level); });
  });
  m.def("set_use_fused_kernel", [](py::handle proxy, bool use) {
    with_metric(proxy, [&](auto* metric) { metric->SetUseFusedKernel(use); });
  });
  m.def("fused_kernel_used", [](py::handle proxy) {
    return with_metric(proxy, [](auto* metric) { return metric->GetFusedKernelUsed(); });
  });
  m.def("feature_extractions", [](py::handle proxy) {
    return with_metric(proxy, [](auto* metric) { return metric->GetNumberOfFeatureExtractions(); });
  });
  m.def("alive", [] { return alive.load(); });
}
