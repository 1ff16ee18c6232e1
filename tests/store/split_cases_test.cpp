// Every case of the case files by the split operators: with a softmax between them they give what is expected of
// attention, and by the chain rule its gradients.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "core/compare.h"
#include "core/kernels/registry.h"
#include "core/operators/split_attention.h"
#include "store/cases.h"
#include "tests/core/operators/split.h"
#include "tests/source_folder.h"

namespace nalab::store {
namespace {

std::vector<std::string> case_files() {
  std::vector<std::string> files;
  for (const auto& entry : std::filesystem::directory_iterator(source_folder() + "/data/cases")) {
    if (entry.path().extension() == ".h5") files.push_back(entry.path());
  }
  return files;
}

Tensor tensor_of(const TensorInfo& info, const std::vector<float>& values) {
  Tensor tensor(ElementType::f32, info.shape);
  std::copy(values.begin(), values.end(), tensor.data<float>());
  return tensor;
}

/// A tensor of attn's shape with numbers computed in double.
void store(const std::vector<double>& values, Tensor& tensor) {
  std::transform(values.begin(), values.end(), tensor.data<float>(), [](double x) { return static_cast<float>(x); });
}

/// The results of a case by one variant's split operators, by their names.
std::map<std::string_view, std::vector<double>> results_of(const Case& c, std::string_view variant) {
  Problem problem = c.problem;
  problem.scale = c.problem.effective_scale();
  std::map<std::string_view, Tensor> tensors;
  test::Views views;
  for (const Pass pass : test::kSplitPasses) {
    for (const TensorInfo& info : tensors_of(problem, pass)) {
      const auto given = c.tensors.find(info.name);
      Tensor tensor = given == c.tensors.end() ? Tensor(ElementType::f32, info.shape) : tensor_of(info, given->second);
      const auto [at, added] = tensors.emplace(info.name, std::move(tensor));
      views[info.name] = at->second.view();
    }
  }
  Context context(2);
  const auto call = [&](Pass pass) {
    test::call_split(make_plan(problem, pass, {.variant = variant}), pass, views, context);
  };
  const int64_t slots = problem.keys_per_query();
  call(Pass::weights);
  const auto weights = test::softmax_rows(test::to_double(views.at("attn")), slots);
  store(weights, tensors.at("attn"));
  call(Pass::values);
  call(Pass::values_backward);
  store(test::softmax_rows_gradient(weights, test::to_double(views.at("dattn")), slots), tensors.at("dattn"));
  call(Pass::weights_backward);
  std::map<std::string_view, std::vector<double>> results;
  for (const auto& [name, view] : views) results[name] = test::to_double(view);
  return results;
}

TEST(SplitCases, WithASoftmaxBetweenGiveWhatIsExpectedOfEveryCase) {
  int64_t compared = 0;
  for (const std::string& file : case_files()) {
    for (const std::string& name : case_names(file)) {
      const Case c = read_case(file, name);
      if (!c.has_expected || !c.backward) continue;
      for (const Variant& variant : variants()) {
        if (variant.supports(c.problem, Pass::weights)) continue;
        SCOPED_TRACE(std::string(variant.name) + " " + name);
        const auto results = results_of(c, variant.name);
        const double dv = test::max_abs(c.expected.at("dv"));
        for (const auto& [tensor, expected] : c.expected) {
          if (tensor == "lse") continue;  // the softmax is the test's own
          const TensorKind kind = tensor == "out" ? TensorKind::output : TensorKind::gradient;
          // 100: more than any score of these cases.
          const auto& values = results.at(tensor);
          const Comparison errors =
              compare(std::span(values), std::span(expected), tolerance(ElementType::f32, kind, 100), dv);
          EXPECT_TRUE(errors.ok) << tensor << ": " << errors.to_string();
          ++compared;
        }
      }
    }
  }
  EXPECT_GT(compared, 14 * 3 * 4);
}

}  // namespace
}  // namespace nalab::store
