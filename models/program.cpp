#include "models/program.h"

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <variant>
#include <vector>

#include "core/error.h"
#include "core/simd/isa.h"
#include "models/layers/layers.h"
#include "models/memory_plan.h"

namespace nalab::models {

namespace {

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

/// oneDNN keeps to NALAB_ISA as the kernels do. It takes a limit only before its first use.
void limit_instructions() {
  static const bool once = [] {
    using dnnl::cpu_isa;
    constexpr cpu_isa limits[] = {cpu_isa::sse41, cpu_isa::avx2, cpu_isa::avx512_core, cpu_isa::avx512_core_bf16,
                                  cpu_isa::all};
    return dnnl::set_max_cpu_isa(limits[static_cast<std::size_t>(choose_isa())]) == dnnl::status::success;
  }();
  static_cast<void>(once);
}

/// Calls f; what oneDNN refuses is an Error.
template <class F>
decltype(auto) with_onednn(ElementType type, const F& f) {
  try {
    return f();
  } catch (const dnnl::error& error) {
    throw Error("oneDNN, in " + std::string(name(type)) + " on this CPU: " + error.message);
  }
}

}  // namespace

void Backend::reserve(int64_t bytes) {
  if (workspace.size() < bytes) workspace = AlignedBuffer<std::byte>(bytes);
}

struct Program::Parts {
  struct TimedStep {
    Step run;
    bool is_attention;
  };

  Parts(const Graph& graph, const Weights& weights, const ProgramOptions& options, Workers& workers)
      : backend{workers, options.variant}, type(options.type) {
    std::vector<int64_t> sizes;
    for (const Node& node : graph.nodes()) {
      const ElementType element = node.precision == Precision::full ? ElementType::f32 : options.type;
      buffers.push_back({nullptr, element, options.batch, node.extent});
      sizes.push_back(buffers.back().elements() * size_of(element));
    }
    const MemoryPlan plan = plan_memory(graph, sizes);
    memory = AlignedBuffer<std::byte>(plan.bytes);
    for (std::size_t i = 0; i < buffers.size(); ++i) buffers[i].data = memory.data() + plan.offsets[i];
    for (std::size_t i = 0; i < buffers.size(); ++i) {
      const Node& node = graph.nodes()[i];
      Site site{backend, weights, {}, buffers[i]};
      for (const Value input : node.inputs) site.inputs.push_back(buffers[static_cast<std::size_t>(input)]);
      steps.push_back({std::visit([&](const auto& operation) { return make_step(operation, site); }, node.operation),
                       std::holds_alternative<Attention>(node.operation)});
    }
  }

  void set_input(std::span<const float> values) {
    const Buffer& target = buffers.front();
    if (target.type == ElementType::bf16) {
      std::ranges::transform(values, target.as<bf16>(), from_float<bf16>);
    } else {
      std::ranges::copy(values, target.as<float>());
    }
  }

  Backend backend;
  ElementType type;
  std::vector<Buffer> buffers;
  AlignedBuffer<std::byte> memory;
  std::vector<TimedStep> steps;
};

Program::Program(const Graph& graph, const Weights& weights, const ProgramOptions& options, Workers& workers) {
  if (options.type == ElementType::f16) throw Error("models compute in f32 and bf16, not in f16");
  limit_instructions();
  const OneThread here;
  with_onednn(options.type, [&] { parts_ = std::make_unique<Parts>(graph, weights, options, workers); });
}

Program::~Program() = default;

Seconds Program::forward(std::span<const float> input, std::span<float> output) {
  Seconds seconds;
  const double start = now();
  parts_->set_input(input);
  with_onednn(parts_->type, [&] {
    for (const auto& [run, is_attention] : parts_->steps) {
      const double before = is_attention ? now() : 0;
      run();
      if (is_attention) seconds.attention += now() - before;
    }
  });
  const Buffer& result = parts_->buffers.back();
  std::copy_n(result.as<const float>(), result.elements(), output.begin());
  seconds.all = now() - start;
  return seconds;
}

int64_t Program::input_elements() const { return parts_->buffers.front().elements(); }
int64_t Program::output_elements() const { return parts_->buffers.back().elements(); }
int64_t Program::memory_bytes() const { return parts_->memory.size() + parts_->backend.workspace.size(); }

}  // namespace nalab::models
