#include "models/program.h"

#include <algorithm>
#include <cstddef>
#include <variant>
#include <vector>

#include "models/layers/layers.h"
#include "models/layers/timed_step.h"
#include "models/memory_plan.h"
#include "models/onednn_errors.h"

namespace nalab::models {

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
  Parts(const Graph& graph, const Weights& weights, const ProgramOptions& options, Workers& workers)
      : backend{workers, {}, options.isa, options.arithmetic}, constants(backend.onednn, weights), type(options.type) {
    buffers = buffers_of(graph, options.batch, options.type);
    const MemoryPlan plan = plan_memory(inference_lifetimes(graph, bytes_of(buffers)));
    memory = AlignedBuffer<std::byte>(plan.bytes);
    for (std::size_t i = 0; i < buffers.size(); ++i) buffers[i].data = memory.data() + plan.offsets[i];
    for (std::size_t i = 0; i < buffers.size(); ++i) {
      const Node& node = graph.nodes()[i];
      Site site{backend, weights, constants, {}, buffers[i]};
      for (const Value input : node.inputs) site.inputs.push_back(buffers[static_cast<std::size_t>(input)]);
      const bool is_attention = std::holds_alternative<Attention>(node.operation);
      steps.push_back(for_each_variant(is_attention, options.variants, backend, [&] {
        return std::visit([&](const auto& operation) { return make_step(operation, site); }, node.operation);
      }));
    }
  }

  Backend backend;
  Constants constants;
  ElementType type;
  std::vector<Buffer> buffers;
  AlignedBuffer<std::byte> memory;
  std::vector<TimedStep> steps;
  std::size_t chosen = 0;  ///< variant of the calls
};

Program::Program(const Graph& graph, const Weights& weights, const ProgramOptions& options, Workers& workers) {
  limit_instructions(options.isa.value_or(choose_isa()));
  with_onednn(options.type, [&] { parts_ = std::make_unique<Parts>(graph, weights, options, workers); });
}

Program::~Program() = default;

Seconds Program::forward(std::span<const float> input, std::span<float> output) {
  Seconds seconds;
  const double start = steady_seconds();
  set_values(parts_->buffers.front(), input);
  with_onednn(parts_->type, [&] {
    for (const TimedStep& step : parts_->steps) step.run(parts_->chosen, seconds);
  });
  const Buffer& result = parts_->buffers.back();
  std::copy_n(result.as<const float>(), result.elements(), output.begin());
  seconds.all = steady_seconds() - start;
  return seconds;
}

void Program::choose(std::size_t variant) { parts_->chosen = variant; }

void Program::forget() { make_no_numbers(parts_->memory); }

int64_t Program::value_bytes(const Graph& graph, int64_t batch, ElementType type) {
  return plan_memory(inference_lifetimes(graph, bytes_of(buffers_of(graph, batch, type)))).bytes;
}

int64_t Program::input_elements() const { return parts_->buffers.front().elements(); }
int64_t Program::output_elements() const { return parts_->buffers.back().elements(); }
int64_t Program::memory_bytes() const { return parts_->memory.size() + parts_->backend.workspace.size(); }

}  // namespace nalab::models
