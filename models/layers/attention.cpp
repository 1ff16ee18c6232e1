// Neighborhood attention: calls of nalab on views of what the layer before wrote, without copies.
#include <memory>

#include "core/kernels/registry.h"
#include "core/plan.h"
#include "core/tensors.h"
#include "models/attention_problems.h"
#include "models/layers/training.h"

namespace nalab::models {

namespace {

Plan plan_of(const Problem& problem, Pass pass, const Backend& backend) {
  return make_plan(problem, pass, {.variant = backend.variant, .arithmetic = backend.arithmetic, .isa = backend.isa});
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
        problem_(attention_problem(attention, group, site.output.extent, site.output.batch, site.output.type)),
        first_channel_(first_head * problem_.head_dim),
        forward_(plan_of(problem_, Pass::forward, backend_)),
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
    const Plan plan = plan_of(problem_, Pass::backward, backend_);
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
