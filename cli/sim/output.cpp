#include "cli/sim/output.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string>

namespace nalab::cli {

using simulator::Recommendation;
using simulator::Simulation;
using simulator::SweepPoint;

namespace {

using Json = nlohmann::ordered_json;
using Extents = std::vector<int64_t>;

Json to_json(const SimRequest& request, const Simulation& s) {
  return {{"speedup_worst", s.speedup_worst()},
          {"speedup_mean", s.speedup_mean()},
          {"speedup_flops", s.speedup_flops()},
          {"perfectly_block_sparse", s.perfectly_block_sparse()},
          {"sparsity", s.sparsity()},
          {"query_tiles", s.query_tiles},
          {"tiles_total", s.tiles_total},
          {"tiles_visited_worst", s.tiles_visited_worst},
          {"tiles_visited_mean", s.tiles_visited_mean()},
          {"partial_tiles_share", s.partial_tiles_share()},
          {"wasted_share", s.wasted_share()},
          {"speedup_end_to_end", request.end_to_end(s.speedup_worst())},
          {"speedup_end_to_end_mean", request.end_to_end(s.speedup_mean())},
          {"speedup_end_to_end_flops", request.end_to_end(s.speedup_flops())}};
}

/// "q-tile" -> "q_tile"
std::string key_of_sweep(const SimRequest& request) {
  std::string key = request.options.sweep;
  std::ranges::replace(key, '-', '_');
  return key;
}

/// What stays the same: everything that is asked for but what is varied.
Json inputs_to_json(const SimRequest& request) {
  const Problem& problem = request.problem;
  const SimOptions& options = request.options;
  Json json{{"layout", per_axis(problem, &Axis::extent)},
            {"window", per_axis(problem, &Axis::window)},
            {"stride", per_axis(problem, &Axis::stride)},
            {"dilation", per_axis(problem, &Axis::dilation)},
            {"causal", per_axis(problem, &Axis::causal)},
            {"extra_kv", problem.extra_tokens},
            {"q_tile", request.tiles.query},
            {"kv_tile", request.tiles.kv},
            {"kv_tiling", options.kv_tiling},
            {"tiling", options.tiling},
            {"attention_share", options.application.attention_share},
            {"steps", options.application.steps},
            {"dense_steps", options.application.dense_steps}};
  if (options.recommend) {
    json.erase("window");
    json.erase("stride");
  }
  if (!options.sweep.empty()) json.erase(key_of_sweep(request));
  return json;
}

void print_json(const Json& json) { fmt::print("{}\n", json.dump()); }

/// What is asked for, and a list of rows: parameters_of(item) and what the simulator says of it.
template <class Items, class ParametersOf>
void print_json_rows(const SimRequest& request, Json json, const Items& items, const ParametersOf& parameters_of) {
  json.update(inputs_to_json(request));
  json["rows"] = Json::array();
  for (const auto& item : items) {
    Json row = parameters_of(item);
    row.update(to_json(request, item.simulation));
    json["rows"].push_back(std::move(row));
  }
  print_json(json);
}

std::string percent(double share) { return fmt::format("{:.1f}%", 100 * share); }

void print_line(const char* label, const std::string& text) { fmt::print("{:<20}{}\n", label, text); }

/// The request, without what is varied.
void print_request(const SimRequest& request) {
  const Problem& problem = request.problem;
  const SimOptions& options = request.options;
  const auto varied = [&options](const char* name) { return options.sweep == name; };
  print_line("layout", fmt::format("{}, {} tokens", layout_text(problem), problem.tokens()));
  if (problem.extra_tokens > 0) print_line("extra tokens", std::to_string(problem.extra_tokens));
  if (!varied("window") && !options.recommend) print_line("window", extents_text(per_axis(problem, &Axis::window)));
  if (!varied("stride") && !options.recommend) print_line("stride", extents_text(per_axis(problem, &Axis::stride)));
  const Extents dilation = per_axis(problem, &Axis::dilation);
  const Extents causal = per_axis(problem, &Axis::causal);
  if (std::ranges::any_of(dilation, [](int64_t d) { return d > 1; })) print_line("dilation", extents_text(dilation));
  if (std::ranges::any_of(causal, [](int64_t c) { return c > 0; })) print_line("causal", extents_text(causal));
  if (!varied("q-tile")) {
    print_line("query tile",
               fmt::format("{}, {} tokens", extents_text(request.tiles.query), request.tiles.query_tokens()));
  }
  if (!varied("kv-tile")) {
    print_line("KV tile", fmt::format("{}, {} tokens", extents_text(request.tiles.kv), request.tiles.kv_tokens()));
  }
  print_line("KV tiling", options.kv_tiling + (options.tiling == "single" ? ", over the flattened layout" : ""));
}

constexpr const char* kRow = "{:>9}{:>9}{:>11}{:>12}{:>10}{:>9}{:>14}\n";

void print_row_heading() {
  fmt::print(kRow, "speedup", "mean", "FLOP-wise", "end to end", "partial", "wasted", "block-sparse");
}

void print_row(const SimRequest& request, const Simulation& s) {
  const auto times = [](double speedup) { return fmt::format("{:.2f}x", speedup); };
  fmt::print(kRow, times(s.speedup_worst()), times(s.speedup_mean()), times(s.speedup_flops()),
             times(request.end_to_end(s.speedup_worst())), percent(s.partial_tiles_share()), percent(s.wasted_share()),
             s.perfectly_block_sparse() ? "*" : "-");
}

/// Calls print_one for as many of the items as are asked for, and says how many are left out.
template <class Items, class PrintOne>
void print_rows(const SimRequest& request, const Items& items, const PrintOne& print_one) {
  const size_t limit = request.options.rows == 0 ? items.size() : static_cast<size_t>(request.options.rows);
  for (size_t i = 0; i < std::min(limit, items.size()); ++i) print_one(items[i]);
  if (items.size() > limit) fmt::print("and {} more: --rows 0 shows all\n", items.size() - limit);
}

}  // namespace

void print(const SimRequest& request, const Simulation& s) {
  const Problem& problem = request.problem;
  const double bytes = simulator::token_permutation_bytes(problem);
  if (request.options.json) {
    Json json = inputs_to_json(request);
    json.update(to_json(request, s));
    json["token_permutation_bytes"] = bytes;
    if (request.options.bandwidth) json["token_permutation_seconds"] = bytes / (*request.options.bandwidth * 1e9);
    print_json(json);
    return;
  }
  print_request(request);
  fmt::print("\n{:<20}{:>12}{:>12}{:>12}\n", "", "worst tile", "mean tile", "FLOP-wise");
  fmt::print("{:<20}{:>12}{:>12.1f}\n", fmt::format("visits, of {}", s.tiles_total), s.tiles_visited_worst,
             s.tiles_visited_mean());
  const auto print_speedups = [](const char* label, double worst, double mean, double flops) {
    fmt::print("{:<20}{:>11.2f}x{:>11.2f}x{:>11.2f}x\n", label, worst, mean, flops);
  };
  print_speedups("speedup", s.speedup_worst(), s.speedup_mean(), s.speedup_flops());
  print_speedups("end to end", request.end_to_end(s.speedup_worst()), request.end_to_end(s.speedup_mean()),
                 request.end_to_end(s.speedup_flops()));
  fmt::print("\n");
  print_line("block-sparse", s.perfectly_block_sparse() ? "perfectly" : "not perfectly");
  print_line("visited tiles",
             percent(1 - s.partial_tiles_share()) + " full, " + percent(s.partial_tiles_share()) + " partial");
  print_line("wasted", percent(s.wasted_share()) + " of the multiply-adds");
  std::string permutation = fmt::format("{:.4g} GB", bytes / 1e9);
  if (request.options.bandwidth) permutation += fmt::format(", {:.4g} ms", bytes / *request.options.bandwidth / 1e6);
  print_line("token permutation", fmt::format("{} (batch {}, heads {}, head_dim {}, {})", permutation, problem.batch,
                                              problem.heads, problem.head_dim, name(problem.type)));
}

void print(const SimRequest& request, const std::vector<SweepPoint>& points) {
  const std::string& varied = request.options.sweep;
  if (request.options.json) {
    print_json_rows(request, {{"sweep", varied}}, points, [&request](const SweepPoint& point) {
      return Json{{key_of_sweep(request), point.value}};
    });
    return;
  }
  print_request(request);
  fmt::print("\n{:<16}", varied);
  print_row_heading();
  print_rows(request, points, [&](const SweepPoint& point) {
    fmt::print("{:<16}", extents_text(point.value));
    print_row(request, point.simulation);
  });
}

void print(const SimRequest& request, const std::vector<Recommendation>& recommendations) {
  if (request.options.json) {
    print_json_rows(request, {{"recommend", *request.options.recommend}}, recommendations, [](const Recommendation& r) {
      return Json{{"window", r.window}, {"stride", r.stride}};
    });
    return;
  }
  print_request(request);
  if (recommendations.empty()) {
    fmt::print("\nNo window of sparsity {} wastes nothing with these tiles.\n", *request.options.recommend);
    return;
  }
  fmt::print("\n{:<16}{:<16}{:>9}", "window", "stride", "sparsity");
  print_row_heading();
  print_rows(request, recommendations, [&](const Recommendation& r) {
    fmt::print("{:<16}{:<16}{:>9.4f}", extents_text(r.window), extents_text(r.stride), r.simulation.sparsity());
    print_row(request, r.simulation);
  });
}

}  // namespace nalab::cli
