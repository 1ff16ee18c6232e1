#include "models/program.h"

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <variant>
#include <vector>

#include "models/layers/layers.h"
#include "models/memory_plan.h"
#include "models/onednn_errors.h"

namespace nalab::models {

namespace {

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

}  // namespace

void set_values(const Buffer& buffer, std::span<const float> values) {
  if (buffer.type == ElementType::bf16) {
    std::ranges::transform(values, buffer.as<bf16>(), from_float<bf16>);
  } else {
    std::ranges::copy(values, buffer.as<float>());
  }
}

void Backend::reserve(int64_t bytes) {
  if (workspace.size() < bytes) workspace = AlignedBuffer<std::byte>(bytes);
}

struct Program::Parts {
  struct TimedStep {
    Step run;
    bool is_attention;
  };

  Parts(const Graph& graph, const Weights& weights, const ProgramOptions& options, Workers& workers)
      : backend{workers, options.variant}, constants(backend.onednn, weights), type(options.type) {
    std::vector<int64_t> sizes;
    for (const Node& node : graph.nodes()) {
      const ElementType element = node.precision == Precision::full ? ElementType::f32 : options.type;
      buffers.push_back({nullptr, element, options.batch, node.extent});
      sizes.push_back(buffers.back().elements() * size_of(element));
    }
    const MemoryPlan plan = plan_memory(inference_lifetimes(graph, sizes));
    memory = AlignedBuffer<std::byte>(plan.bytes);
    for (std::size_t i = 0; i < buffers.size(); ++i) buffers[i].data = memory.data() + plan.offsets[i];
    for (std::size_t i = 0; i < buffers.size(); ++i) {
      const Node& node = graph.nodes()[i];
      Site site{backend, weights, constants, {}, buffers[i]};
      for (const Value input : node.inputs) site.inputs.push_back(buffers[static_cast<std::size_t>(input)]);
      steps.push_back({std::visit([&](const auto& operation) { return make_step(operation, site); }, node.operation),
                       std::holds_alternative<Attention>(node.operation)});
    }
  }

  Backend backend;
  Constants constants;
  ElementType type;
  std::vector<Buffer> buffers;
  AlignedBuffer<std::byte> memory;
  std::vector<TimedStep> steps;
};

Program::Program(const Graph& graph, const Weights& weights, const ProgramOptions& options, Workers& workers) {
  with_onednn(options.type, [&] { parts_ = std::make_unique<Parts>(graph, weights, options, workers); });
}

Program::~Program() = default;

Seconds Program::forward(std::span<const float> input, std::span<float> output) {
  Seconds seconds;
  const double start = now();
  set_values(parts_->buffers.front(), input);
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
