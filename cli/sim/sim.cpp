// nalab sim: the simulator on the command line.
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "cli/commands.h"
#include "cli/options.h"
#include "cli/sim/output.h"
#include "cli/sim/request.h"
#include "core/simulator/sweep.h"

namespace nalab::cli {
namespace {

using simulator::SweepOver;

const std::map<std::string, SweepOver> kSweeps{{"stride", SweepOver::stride},
                                               {"window", SweepOver::window},
                                               {"q-tile", SweepOver::query_tile},
                                               {"kv-tile", SweepOver::kv_tile}};

void run(const SimOptions& options) {
  const SimRequest request = read_request(options);
  if (options.recommend) {
    print(request, simulator::recommend(request.problem, request.tiles, *options.recommend));
  } else if (!options.sweep.empty()) {
    std::optional<store::NewFile> plot;  // whether it can be written is known before the sweep
    if (!options.plot.empty()) plot.emplace(options.plot);
    const auto points = simulator::sweep(request.problem, request.tiles, kSweeps.at(options.sweep));
    if (plot) plot_sweep(request, points, *plot);
    print(request, points);
  } else {
    print(request, simulator::simulate(request.problem, request.tiles));
  }
}

void add_problem(CLI::App& command, SimOptions& options) {
  const char* const group = "Problem (30x48x80: one value per axis; a single value applies to all axes)";
  command.add_option("--layout", options.layout, "Token layout")->required()->group(group);
  command.add_option("--window", options.window, "Window; not needed if the search is for windows")->group(group);
  command.add_option("--stride", options.stride, "Stride")->capture_default_str()->group(group);
  command.add_option("--dilation", options.dilation, "Dilation")->capture_default_str()->group(group);
  command.add_option("--causal", options.causal, "Causal: 1 or 0 for each axis; without a value, all axes")
      ->expected(0, 1)
      ->group(group);
  add_number(command, "--extra-kv", options.extra_kv,
             "Extra tokens that every query attends to, counted as additional KV tiles")
      ->group(group);
  command
      .add_flag("--relative-bias", options.relative_bias,
                "A relative positional bias: accepted, and changes no tile and no cost")
      ->group(group);
}

void add_tiles(CLI::App& command, SimOptions& options) {
  const char* const group = "Tiles (default: those of the published figures)";
  command.add_option("--q-tile", options.q_tile, "Query tile (default: 256, 16x16 or 4x8x8)")->group(group);
  command.add_option("--kv-tile", options.kv_tile, "KV tile (default: 128, 16x8 or 2x8x8)")->group(group);
  command
      .add_option("--kv-tiling", options.kv_tiling,
                  "static: KV tiles are fixed; dynamic: they begin at the first needed key")
      ->check(CLI::IsMember({"static", "dynamic"}))
      ->capture_default_str()
      ->group(group);
  command
      .add_option(
          "--tiling", options.tiling,
          "multi: tiles are boxes of the layout; single: the same number of consecutive tokens of the flattened "
          "layout")
      ->check(CLI::IsMember({"multi", "single"}))
      ->capture_default_str()
      ->group(group);
}

void add_application(CLI::App& command, SimOptions& options) {
  const char* const group = "Application (end-to-end speedup by Amdahl's law)";
  add_number(command, "--attention-share", options.application.attention_share,
             "Share of the run time spent in self attention, 0 to 1")
      ->capture_default_str()
      ->group(group);
  add_number(command, "--steps", options.application.steps, "Steps")->capture_default_str()->group(group);
  add_number(command, "--dense-steps", options.application.dense_steps, "Steps that keep self attention")
      ->capture_default_str()
      ->group(group);
  command
      .add_flag("--round-speedup", options.round_speedup,
                "Round the speedup of attention to one decimal first, as the published tables do")
      ->group(group);
}

void add_permutation(CLI::App& command, SimOptions& options) {
  const char* const group = "Token permutation";
  add_number(command, "--batch", options.batch, "Batch")->capture_default_str()->group(group);
  add_number(command, "--heads", options.heads, "Heads")->capture_default_str()->group(group);
  add_number(command, "--head-dim", options.head_dim, "Head dim")->capture_default_str()->group(group);
  command.add_option("--dtype", options.type, "Element type")
      ->check(CLI::IsMember({"f32", "bf16", "f16"}))
      ->capture_default_str()
      ->group(group);
  add_number(command, "--bandwidth", options.bandwidth,
             "Memory bandwidth in GB/s, to estimate the time of the permutation")
      ->group(group);
}

void add_search(CLI::App& command, SimOptions& options) {
  const char* const group = "Search";
  CLI::Option* sweep = command.add_option("--sweep", options.sweep, "Vary this, and list the useful values by speedup")
                           ->check(CLI::IsMember(kSweeps))
                           ->group(group);
  add_number(command, "--recommend", options.recommend,
             "List windows and strides with this sparsity (0 to 1, within 0.01) that waste nothing, best first")
      ->excludes(sweep)
      ->group(group);
  command.add_option("--plot", options.plot, "Draw the sweep into this file, NAME.svg or NAME.png (needs gnuplot)")
      ->check(not_empty())
      ->needs(sweep)
      ->group(group);
  add_number(command, "--rows", options.rows, "Maximum rows of a table; 0: all")->capture_default_str()->group(group);
}

}  // namespace

void add_sim(CLI::App& app, int&) {
  CLI::App* command = app.add_subcommand(
      "sim", "Count the KV tiles that a tiled kernel visits, and the best speedup that this allows.");
  auto options = std::make_shared<SimOptions>();
  add_problem(*command, *options);
  add_tiles(*command, *options);
  add_application(*command, *options);
  add_permutation(*command, *options);
  add_search(*command, *options);
  command->add_flag("--json", options->json, "Print one JSON object");
  command->callback([options] { run(*options); });
}

}  // namespace nalab::cli
