// Neighborhood attention: calls of nalab on views of what the layer before wrote, without copies.
#include <memory>

#include "core/kernels/registry.h"
#include "core/plan.h"
#include "core/tensors.h"
#include "models/layers/training.h"

namespace nalab::models {

namespace {

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
  return {buffer.at(first_channel),
          buffer.type,
          shape,
          {.batch = buffer.extent.rows * row, .layout = {0, row, channels}, .heads = shape.dim}};
}

/// The heads of one dilation.
class Group {
 public:
  Group(const Attention& attention, const HeadGroup& group, int64_t first_head, const Site& site)
      : backend_(site.backend),
        problem_(problem_of(attention, group, site.output)),
        first_channel_(first_head * problem_.head_dim),
        forward_(make_plan(problem_, Pass::forward, {.variant = backend_.variant})),
        lse_(std::make_shared<AlignedBuffer<float>>(lse_shape(problem_).elements())) {
    inputs_ = {part(site.x(), 0), part(site.x(), 1), part(site.x(), 2), {}, {}};
    outputs_ = {part(site.output, 0), contiguous_view(lse_->data(), lse_shape(problem_))};
    if (problem_.relative_bias) {
      table_ = site.row(group.rpb);
      inputs_.rpb = contiguous_view(static_cast<const float*>(table_.get_data_handle()), rpb_shape(problem_));
    }
    backend_.reserve(forward_.workspace_bytes(backend_.workers.threads()));
  }

  void forward() const { forward_.variant().forward(forward_, inputs_, outputs_, execution()); }

  /// The backward pass for the gradient of the output: those of queries, keys, values and table.
  Step backward(const HeadGroup& group, const BackwardSite& site) const {
    const Plan plan = make_plan(problem_, Pass::backward, {.variant = backend_.variant});
    backend_.reserve(plan.workspace_bytes(backend_.workers.threads()));
    const Buffer& d_qkv = site.d_inputs.front();
    nalab::Gradients gradients{part(d_qkv, 0), part(d_qkv, 1), part(d_qkv, 2), {}, {}};
    if (problem_.relative_bias) {
      gradients.drpb = contiguous_view(site.gradients.at(group.rpb).data(), rpb_shape(problem_));
    }
    const SavedForBackward saved{outputs_.out, outputs_.lse, part(site.d_output, 0)};
    return [group = *this, plan, gradients, saved] {
      plan.variant().backward(plan, group.inputs_, saved, gradients, group.execution());
    };
  }

 private:
  /// These heads in the i-th of the tensors that lie side by side in a buffer.
  TensorView part(const Buffer& buffer, int64_t i) const {
    return heads_of(buffer, q_shape(problem_), i * buffer.extent.channels / 3 + first_channel_);
  }

  Execution execution() const {
    return {backend_.workers, {backend_.workspace.data(), static_cast<std::size_t>(backend_.workspace.size())}};
  }

  Backend& backend_;
  Problem problem_;
  int64_t first_channel_;
  Plan forward_;
  std::shared_ptr<AlignedBuffer<float>> lse_;
  memory table_;
  Inputs inputs_;
  Outputs outputs_;
};

std::vector<Group> groups_of(const Attention& attention, const Site& site) {
  std::vector<Group> groups;
  int64_t first_head = 0;
  for (const HeadGroup& group : attention.groups) {
    groups.emplace_back(attention, group, first_head, site);
    first_head += group.heads;
  }
  return groups;
}

Step forward_of(std::vector<Group> groups) {
  return [groups = std::move(groups)] {
    for (const Group& group : groups) group.forward();
  };
}

}  // namespace

Step make_step(const Attention& attention, const Site& site) { return forward_of(groups_of(attention, site)); }

TrainingSteps make_training_steps(const Attention& attention, const BackwardSite& site) {
  const std::vector<Group> groups = groups_of(attention, site.forward);
  std::vector<Step> backward;
  for (std::size_t i = 0; i < groups.size(); ++i) backward.push_back(groups[i].backward(attention.groups[i], site));
  return {forward_of(groups), [backward = std::move(backward)] {
            for (const Step& step : backward) step();
          }};
}

}  // namespace nalab::models
