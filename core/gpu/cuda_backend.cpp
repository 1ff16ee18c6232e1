// The library's GPU: finds it, and runs the kernels of core/gpu/hopper/ on copies of a caller's tensors.
#include <cuda_runtime_api.h>

#include <cstring>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "core/error.h"
#include "core/gpu/device.h"
#include "core/gpu/driver.h"
#include "core/gpu/hopper/cuda_error.h"
#include "core/gpu/hopper/device_memory.h"
#include "core/gpu/hopper/hopper.h"
#include "core/gpu/hopper/peak.h"
#include "core/tensor/tensor.h"

namespace nalab::gpu {

namespace {

/// Rows on the device are padded to this many elements: tensor maps need distances of 16 bytes.
constexpr int64_t kRowElements = 8;

int64_t padded(int64_t dim) { return geometry::ceil_div(dim, kRowElements) * kRowElements; }

/// The problem with rows that the kernels take: channels of zeros change neither scores nor results.
Problem padded(Problem problem) {
  problem.scale = problem.effective_scale();
  problem.head_dim = padded(problem.head_dim);
  problem.head_dim_v = padded(problem.head_dim_v);
  return problem;
}

/// Copies rows between two views on the host.
template <class Void, class OtherVoid>
void copy_rows(const BasicTensorView<Void>& from, const BasicTensorView<OtherVoid>& to) {
  const TokenShape& shape = from.shape;
  const int64_t element = size_of(from.type);
  const auto at = [&](const auto& view, int64_t b, const Token& x, int64_t h) {
    const TokenStrides& s = view.strides;
    return element * (b * s.batch + x[0] * s.layout[0] + x[1] * s.layout[1] + x[2] * s.layout[2] + h * s.heads);
  };
  for (int64_t b = 0; b < shape.batch; ++b) {
    for (int64_t i = 0; i < shape.tokens(); ++i) {
      const Token x = token_at(shape.layout, i);
      for (int64_t h = 0; h < shape.heads; ++h) {
        std::memcpy(static_cast<std::byte*>(to.data) + at(to, b, x, h),
                    static_cast<const std::byte*>(from.data) + at(from, b, x, h),
                    static_cast<std::size_t>(element * shape.dim));
      }
    }
  }
}

/// A tensor on the device.
class DeviceTensor {
 public:
  DeviceTensor() = default;
  /// `on_device`: the shape with padded rows.
  DeviceTensor(ElementType type, const TokenShape& shape, const TokenShape& on_device)
      : type_(type), shape_(shape), padded_(on_device), data_(allocate(static_cast<std::size_t>(bytes()))) {}

  void upload(const ConstTensorView& host) {
    if (is_alike(host)) {
      throw_on(cudaMemcpy(data_.get(), host.data, static_cast<std::size_t>(bytes()), cudaMemcpyHostToDevice),
               "copying a tensor to the device");
      return;
    }
    Tensor staged(type_, padded_);
    std::memset(staged.view().data, 0, static_cast<std::size_t>(bytes()));
    copy_rows(host, staged.view());
    throw_on(cudaMemcpy(data_.get(), staged.view().data, static_cast<std::size_t>(bytes()), cudaMemcpyHostToDevice),
             "copying a tensor to the device");
  }

  /// Fills it with NaN, so that what is not written does not go unnoticed.
  void poison() { throw_on(cudaMemset(data_.get(), 0xFF, static_cast<std::size_t>(bytes())), "filling a tensor"); }

  /// Rounds nothing: the tensor on the host has this type, or float32.
  void download(const TensorView& host) const {
    if (is_alike(host)) {
      throw_on(cudaMemcpy(host.data, data_.get(), static_cast<std::size_t>(bytes()), cudaMemcpyDeviceToHost),
               "copying a tensor from the device");
      return;
    }
    Tensor staged(type_, padded_);
    throw_on(cudaMemcpy(staged.view().data, data_.get(), static_cast<std::size_t>(bytes()), cudaMemcpyDeviceToHost),
             "copying a tensor from the device");
    TensorView rows = staged.view();
    rows.shape = shape_;
    if (host.type == type_) return copy_rows(rows, host);
    Tensor converted(host.type, shape_);
    with_element_type(type_, [&](auto element) {
      using T = decltype(element);
      const auto from = rows.as<T>();
      const auto to = converted.view().as<float>();
      for (int64_t b = 0; b < shape_.batch; ++b) {
        for (int64_t i = 0; i < shape_.tokens(); ++i) {
          for (int64_t h = 0; h < shape_.heads; ++h) {
            const Token x = token_at(shape_.layout, i);
            for (int64_t c = 0; c < shape_.dim; ++c) to.row(b, x, h)[c] = to_float(from.row(b, x, h)[c]);
          }
        }
      }
    });
    copy_rows(converted.view(), host);
  }

  /// The tensor over the tokens of a layout, which are those of the shape in the same order.
  TensorView view(const std::array<int64_t, 3>& layout) const {
    TokenShape shape = padded_;
    shape.layout = layout;
    return {data_.get(), type_, shape, TokenStrides::contiguous(shape)};
  }

 private:
  int64_t bytes() const { return padded_.elements() * size_of(type_); }
  /// Whether a tensor on the host has the same bytes in the same order.
  template <class View>
  bool is_alike(const View& host) const {
    return host.type == type_ && shape_ == padded_ && host.strides == TokenStrides::contiguous(shape_);
  }

  ElementType type_ = ElementType::f32;
  TokenShape shape_, padded_;
  DeviceMemory data_;
};

class HopperCall : public Resident {
 public:
  HopperCall(const Problem& problem, const Problem& walked, const TilePlan& plan, const Inputs& inputs)
      : out_(problem.type, out_shape(problem), out_shape(padded(problem))),
        lse_(ElementType::f32, lse_shape(problem), lse_shape(problem)) {
    const auto layout = q_shape(walked).layout;
    visit_tensors(problem, inputs, [&](const TensorInfo& info, const ConstTensorView& host) {
      TokenShape shape = info.shape;
      shape.dim = padded(shape.dim);
      inputs_.emplace_back(info.type, info.shape, shape).upload(host);
    });
    Inputs views;
    std::size_t i = 0;
    visit_tensors(problem, views, [&](const TensorInfo& info, ConstTensorView& view) {
      view = inputs_[i++].view(info.over == Over::layout ? layout : info.shape.layout);
    });
    out_.poison();
    lse_.poison();
    call_ =
        std::make_unique<hopper::Forward>(padded(walked), plan, views, Outputs{out_.view(layout), lse_.view(layout)});
    throw_on(cudaEventCreate(&begin_), "making an event");
    throw_on(cudaEventCreate(&end_), "making an event");
  }
  ~HopperCall() override {
    cudaEventDestroy(begin_);
    cudaEventDestroy(end_);
  }
  HopperCall(const HopperCall&) = delete;
  HopperCall& operator=(const HopperCall&) = delete;

  double forward() override {
    throw_on(cudaEventRecord(begin_), "recording an event");
    call_->run(nullptr);
    throw_on(cudaEventRecord(end_), "recording an event");
    throw_on(cudaEventSynchronize(end_), "computing");
    float milliseconds = 0;
    throw_on(cudaEventElapsedTime(&milliseconds, begin_, end_), "reading a clock");
    return milliseconds * 1e-3;
  }

  void download(const Outputs& outputs) override {
    out_.download(outputs.out);
    lse_.download(outputs.lse);
  }

 private:
  std::vector<DeviceTensor> inputs_;
  DeviceTensor out_, lse_;
  std::unique_ptr<hopper::Forward> call_;
  cudaEvent_t begin_ = nullptr, end_ = nullptr;
};

/// The current device, if it has the instructions of sm_90.
std::optional<GpuInfo> find_gpu() {
  int device = 0;
  cudaDeviceProp properties{};
  if (cudaGetDevice(&device) != cudaSuccess || cudaGetDeviceProperties(&properties, device) != cudaSuccess) {
    return std::nullopt;
  }
  if (properties.major != 9) return std::nullopt;
  int kilohertz = 0, memory_kilohertz = 0;
  cudaDeviceGetAttribute(&kilohertz, cudaDevAttrClockRate, device);
  cudaDeviceGetAttribute(&memory_kilohertz, cudaDevAttrMemoryClockRate, device);
  char bus[32] = {};
  cudaDeviceGetPCIBusId(bus, sizeof bus, device);
  const DriverInfo driver = ask_driver(bus);
  return GpuInfo{
      .name = properties.name,
      .limits = {properties.multiProcessorCount, static_cast<int64_t>(properties.sharedMemPerBlockOptin)},
      .clock_hz = kilohertz * 1e3,
      .memory_clock_hz = memory_kilohertz * 1e3,
      .memory_bytes = static_cast<int64_t>(properties.totalGlobalMem),
      .power_limit_watts = driver.power_limit_watts,
      .driver = driver.version,
  };
}

class CudaBackend : public Backend {
 public:
  const GpuInfo* gpu() const override {
    static const std::optional<GpuInfo> found = find_gpu();
    return found ? &*found : nullptr;
  }
  std::optional<std::string> unsupported(const Problem& problem) const override {
    return hopper::unsupported(padded(problem));
  }
  std::unique_ptr<Resident> open(const Problem& problem, const Problem& walked, const TilePlan& plan,
                                 const Inputs& inputs) const override {
    return std::make_unique<HopperCall>(problem, walked, plan, inputs);
  }
  PeakRate measure_peak() const override { return hopper::measure_peak(); }
};

const CudaBackend cuda_backend;
[[maybe_unused]] const bool installed = (install_backend(cuda_backend), true);

}  // namespace

}  // namespace nalab::gpu
