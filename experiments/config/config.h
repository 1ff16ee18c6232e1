// A configuration: which problems, variants, types and passes to run, how to time and verify them, and what to ask the
// simulator. Read from YAML; configs/README.md documents every key.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/kernels/registry.h"
#include "core/problem.h"
#include "core/simulator/simulator.h"
#include "experiments/config/models.h"
#include "store/schema.h"
#include "yaml/reader.h"

namespace nalab::config {

using namespace yaml;

/// What one row times: one pass, or attention's both passes together.
enum class RowPass : uint8_t { forward, forward_backward, weights, weights_backward, values, values_backward };
/// The passes that are timed, in the order of their calls. The last one has the tensors of all of them.
std::vector<Pass> passes_of(RowPass pass);

/// Which tensors a results file keeps: none, those of small rows, or all.
enum class TensorStorage : uint8_t { none, sample, all };
/// A configuration has a quick form: the same, overridden by the keys under `quick`.
enum class Form : uint8_t { full, quick };

}  // namespace nalab::config

/// What they are called in YAML.
namespace nalab::yaml {

template <>
struct Names<config::RowPass> {
  static constexpr std::array<std::pair<config::RowPass, const char*>, 6> list{
      {{config::RowPass::forward, "forward"},
       {config::RowPass::forward_backward, "forward_backward"},
       {config::RowPass::weights, "weights"},
       {config::RowPass::weights_backward, "weights_backward"},
       {config::RowPass::values, "values"},
       {config::RowPass::values_backward, "values_backward"}}};
};
template <>
struct Names<config::TensorStorage> {
  static constexpr std::array<std::pair<config::TensorStorage, const char*>, 3> list{
      {{config::TensorStorage::none, "none"},
       {config::TensorStorage::sample, "sample"},
       {config::TensorStorage::all, "all"}}};
};
template <>
struct Names<ElementType> {
  static constexpr std::array<std::pair<ElementType, const char*>, 3> list{
      {{ElementType::f32, "f32"}, {ElementType::bf16, "bf16"}, {ElementType::f16, "f16"}}};
};

template <>
struct Names<Device> {
  static constexpr std::array<std::pair<Device, const char*>, 2> list{{{Device::cpu, "cpu"}, {Device::cuda, "cuda"}}};
};

template <>
struct Names<geometry::KvTiling> {
  static constexpr std::array<std::pair<geometry::KvTiling, const char*>, 2> list{
      {{geometry::KvTiling::static_tiles, "static"}, {geometry::KvTiling::dynamic_tiles, "dynamic"}}};
};

}  // namespace nalab::yaml

namespace nalab::config {

/// "forward", "none", "f32", ...
template <class E>
requires requires { Names<E>::list; }
const char* name(E value) {
  for (const auto& [enumerator, text] : Names<E>::list) {
    if (enumerator == value) return text;
  }
  return "";
}

/// When to stop taking samples of a row.
struct Timing {
  int64_t warmups = 1;      ///< calls before the first sample; the verified call is one of them
  int64_t min_samples = 6;  ///< at least this many, unless max_seconds is reached first; nalab compare needs 6
  int64_t max_samples = 200;
  double min_seconds = 0.2;                   ///< continue until the samples add up to this,
  double max_noise = 0.02;                    ///< and until the relative standard error of their median is at most this
  double max_seconds = 10;                    ///< no further sample after this
  std::optional<double> budget_seconds = {};  ///< of a run: rows that would end later are left out; unset: none

  template <class Self, class Visitor>
  static void visit_fields(Self& self, Visitor&& visitor) {
    visitor("warmups", self.warmups, AtLeast{1});
    visitor("min_samples", self.min_samples, AtLeast{1});
    visitor("max_samples", self.max_samples, AtLeast{1});
    visitor("min_seconds", self.min_seconds, AtLeast{0});
    visitor("max_noise", self.max_noise, AtLeast{0});
    visitor("max_seconds", self.max_seconds, AtLeast{0});
    visitor("budget_seconds", self.budget_seconds, AtLeast{0});
  }
};

/// How much of a result is compared with the oracle.
struct Verify {
  double budget_seconds = 2;     ///< all queries if the oracle is expected to take at most this long
  int64_t sampled_queries = 64;  ///< otherwise about this many, spread over the tensor, its corners included

  template <class Self, class Visitor>
  static void visit_fields(Self& self, Visitor&& visitor) {
    visitor("budget_seconds", self.budget_seconds, AtLeast{0});
    visitor("sampled_queries", self.sampled_queries, AtLeast{1});
  }
};

struct Store {
  TensorStorage tensors = TensorStorage::none;

  template <class Self, class Visitor>
  static void visit_fields(Self& self, Visitor&& visitor) {
    visitor("tensors", self.tensors, Anything{});
  }
};

/// The keys of a problem, by which strata can be formed.
std::vector<std::string> stratum_keys();

/// A sample of the problems, in proportion from all strata: problems with the same values of some keys.
struct Stratified {
  int64_t count = 0;                ///< this many problems, or all if there are fewer
  int64_t seed = 1;                 ///< of the choice
  std::vector<std::string> strata;  ///< keys of ProblemSettings; empty: one stratum

  template <class Self, class Visitor>
  static void visit_fields(Self& self, Visitor&& visitor) {
    visitor("count", self.count, AtLeast{1});
    visitor("seed", self.seed, AtLeast{0});
    visitor("strata", self.strata, OneOf{stratum_keys()});
  }
};

/// Refuses a sample without a count.
void read(const Field& field, Stratified& sample, Anything);

/// `more`, then the names of the registry's variants.
std::vector<std::string> variant_names(std::vector<std::string> more = {});
/// Stands for those whose device is here.
inline constexpr const char* kAllVariants = "all";

/// Which types, passes and variants the problems run with, or some of them.
struct Run {
  std::vector<ElementType> types;                      ///< empty: those of the settings
  std::vector<RowPass> passes;                         ///< empty: those of the settings
  std::vector<std::string> variants;                   ///< empty: those of the settings
  std::optional<Device> device;                        ///< of the variants that run; unset: any
  std::vector<std::string> labels;                     ///< of the problems and models that run; empty: all
  std::optional<Stratified> sample;                    ///< of the problems; unset: all
  std::optional<std::string> tiling, backward_tiling;  ///< unset: those of the settings

  template <class Self, class Visitor>
  static void visit_fields(Self& self, Visitor&& visitor) {
    visitor("types", self.types, Anything{});
    visitor("passes", self.passes, Anything{});
    visitor("variants", self.variants, OneOf{variant_names({kAllVariants})});
    visitor("device", self.device, Anything{});
    visitor("labels", self.labels, Anything{});
    visitor("sample", self.sample, Anything{});
    visitor("tiling", self.tiling, TilingName{});
    visitor("backward_tiling", self.backward_tiling, TilingName{});
  }
};

/// Settings of all problems of a configuration; `quick` may override each key.
struct Settings {
  Timing timing;
  Verify verify;
  Store store;
  int64_t seed = 1;
  std::vector<std::string> variants;  ///< names of the registry
  std::vector<ElementType> types{ElementType::f32};
  std::vector<RowPass> passes{RowPass::forward};
  std::vector<Run> runs{Run{}};    ///< one after the other
  std::string baseline = "dense";  ///< the variant that the report compares with
  /// best, static or the text of a tiling, for the variants that have tiles; self attention keeps its best one, since
  /// it is what others are compared with.
  std::string tiling{kBestTiling};
  std::string backward_tiling{kBestTiling};  ///< the same for the backward pass

  template <class Self, class Visitor>
  static void visit_fields(Self& self, Visitor&& visitor) {
    visitor("timing", self.timing, Anything{});
    visitor("verify", self.verify, Anything{});
    visitor("store", self.store, Anything{});
    visitor("seed", self.seed, AtLeast{0});
    visitor("variants", self.variants, OneOf{variant_names({kAllVariants})});
    visitor("types", self.types, Anything{});
    visitor("passes", self.passes, Anything{});
    visitor("runs", self.runs, Anything{});
    visitor("baseline", self.baseline, OneOf{variant_names()});
    visitor("tiling", self.tiling, TilingName{});
    visitor("backward_tiling", self.backward_tiling, TilingName{});
  }
};

/// A problem as YAML gives it, of any element type. Once loaded, every per-axis list has one value for each axis.
struct ProblemSettings {
  std::string label;  ///< what the problem is called in tables
  std::vector<int64_t> layout, window;
  std::vector<int64_t> stride{1}, dilation{1};
  std::vector<bool> causal{false};
  int64_t batch = 1;
  int64_t heads = 1;
  std::optional<int64_t> heads_kv;  ///< unset: heads
  int64_t head_dim = 64;
  std::optional<int64_t> head_dim_v;  ///< unset: head_dim
  int64_t extra_tokens = 0;
  bool relative_bias = false;
  std::optional<double> scale;  ///< unset: 1 / sqrt(head_dim); for the passes on weights 1

  /// Requires the per-axis lists to have one value for each axis. The problem may be invalid.
  Problem problem(ElementType type) const;

  template <class Self, class Visitor>
  static void visit_fields(Self& self, Visitor&& visitor) {
    visitor("label", self.label, Anything{});
    visitor("layout", self.layout, Anything{});
    visitor("window", self.window, Anything{});
    visitor("stride", self.stride, Anything{});
    visitor("dilation", self.dilation, Anything{});
    visitor("causal", self.causal, Anything{});
    visitor("batch", self.batch, Anything{});
    visitor("heads", self.heads, Anything{});
    visitor("heads_kv", self.heads_kv, Anything{});
    visitor("head_dim", self.head_dim, Anything{});
    visitor("head_dim_v", self.head_dim_v, Anything{});
    visitor("extra_tokens", self.extra_tokens, Anything{});
    visitor("relative_bias", self.relative_bias, Anything{});
    visitor("scale", self.scale, Anything{});
  }
};

/// Published speedups of an application over self attention throughout.
struct Published {
  std::optional<double> flops;      ///< FLOP-wise bound
  std::optional<double> simulated;  ///< by the tiles that the worst query tile visits
  std::optional<double> actual;     ///< measured

  template <class Self, class Visitor>
  static void visit_fields(Self& self, Visitor&& visitor) {
    visitor("flops", self.flops, AtLeast{1});
    visitor("simulated", self.simulated, AtLeast{1});
    visitor("actual", self.actual, AtLeast{0});
  }
};

/// A question to the simulator as YAML gives it. Once loaded, every per-axis list has one value for each axis.
struct SimulationSettings {
  std::string table;        ///< which published table it is a row of; empty: that of the configuration
  ProblemSettings problem;  ///< its mask: fields without a key in a simulation keep their defaults
  std::vector<int64_t> q_tile, kv_tile;
  geometry::KvTiling kv_tiling = geometry::KvTiling::static_tiles;
  std::string tiles_note;              ///< a sentence on where the tiles come from
  simulator::Application application;  ///< the share of its time spent in attention
  bool round_speedup = false;          ///< round the speedup of attention to one decimal before Amdahl's law
  Published published;
  std::string exception;  ///< a sentence on why the published figures may not be met

  simulator::TileShapes tiles() const { return {q_tile, kv_tile, kv_tiling}; }

  template <class Self, class Visitor>
  static void visit_fields(Self& self, Visitor&& visitor) {
    visitor("table", self.table, Identifier{});
    visitor("label", self.problem.label, Anything{});
    visitor("layout", self.problem.layout, Anything{});
    visitor("window", self.problem.window, Anything{});
    visitor("stride", self.problem.stride, Anything{});
    visitor("dilation", self.problem.dilation, Anything{});
    visitor("causal", self.problem.causal, Anything{});
    visitor("extra_tokens", self.problem.extra_tokens, Anything{});
    visitor("q_tile", self.q_tile, Anything{});
    visitor("kv_tile", self.kv_tile, Anything{});
    visitor("kv_tiling", self.kv_tiling, Anything{});
    visitor("tiles_note", self.tiles_note, Anything{});
    visitor("attention_share", self.application.attention_share, Anything{});
    visitor("steps", self.application.steps, Anything{});
    visitor("dense_steps", self.application.dense_steps, Anything{});
    visitor("round_speedup", self.round_speedup, Anything{});
    visitor("published", self.published, Anything{});
    visitor("exception", self.exception, Anything{});
  }
};

/// How a configuration is named and described.
struct Title {
  std::string name;               ///< of the results file and its group
  std::string table = "generic";  ///< which published table it reproduces
  std::string about;              ///< one line for people

  template <class Self, class Visitor>
  static void visit_fields(Self& self, Visitor&& visitor) {
    visitor("name", self.name, Identifier{});
    visitor("table", self.table, Identifier{});
    visitor("about", self.about, Anything{});
  }
};

struct Config {
  std::string path;
  std::string text;  ///< the file as it is
  Title title;
  Settings settings;
  std::vector<ProblemSettings> problems;        ///< all valid: those listed, then the grids' in the order of the file
  std::vector<ModelSettings> models;            ///< in the order of the file
  std::vector<SimulationSettings> simulations;  ///< all valid
};

/// What a run requests: its types, passes and variants of its device, and the problems of the configuration in their
/// order, those of its labels, or a sample of them that depends on problems and sample alone; and the models of its
/// labels, which have passes of their own.
struct Selection {
  std::vector<ElementType> types;
  std::vector<RowPass> passes;
  std::vector<std::string> variants;
  std::vector<const ProblemSettings*> problems;
  std::vector<const ModelSettings*> models;
};
Selection select(const Config& config, const Run& run);

/// Reads and checks both forms of a configuration, and returns the requested one.
/// Throws Error "FILE:LINE:COLUMN: KEY: expected ..., got ..." for the first mistake.
Config load(const std::string& path, Form form);

/// The configuration as it was understood, as YAML that can be loaded again: quick form applied, grids expanded.
std::string resolved(const Config& config);

/// What a results file stores of it.
store::StoredConfig stored(const Config& config);

/// Where configurations are looked for: ./configs, the folder installed beside the running executable, wherever that
/// was moved to, and the source tree's.
std::vector<std::string> config_folders();

/// The configurations (*.yaml) of the first folder that has any; sorted. Throws Error if none has.
std::vector<std::string> find_configs(const std::vector<std::string>& folders = config_folders());

}  // namespace nalab::config
