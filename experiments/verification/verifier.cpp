#include "experiments/verification/verifier.h"

namespace nalab::verification {

VerificationResult Verifier::verify(const Problem& problem, const Sample& sample) {
  const Inputs inputs = tensors_.inputs();
  const SavedForBackward saved = tensors_.saved();
  const auto [it, is_new] = by_problem_.try_emplace(problem.id());
  if (is_new) {
    it->second = is_split(pass_) ? ask_split_oracle(problem, pass_, tensors_, sample, workers_)
                                 : ask_oracle(problem, inputs, saved.dout, sample, workers_);
  }
  Expected expected = it->second;
  if (pass_ == Pass::backward && sample.gradients) add_sampled_keys(problem, inputs, saved, sample, workers_, expected);
  return compare_tensors(problem, pass_, expected, [this](const TensorInfo& info, const auto& rows) {
    const Tensor& tensor = *tensors_.find(info.name);
    return rows ? gather(tensor, *rows) : to_floats(tensor);
  });
}

std::string not_verified(const VerificationResult& result) {
  const auto& names = result.not_compared;
  std::string text;
  for (std::size_t i = 0; i < names.size(); ++i) {
    text += (i == 0 ? "" : i + 1 == names.size() ? " and " : ", ") + names[i];
  }
  if (names.empty()) return "";
  return text + (names.size() == 1 ? " was" : " were") +
         " not verified: their oracle would take longer than the budget";
}

}  // namespace nalab::verification
