#include "cli/sim/output.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "cli/terminal_table.h"

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

/// The part of the request that stays the same: all but what is varied.
Json inputs_to_json(const SimRequest& request) {
  const Problem& problem = request.problem;
  const SimOptions& options = request.options;
  Json json{{"layout", per_axis(problem, &Axis::extent)},
            {"window", per_axis(problem, &Axis::window)},
            {"stride", per_axis(problem, &Axis::stride)},
            {"dilation", per_axis(problem, &Axis::dilation)},
            {"causal", per_axis(problem, &Axis::causal)},
            {"extra_kv", problem.extra_tokens},
            {"relative_bias", problem.relative_bias},
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

/// The request and a list of rows: parameters_of(item), then what the simulator says about it.
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

/// A table of labelled lines. The labels of all parts of an answer share one column.
TerminalTable labelled_lines(std::vector<TerminalTable::Column> columns) {
  columns.insert(columns.begin(), {"", TerminalTable::Align::left, text_width("token permutation")});
  return TerminalTable(std::move(columns));
}

/// The request, without what is varied.
void print_request(const SimRequest& request) {
  const Problem& problem = request.problem;
  const SimOptions& options = request.options;
  TerminalTable table = labelled_lines({{}});
  const auto add = [&table](const char* label, const std::string& text) { table.add({label, text}); };
  const auto varied = [&options](const char* name) { return options.sweep == name; };
  add("layout", fmt::format("{}, {} tokens", layout_text(problem), problem.tokens()));
  if (problem.extra_tokens > 0) add("extra tokens", std::to_string(problem.extra_tokens));
  if (problem.relative_bias) add("relative bias", "yes, which changes no tile and no cost");
  if (!varied("window") && !options.recommend) add("window", extents_text(per_axis(problem, &Axis::window)));
  if (!varied("stride") && !options.recommend) add("stride", extents_text(per_axis(problem, &Axis::stride)));
  const Extents dilation = per_axis(problem, &Axis::dilation);
  const Extents causal = per_axis(problem, &Axis::causal);
  if (std::ranges::any_of(dilation, [](int64_t d) { return d > 1; })) add("dilation", extents_text(dilation));
  if (std::ranges::any_of(causal, [](int64_t c) { return c > 0; })) add("causal", extents_text(causal));
  if (!varied("q-tile")) {
    add("query tile", fmt::format("{}, {} tokens", extents_text(request.tiles.query), request.tiles.query_tokens()));
  }
  if (!varied("kv-tile")) {
    add("KV tile", fmt::format("{}, {} tokens", extents_text(request.tiles.kv), request.tiles.kv_tokens()));
  }
  add("KV tiling", options.kv_tiling + (options.tiling == "single" ? ", over the flattened layout" : ""));
  fmt::print("{}\n", table.to_string());
}

std::string times(double speedup) { return fmt::format("{:.2f}x", speedup); }

/// Prints a row for each item, at most as many as requested, and says how many are left out. `columns` and
/// cells_of(item) show what is varied; what the simulator says about it follows.
template <class Items, class CellsOf>
void print_rows(const SimRequest& request, std::vector<TerminalTable::Column> columns, const Items& items,
                const CellsOf& cells_of) {
  for (const char* heading : {"speedup", "mean", "FLOP-wise", "end to end", "partial", "wasted", "block-sparse"}) {
    columns.push_back({heading, TerminalTable::Align::right});
  }
  TerminalTable table(std::move(columns));
  const size_t limit = request.options.rows == 0 ? items.size() : static_cast<size_t>(request.options.rows);
  for (size_t i = 0; i < std::min(limit, items.size()); ++i) {
    const Simulation& s = items[i].simulation;
    TerminalTable::Cells cells = cells_of(items[i]);
    cells.insert(cells.end(), {times(s.speedup_worst()), times(s.speedup_mean()), times(s.speedup_flops()),
                               times(request.end_to_end(s.speedup_worst())), percent(s.partial_tiles_share()),
                               percent(s.wasted_share()), s.perfectly_block_sparse() ? "*" : "-"});
    table.add(std::move(cells));
  }
  if (items.size() > limit) table.add_note(fmt::format("and {} more: --rows 0 shows all", items.size() - limit));
  fmt::print("{}", table.to_string());
}

void print_speedups(const SimRequest& request, const Simulation& s) {
  using enum TerminalTable::Align;
  TerminalTable table = labelled_lines({{"worst tile", right}, {"mean tile", right}, {"FLOP-wise", right}});
  table.add({fmt::format("visits, of {}", s.tiles_total), std::to_string(s.tiles_visited_worst),
             fmt::format("{:.1f}", s.tiles_visited_mean())});
  table.add({"speedup", times(s.speedup_worst()), times(s.speedup_mean()), times(s.speedup_flops())});
  table.add({"end to end", times(request.end_to_end(s.speedup_worst())), times(request.end_to_end(s.speedup_mean())),
             times(request.end_to_end(s.speedup_flops()))});
  fmt::print("{}\n", table.to_string());
}

void print_shares(const SimRequest& request, const Simulation& s, double permutation_bytes) {
  const Problem& problem = request.problem;
  TerminalTable table = labelled_lines({{}});
  table.add({"block-sparse", s.perfectly_block_sparse() ? "perfectly" : "not perfectly"});
  table.add({"visited tiles",
             percent(1 - s.partial_tiles_share()) + " full, " + percent(s.partial_tiles_share()) + " partial"});
  table.add({"wasted", percent(s.wasted_share()) + " of the multiply-adds"});
  std::string permutation = fmt::format("{:.4g} GB", permutation_bytes / 1e9);
  if (const auto& bandwidth = request.options.bandwidth) {
    permutation += fmt::format(", {:.4g} ms", permutation_bytes / *bandwidth / 1e6);
  }
  table.add({"token permutation", fmt::format("{} (batch {}, heads {}, head_dim {}, {})", permutation, problem.batch,
                                              problem.heads, problem.head_dim, name(problem.type))});
  fmt::print("{}", table.to_string());
}

}  // namespace

void print(const SimRequest& request, const Simulation& s) {
  const double bytes = simulator::token_permutation_bytes(request.problem);
  if (request.options.json) {
    Json json = inputs_to_json(request);
    json.update(to_json(request, s));
    json["token_permutation_bytes"] = bytes;
    if (request.options.bandwidth) json["token_permutation_seconds"] = bytes / (*request.options.bandwidth * 1e9);
    print_json(json);
    return;
  }
  print_request(request);
  print_speedups(request, s);
  print_shares(request, s, bytes);
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
  print_rows(request, {{varied}}, points,
             [](const SweepPoint& point) { return TerminalTable::Cells{extents_text(point.value)}; });
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
    fmt::print("No window of sparsity {} wastes nothing with these tiles.\n", *request.options.recommend);
    return;
  }
  print_rows(request, {{"window"}, {"stride"}, {"sparsity", TerminalTable::Align::right}}, recommendations,
             [](const Recommendation& r) {
               return TerminalTable::Cells{extents_text(r.window), extents_text(r.stride),
                                           fmt::format("{:.4f}", r.simulation.sparsity())};
             });
}

}  // namespace nalab::cli
