#include <memory>

#include "core/kernels/registry.h"
#include "core/plan.h"
#include "core/tensors.h"
#include "models/layers/layers.h"

namespace nalab::models {

namespace {

/// The heads of one dilation: a call of nalab on views of what the layer before wrote, without copies.
struct Call {
  Plan plan;
  Inputs inputs;
  Outputs outputs;
};

Problem problem_of(const Attention& attention, const HeadGroup& group, const Buffer& out) {
  const auto axis = [&](int64_t extent) {
    return Axis{.extent = extent, .window = attention.window, .dilation = group.dilation};
  };
  const int64_t head_dim = out.extent.channels / attention.heads();
  return {.axes = {axis(out.extent.rows), axis(out.extent.columns)},
          .batch = out.batch,
          .heads = group.heads,
          .heads_kv = group.heads,
          .head_dim = head_dim,
          .head_dim_v = head_dim,
          .relative_bias = !group.rpb.empty(),
          .type = out.type};
}

/// Some adjacent heads of a buffer, from a channel on.
TensorView heads_of(const Buffer& buffer, const TokenShape& shape, int64_t first_channel) {
  const int64_t channels = buffer.extent.channels, row = buffer.extent.columns * channels;
  return {buffer.data + first_channel * size_of(buffer.type),
          buffer.type,
          shape,
          {.batch = buffer.extent.rows * row, .layout = {0, row, channels}, .heads = shape.dim}};
}

}  // namespace

Step make_step(const Attention& attention, const Site& site) {
  Backend& backend = site.backend;
  const Buffer &qkv = site.x(), &out = site.output;
  // No step after this one reads lse, but each variant writes it.
  auto lse = std::make_shared<AlignedBuffer<float>>(out.tokens() * attention.heads());
  auto tables = std::make_shared<Weights>();
  std::vector<Call> calls;
  int64_t first_head = 0;
  for (const HeadGroup& group : attention.groups) {
    const Problem problem = problem_of(attention, group, out);
    const int64_t channel = first_head * problem.head_dim, all = out.extent.channels;
    const TokenShape shape = q_shape(problem);
    Call call{make_plan(problem, Pass::forward, {.variant = backend.variant}),
              {heads_of(qkv, shape, channel),
               heads_of(qkv, shape, all + channel),
               heads_of(qkv, shape, 2 * all + channel),
               {},
               {}},
              {heads_of(out, shape, channel), contiguous_view(lse->data(), lse_shape(problem))}};
    if (problem.relative_bias) {
      const std::vector<float>& table = (*tables)[group.rpb] = site.parameter(group.rpb);
      call.inputs.rpb = contiguous_view(table.data(), rpb_shape(problem));
    }
    backend.reserve(call.plan.workspace_bytes(backend.workers.threads()));
    calls.push_back(std::move(call));
    first_head += group.heads;
  }
  return [&backend, calls = std::move(calls), lse, tables] {
    const Execution execution{backend.workers,
                              {backend.workspace.data(), static_cast<std::size_t>(backend.workspace.size())}};
    for (const Call& call : calls) call.plan.variant().forward(call.plan, call.inputs, call.outputs, execution);
  };
}

}  // namespace nalab::models
