#include "experiments/runner/runner.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <memory>
#include <new>
#include <string>
#include <vector>

#include "core/tensor/buffer.h"
#include "experiments/plan/budget.h"
#include "experiments/runner/group_rows.h"
#include "experiments/runner/model_run.h"
#include "experiments/runner/sampler.h"
#include "experiments/runner/simulation.h"
#include "experiments/runner/stopping.h"
#include "experiments/runner/tensors.h"
#include "experiments/verification/verifier.h"
#include "store/rows.h"
#include "store/samples.h"

namespace nalab::runner {

namespace {

constexpr int64_t kPackingSamples = 5;

/// What is known about a row before it runs; refused if the plan says so.
store::FinishedRow planned(const plan::PlannedRow& row, int threads) {
  store::Row r;
  r.id = row.id;
  r.position = row.position;
  r.config = row.config;
  r.label = row.label;
  r.baseline = row.baseline;
  r.pass = config::name(row.pass);
  store::describe(row.problem, r);
  r.variant = row.variant->name;
  r.device = name(row.variant->device);
  r.isa = name(row.isa);
  for (const nalab::Plan& plan : row.plans) {
    const bool is_second = plan.pass() == Pass::backward;
    (is_second ? r.backward_arithmetic : r.arithmetic) = plan.arithmetic_name();
    (is_second ? r.backward_tiling : r.tiling) = plan.tiling_text();
  }
  r.threads = threads;
  r.status = row.refusal ? kRefused : kDone;
  r.reason = row.refusal.value_or("");
  r.total_queries = row.total_queries;
  r.attended_pairs = row.attended_pairs;
  r.useful_flops = row.useful_flops;
  r.executed_flops = row.executed_flops;
  r.tensor_bytes = row.tensor_bytes;
  r.workspace_bytes = row.workspace_bytes;
  return {r, {}};
}

/// One group while it runs.
class GroupRun {
 public:
  GroupRun(const plan::Group& group, SharedTensors& shared, Workers& workers, Clock& clock, Host& host,
           store::ResultsSink& sink)
      : group_(group),
        shared_(shared),
        workers_(workers),
        host_(host),
        sampler_(clock, host, group.settings.timing),
        sink_(sink),
        execution_{workers, {}} {
    for (const plan::PlannedRow& row : group.rows) finished_.push_back(planned(row, workers.threads()));
  }

  /// Throws Stopped.
  std::vector<store::FinishedRow> run() {
    if (still_good(finished_).empty()) return std::move(finished_);
    shared_.prepare_for(problem_of_tensors(), group_.rows.front().pass, group_.settings.seed);
    refuse_what_does_not_fit(group_.rows, finished_, host_, shared_.bytes());
    if (!still_good(finished_).empty()) {
      try {
        allocate();
        host_.watch();
        for (const std::size_t i : still_good(finished_)) verify(i);
        for (const std::size_t i : still_good(finished_)) warm_up(i);
        time();
        const Observation seen = host_.observe();
        for (const std::size_t i : still_good(finished_)) note(seen, finished_[i].row);
        for (const std::size_t i : still_good(finished_)) time_packing(i);
      } catch (const std::bad_alloc&) {
        shared_ = {};
        refuse_all(finished_, "not enough memory");
      }
    }
    return std::move(finished_);
  }

  /// The rows without running any of them.
  std::vector<store::FinishedRow> leave_out(const std::string& reason) {
    refuse_all(finished_, reason);
    return std::move(finished_);
  }

 private:
  void end(std::size_t i, const char* status, const std::string& reason) {
    runner::end(finished_[i].row, status, reason);
  }

  /// A problem whose tensors serve all rows that are to run: they differ at most in the bias, which self attention
  /// lacks and ignores.
  const Problem& problem_of_tensors() {
    const std::vector<std::size_t> rows = still_good(finished_);
    const auto with_bias =
        std::ranges::find_if(rows, [this](std::size_t i) { return group_.rows[i].problem.relative_bias; });
    return group_.rows[with_bias == rows.end() ? rows.front() : *with_bias].problem;
  }

  void allocate() {
    int64_t workspace = 0;
    for (const std::size_t i : still_good(finished_)) workspace = std::max(workspace, group_.rows[i].workspace_bytes);
    const config::RowPass pass = group_.rows.front().pass;
    tensors_ = &shared_.of(problem_of_tensors(), pass, group_.settings.seed, workers_);
    verifier_ = std::make_unique<verification::Verifier>(tensors_->all(), config::passes_of(pass).back(), workers_);
    workspace_ = AlignedBuffer<std::byte>(workspace);
    execution_.workspace = {workspace_.data(), static_cast<std::size_t>(workspace_.size())};
  }

  void compute(const plan::PlannedRow& row) {
    if (row.variant->open != nullptr) {
      device_seconds_ = resident(row).forward();
    } else {
      for (const nalab::Plan& plan : row.plans) compute(plan);
    }
  }

  /// The tensors of a row on its variant's device, copied there at the first call.
  Resident& resident(const plan::PlannedRow& row) {
    std::unique_ptr<Resident>& call = residents_[&row];
    if (call == nullptr) call = row.variant->open(row.plans.front(), tensors_->inputs());
    return *call;
  }

  /// Brings the results of a row's last call to where they are verified.
  void fetch(const plan::PlannedRow& row) {
    if (row.variant->open != nullptr) resident(row).download(tensors_->outputs());
  }

  void compute(const nalab::Plan& plan) {
    const Variant& variant = plan.variant();
    const GroupTensors& t = *tensors_;
    switch (plan.pass()) {
      case Pass::forward:
        return variant.forward(plan, t.inputs(), t.outputs(), execution_);
      case Pass::backward:
        return variant.backward(plan, t.inputs(), t.saved(), t.gradients(), execution_);
      case Pass::weights:
        return variant.split->weights(plan, t.inputs(), t.attn(), execution_);
      case Pass::weights_backward:
        return variant.split->weights_backward(plan, t.inputs(), t.dattn(), t.gradients(), execution_);
      case Pass::values:
        return variant.split->values(plan, t.attn(), t.inputs(), t.outputs().out, execution_);
      case Pass::values_backward:
        return variant.split->values_backward(plan, t.attn(), t.inputs(), t.saved().dout, t.dattn(), t.gradients(),
                                              execution_);
    }
  }

  /// The packing of a row's forward call.
  void pack(const plan::PlannedRow& row) { row.variant->pack(row.plans.front(), tensors_->inputs(), execution_); }

  /// Makes the row's call. Returns false if it threw; the row then has its final status.
  bool call(std::size_t i) {
    return sampler_.call(finished_[i].row, [&] { compute(group_.rows[i]); });
  }

  /// The first call; its results are verified, and stored if requested.
  void verify(std::size_t i) {
    const plan::PlannedRow& row = group_.rows[i];
    store::FinishedRow& finished = finished_[i];
    tensors_->poison(workers_);
    if (!call(i) || !sampler_.call(finished.row, [&] { fetch(row); })) return;
    const auto result =
        verifier_->verify(row.problem, {row.verified_queries, row.gradient_sample, group_.settings.seed});
    finished.row.verified_queries = result.verified_queries;
    finished.row.error_frobenius = result.worst_frobenius().error;
    finished.row.bound_frobenius = result.worst_frobenius().bound;
    finished.row.error_max = result.worst_max().error;
    finished.row.bound_max = result.worst_max().bound;
    finished.row.reason = verification::not_verified(result);
    if (row.stores_tensors) {
      tensors_->store(row.problem, [&](const store::StoredTensor& tensor) { sink_.keep(row.id, tensor); });
    }
    if (!result.ok()) end(i, kFailed, result.failure());
  }

  void warm_up(std::size_t i) {
    finished_[i].row.warmups = group_.settings.timing.warmups;
    for (int64_t n = 1; n < group_.settings.timing.warmups; ++n) {
      if (!call(i)) return;
    }
  }

  void time() {
    std::vector<Sampler::Timed> rows;
    for (const std::size_t i : still_good(finished_)) {
      const plan::PlannedRow& row = group_.rows[i];
      rows.push_back(
          {&finished_[i].row, [this, &row] { compute(row); }, row.variant->open ? &device_seconds_ : nullptr});
    }
    sampler_.time(std::move(rows));
  }

  /// After the samples, which it must not disturb.
  void time_packing(std::size_t i) {
    const plan::PlannedRow& row = group_.rows[i];
    if (row.variant->pack == nullptr || row.pass != config::RowPass::forward) return;
    const config::Timing& timing = group_.settings.timing;
    std::vector<double> samples;
    do {
      if (!sampler_.sample(finished_[i].row, samples, [&] { pack(row); })) return;
    } while (std::ssize(samples) < kPackingSamples && !are_enough(samples, timing) &&
             limit_reached(samples, timing).empty());
    finished_[i].row.packing_seconds = store::median(samples);
  }

  const plan::Group& group_;
  SharedTensors& shared_;
  Workers& workers_;
  Host& host_;
  Sampler sampler_;
  store::ResultsSink& sink_;
  Execution execution_;
  AlignedBuffer<std::byte> workspace_;
  GroupTensors* tensors_ = nullptr;
  std::unique_ptr<verification::Verifier> verifier_;
  std::map<const plan::PlannedRow*, std::unique_ptr<Resident>> residents_;
  double device_seconds_ = 0;  ///< of the last call on another device than the CPU
  std::vector<store::FinishedRow> finished_;
};

void count(const store::TimedRow& row, Totals& totals) {
  ++(row.status == kDone ? totals.done : row.status == kFailed ? totals.failed : totals.refused);
}

}  // namespace

Totals run(const plan::RunPlan& plan, Workers& workers, Clock& clock, Host& host, store::ResultsSink& sink,
           Progress& progress) {
  Totals totals;
  if (!plan.simulations.empty()) {
    std::vector<store::SimulationRow> rows;
    for (const plan::Simulation& simulation : plan.simulations) rows.push_back(simulate(simulation));
    sink.append_simulations(rows);
    totals.simulated = static_cast<int64_t>(rows.size());
  }
  plan::Budget budget;
  const auto run_group = [&](const auto& group, auto group_run) {
    if (host.asked_to_stop()) throw Stopped();
    progress.started(group);
    const auto reason = budget.left_out(group);
    if (reason) return group_run.leave_out(*reason);
    const double start = clock.seconds();
    auto rows = group_run.run();
    budget.spent(group, clock.seconds() - start);
    return rows;
  };
  try {
    SharedTensors tensors;
    for (const plan::Group& group : plan.groups) {
      const auto rows = run_group(group, GroupRun(group, tensors, workers, clock, host, sink));
      sink.append(rows);
      for (const store::FinishedRow& finished : rows) count(finished.row, totals);
      progress.finished(rows);
    }
    tensors = {};
    for (const plan::ModelGroup& group : plan.models) {
      const auto rows = run_group(group, ModelRun(group, workers, clock, host));
      sink.append_models(rows);
      for (const store::ModelRow& row : rows) count(row, totals);
      progress.finished(rows);
    }
  } catch (const Stopped&) {
    totals.stopped = true;
  }
  return totals;
}

}  // namespace nalab::runner
