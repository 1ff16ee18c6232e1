#include "experiments/runner/model_run.h"

#include <fmt/format.h>

#include <exception>
#include <new>
#include <utility>

#include "experiments/model/difference.h"
#include "experiments/runner/group_rows.h"
#include "store/samples.h"

namespace nalab::runner {

namespace {

/// What is known about a row before it runs; refused if the plan says so.
store::ModelRow planned(const plan::PlannedModel& row, int threads) {
  store::ModelRow r;
  r.id = row.id;
  r.position = row.position;
  r.config = row.config;
  r.label = row.label;
  r.model = row.request.name;
  r.height = r.width = row.facts.size;
  r.batch = row.request.batch;
  r.relative_bias = row.request.relative_bias ? 1 : 0;
  r.parameters = row.facts.parameters;
  r.multiply_adds = row.facts.multiply_adds;
  r.attention_multiply_adds = row.facts.attention_multiply_adds;
  r.variant = row.variant->name;
  r.type = name(row.request.type);
  r.pass = config::name(row.request.training ? config::ModelPass::training_step : config::ModelPass::forward);
  r.isa = name(row.isa);
  r.arithmetic = row.arithmetic;
  r.threads = threads;
  r.status = row.refusal ? kRefused : kDone;
  r.reason = row.refusal.value_or("");
  r.weight_bytes = row.facts.weight_bytes;
  r.value_bytes = row.facts.value_bytes;
  r.workspace_bytes = row.workspace_bytes;
  r.memory_bytes = row.memory_bytes;
  return r;
}

}  // namespace

ModelRun::ModelRun(const plan::ModelGroup& group, Workers& workers, Clock& clock, Host& host,
                   decltype(model::make_session)& make)
    : group_(group), workers_(workers), host_(host), make_session_(make), sampler_(clock, host, group.settings.timing) {
  for (const plan::PlannedModel& row : group.rows) finished_.push_back(planned(row, workers.threads()));
}

std::vector<store::ModelRow> ModelRun::run() {
  refuse_what_does_not_fit(group_.rows, finished_, host_);
  if (!still_good(finished_).empty()) {
    try {
      host_.watch();
      verify_one_image();
      verify_batch();
      time();
    } catch (const std::bad_alloc&) {
      refuse_all(finished_, "not enough memory");
    } catch (const std::exception& error) {
      refuse_all(finished_, error.what());
    }
  }
  return std::move(finished_);
}

std::vector<store::ModelRow> ModelRun::leave_out(const std::string& reason) {
  refuse_all(finished_, reason);
  return std::move(finished_);
}

std::vector<ModelRun::Running> ModelRun::open(int64_t batch, std::vector<std::string> variants) {
  if (host_.asked_to_stop()) throw Stopped();
  std::vector<Running> running;
  for (const std::size_t i : still_good(finished_)) {
    running.push_back({i, variants.size()});
    variants.emplace_back(group_.rows[i].variant->name);
  }
  model::Request request = group_.rows.front().request;
  request.batch = batch;
  session_.reset();
  session_ = make_session_(request, {std::move(variants), group_.rows.front().isa, group_.arithmetic},
                           static_cast<uint64_t>(group_.settings.seed), workers_);
  return running;
}

bool ModelRun::is_computed(store::ModelRow& row, std::size_t variant) {
  session_->forget();  // what an earlier variant left must not pass for a result
  return sampler_.call(row, [&] { session_->compute(variant); });
}

void ModelRun::verify_one_image() {
  const plan::PlannedModel& front = group_.rows.front();
  if (!front.has_reference) return;
  const std::vector<Running> running = open(1, {"reference"});
  session_->compute(0);
  expected_ = session_->results();
  if (!front.request.training) return;  // the first image of the batch is this one
  for (const auto& [i, variant] : running) {
    store::ModelRow& row = finished_[i];
    if (!is_computed(row, variant)) continue;
    compare(row, session_->results(), expected_, "of one image with those by the reference attention");
  }
  expected_.clear();
}

void ModelRun::verify_batch() {
  if (still_good(finished_).empty()) return;
  const model::Request& request = group_.rows.front().request;
  running_ = open(request.batch, {});
  model::Results first;
  std::string first_variant;
  for (const auto& [i, variant] : running_) {
    store::ModelRow& row = finished_[i];
    row.warmups = sampler_.timing().warmups;
    if (!is_computed(row, variant)) continue;
    const model::Results results = session_->results();
    if (!request.training && !expected_.empty()) {
      compare(row, results, expected_, "of one image with those by the reference attention");
    }
    if (row.status != kDone) continue;
    if (first.empty()) {
      first = results;
      first_variant = row.variant;
    } else {
      compare(row, results, first, fmt::format("of all {} with those by {}", request.batch, first_variant));
    }
    if (row.verified.empty()) row.reason = "not verified: the reference attention would take longer than the budget";
  }
}

void ModelRun::compare(store::ModelRow& row, const model::Results& found, const model::Results& expected,
                       const std::string& with) {
  const model::Request& request = group_.rows.front().request;
  const model::Difference worst = model::greatest_difference(found, expected);
  const double bound = model::bound_of(request);
  row.verified +=
      fmt::format("{}{} {}", row.verified.empty() ? "" : "; ", request.training ? "gradients" : worst.name, with);
  if (row.bound_frobenius == 0 || !worst.is_within(row.error_frobenius)) {
    row.error_frobenius = worst.share;
    row.bound_frobenius = bound;
  }
  if (worst.is_within(bound)) return;
  end(row, kFailed,
      fmt::format("{} {} differ by {:.2g} of their norm, bound {:.2g}", worst.name, with, worst.share, bound));
}

void ModelRun::time() {
  std::vector<std::vector<double>> attention(finished_.size());
  std::vector<Sampler::Timed> timed;
  for (const auto& [i, variant] : running_) {
    store::ModelRow& row = finished_[i];
    const Sampler::Call call = [this, chosen = variant, &row, &seconds = attention[i]] {
      seconds.resize(row.samples.size());  // without what was no sample: a warm-up, a call in which the clock stood
      seconds.push_back(session_->compute(chosen));
      session_->update();
    };
    for (int64_t n = 1; n < row.warmups && row.status == kDone; ++n) sampler_.call(row, call);
    if (row.status == kDone) timed.push_back({&row, call});
  }
  sampler_.time(std::move(timed));
  const Observation seen = host_.observe();
  for (const std::size_t i : still_good(finished_)) {
    note(seen, finished_[i]);
    finished_[i].peak_memory_bytes = seen.peak_memory_bytes;
    attention[i].resize(finished_[i].samples.size());
    finished_[i].attention_seconds = store::median(attention[i]);
  }
}

}  // namespace nalab::runner
