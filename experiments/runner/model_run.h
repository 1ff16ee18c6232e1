// One group of models while it runs: verified, then timed.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "experiments/model/model.h"
#include "experiments/plan/models.h"
#include "experiments/runner/sampler.h"
#include "store/schema.h"

namespace nalab::runner {

/// The variants of a model side by side, on the same memory. One image is compared with what the reference attention
/// makes of it, if the plan says so: its logits or the image that is generated and, of a step of training, the
/// gradients of all parameters. The whole batch is compared with what the first variant makes of it.
class ModelRun {
 public:
  /// make: what gives the sessions.
  ModelRun(const plan::ModelGroup& group, Workers& workers, Clock& clock, Host& host,
           decltype(model::make_session)& make = model::make_session);

  /// The finished rows. Throws Stopped.
  std::vector<store::ModelRow> run();
  /// The rows without running any of them.
  std::vector<store::ModelRow> leave_out(const std::string& reason);

 private:
  /// A row that runs: which one, and which of the session's variants.
  struct Running {
    std::size_t row, variant;
  };

  /// A session with the rows that are still good, after other variants.
  std::vector<Running> open(int64_t batch, std::vector<std::string> variants);
  /// The call of a variant that is verified. Returns false if the row has its final status.
  bool is_computed(store::ModelRow& row, std::size_t variant);
  void verify_one_image();
  void verify_batch();
  void compare(store::ModelRow& row, const model::Results& found, const model::Results& expected,
               const std::string& with);
  void time();

  const plan::ModelGroup& group_;
  Workers& workers_;
  Host& host_;
  decltype(model::make_session)& make_session_;
  Sampler sampler_;
  std::vector<store::ModelRow> finished_;
  model::Results expected_;  ///< of one image by the reference attention; empty if the batch has none to compare
  std::unique_ptr<model::Session> session_;
  std::vector<Running> running_;
};

}  // namespace nalab::runner
