#include "experiments/selftest/shrink.h"

#include <algorithm>
#include <vector>

#include "core/error.h"
#include "experiments/selftest/check.h"

namespace nalab::selftest {

namespace {

/// Whether it is valid and there are plans for it.
bool is_possible(const Trial& trial) {
  if (!trial.problem.violations().empty()) return false;
  try {
    plans_of(trial, trial.placements.empty());
    return true;
  } catch (const Error&) {
    return false;
  }
}

/// Values below one that is at least `least`: the boldest first.
std::vector<int64_t> smaller(int64_t value, int64_t least) {
  std::vector<int64_t> values{least, value / 2, value - 1};
  std::erase_if(values, [&](int64_t x) { return x < least || x >= value; });
  values.erase(std::unique(values.begin(), values.end()), values.end());
  return values;
}

void clip(Axis& axis) {
  axis.dilation = std::clamp<int64_t>(axis.dilation, 1, axis.extent);
  axis.window = std::clamp<int64_t>(axis.window, 1, axis.extent / axis.dilation);
  axis.stride = std::clamp<int64_t>(axis.stride, 1, axis.window);
}

/// Trials that are simpler than one in one respect.
std::vector<Trial> simpler(const Trial& trial) {
  std::vector<Trial> found;
  const auto add = [&](const auto& change) {
    Trial changed = trial;
    change(changed);
    if (changed != trial) found.push_back(std::move(changed));
  };
  const Problem& problem = trial.problem;
  for (std::size_t i = 0; i < problem.axes.size(); ++i) {
    const auto change_axis = [&](const auto& change) {
      add([&](Trial& t) {
        change(t.problem.axes[i]);
        clip(t.problem.axes[i]);
      });
    };
    if (problem.axes.size() > 1) {
      add([&](Trial& t) { t.problem.axes.erase(t.problem.axes.begin() + static_cast<std::ptrdiff_t>(i)); });
    }
    for (int64_t Axis::*parameter : {&Axis::extent, &Axis::window, &Axis::stride, &Axis::dilation}) {
      for (const int64_t value : smaller(problem.axes[i].*parameter, 1)) {
        change_axis([&](Axis& axis) { axis.*parameter = value; });
      }
    }
    change_axis([](Axis& axis) { axis.causal = false; });
    // With all of its keys in sight, where every window must be whole.
    for (const int64_t extent : smaller(problem.axes[i].extent, 1)) {
      change_axis([&](Axis& axis) { axis = {.extent = extent, .window = extent}; });
    }
  }
  for (int64_t Problem::*extent : {&Problem::batch, &Problem::head_dim, &Problem::head_dim_v}) {
    for (const int64_t value : smaller(problem.*extent, 1)) add([&](Trial& t) { t.problem.*extent = value; });
  }
  for (const int64_t value : smaller(problem.extra_tokens, 0)) add([&](Trial& t) { t.problem.extra_tokens = value; });
  const int64_t heads_per_kv = problem.heads / problem.heads_kv;
  for (const int64_t value : smaller(problem.heads_kv, 1)) {
    add([&](Trial& t) { t.problem.heads = heads_per_kv * (t.problem.heads_kv = value); });
  }
  for (const int64_t value : smaller(heads_per_kv, 1)) {
    add([&](Trial& t) { t.problem.heads = t.problem.heads_kv * value; });
  }
  add([](Trial& t) { t.problem.relative_bias = false; });
  add([](Trial& t) { t.problem.scale.reset(); });
  add([](Trial& t) { t.problem.type = ElementType::f32; });
  add([](Trial& t) { t.tiling.clear(); });
  add([](Trial& t) { t.arithmetic.clear(); });
  add([](Trial& t) { t.isa = Isa::baseline; });
  add([](Trial& t) { t.placements.clear(); });
  for (const auto& placed : trial.placements) {
    const auto& tensor = placed.first;
    add([&](Trial& t) { t.placements.erase(tensor); });
    add([&](Trial& t) { t.placements[tensor].order = 0; });
    for (unsigned gap = 1; gap <= kAllGaps; gap *= 2) add([&](Trial& t) { t.placements[tensor].gaps &= ~gap; });
  }
  add([](Trial& t) { t.threads = {1}; });
  for (std::size_t i = 0; i < trial.threads.size() && trial.threads.size() > 1; ++i) {
    add([&](Trial& t) { t.threads.erase(t.threads.begin() + static_cast<std::ptrdiff_t>(i)); });
  }
  for (std::size_t i = 0; i < trial.threads.size(); ++i) {
    for (const int64_t count : smaller(trial.threads[i], 1)) {
      add([&](Trial& t) { t.threads[i] = static_cast<int>(count); });
    }
  }
  add([](Trial& t) { t.results_are_f32 = true; });
  add([](Trial& t) { t.weights_are_f32 = true; });
  add([](Trial& t) { t.values = Values::normal; });
  add([](Trial& t) { t.seed = 0; });
  return found;
}

}  // namespace

Trial shrink(Trial trial, const std::function<bool(const Trial&)>& fails, const std::function<bool()>& more) {
  const auto next = [&](const std::vector<Trial>& candidates) {
    return std::ranges::find_if(candidates, [&](const Trial& t) { return !more() || (is_possible(t) && fails(t)); });
  };
  while (more()) {
    const std::vector<Trial> candidates = simpler(trial);
    const auto found = next(candidates);
    if (found == candidates.end() || !more()) break;
    trial = *found;
  }
  return trial;
}

}  // namespace nalab::selftest
