#include "cli/stored_case.h"

#include <map>
#include <string>
#include <utility>

#include "core/error.h"
#include "store/rows.h"

namespace nalab::cli {

StoredCase stored_case(const store::Row& row, std::vector<store::StoredTensor> tensors) {
  StoredCase stored;
  store::Case& inputs = stored.inputs;
  inputs.name = row.id;
  inputs.problem = store::problem_of(row);
  stored.outputs.name = row.id;

  std::map<std::string, store::StoredTensor> by_name;
  for (store::StoredTensor& tensor : tensors) by_name[tensor.name] = std::move(tensor);
  const auto take = [&](const std::string& name) {
    auto node = by_name.extract(name);
    if (node.empty()) throw Error("tensor " + name + " is not stored");
    if (node.mapped().shape != store::tensor_extents(inputs.problem, name)) {
      throw Error("tensor " + name + " does not have the shape of its problem");
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
