#include "experiments/cli/stored_case.h"

#include <charconv>
#include <map>
#include <string>
#include <utility>

#include "core/error.h"

namespace nalab::cli {

namespace {

/// The numbers of "30x48x80".
std::vector<int64_t> numbers(const char* field, const std::string& text) {
  std::vector<int64_t> values;
  const char* at = text.data();
  const char* const end = at + text.size();
  while (true) {
    const auto [stop, code] = std::from_chars(at, end, values.emplace_back());
    if (code != std::errc{} || (stop != end && *stop != 'x')) {
      throw Error(std::string(field) + " '" + text + "' must be numbers joined by x");
    }
    if (stop == end) return values;
    at = stop + 1;
  }
}

}  // namespace

Problem problem_of(const store::Row& row) {
  const auto layout = numbers("layout", row.layout);
  const auto per_axis = [&](const char* field, const std::string& text) {
    const auto values = numbers(field, text);
    if (values.size() != layout.size()) {
      throw Error(std::string(field) + " '" + text + "' must have as many numbers as layout '" + row.layout + "'");
    }
    return values;
  };
  const auto window = per_axis("window", row.window);
  const auto stride = per_axis("stride", row.stride);
  const auto dilation = per_axis("dilation", row.dilation);
  const auto causal = per_axis("causal", row.causal);
  Problem problem{.axes = {},
                  .batch = row.batch,
                  .heads = row.heads,
                  .heads_kv = row.heads_kv,
                  .head_dim = row.head_dim,
                  .head_dim_v = row.head_dim_v,
                  .extra_tokens = row.extra_tokens,
                  .scale = row.scale,
                  .type = parse_element_type(row.type)};
  for (std::size_t i = 0; i < layout.size(); ++i) {
    problem.axes.push_back({layout[i], window[i], stride[i], dilation[i], causal[i] != 0});
  }
  problem.validate();
  return problem;
}

StoredCase stored_case(const store::Row& row, std::vector<store::StoredTensor> tensors) {
  StoredCase stored;
  store::Case& inputs = stored.inputs;
  inputs.name = row.id;
  inputs.problem = problem_of(row);
  stored.outputs.name = row.id;

  std::map<std::string, store::StoredTensor> by_name;
  for (store::StoredTensor& tensor : tensors) by_name[tensor.name] = std::move(tensor);
  const auto take = [&](const std::string& name) {
    auto node = by_name.extract(name);
    if (node.empty()) throw Error("tensor " + name + " is not stored");
    if (node.mapped().shape != store::tensor_extents(inputs.problem, name)) {
      throw Error("tensor " + name + " has another shape than its problem says");
    }
    return std::move(node.mapped());
  };
  const auto take_output = [&](const std::string& name) {
    store::StoredTensor tensor = take(name);
    stored.outputs.datasets[name] = {std::move(tensor.shape), std::move(tensor.data)};
  };
  const bool extra = inputs.problem.extra_tokens > 0;
  stored.gradients = by_name.contains("dq");
  inputs.q = take("q").data;
  inputs.k = take("k").data;
  inputs.v = take("v").data;
  if (extra) inputs.extra_k = take("extra_k").data;
  if (extra) inputs.extra_v = take("extra_v").data;
  if (stored.gradients) inputs.dout = take("dout").data;
  std::vector<const char*> outputs{"out", "lse"};
  if (stored.gradients) outputs.insert(outputs.end(), {"dq", "dk", "dv"});
  if (stored.gradients && extra) outputs.insert(outputs.end(), {"dextra_k", "dextra_v"});
  for (const char* name : outputs) take_output(name);
  return stored;
}

}  // namespace nalab::cli
