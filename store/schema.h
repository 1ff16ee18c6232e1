// The results schema nalab.results/1 as C++ structs: what experiments write and the report reads. Each field is listed
// once, in its struct's visit_fields, which serves writing, reading and printing. data/README.md documents the file.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace nalab::store {

inline constexpr const char* kResultsSchema = "nalab.results/1";
inline constexpr const char* kCasesSchema = "nalab.cases/1";
inline constexpr const char* kOutputsSchema = "nalab.outputs/1";

/// What the machine can do at most with an arithmetic, measured. Element of the compound dataset /environment/peaks.
struct Peak {
  std::string name;  ///< of the arithmetic: f32_fma, bf16_dot
  /// FLOP/s, with the ISA in use; finite and greater than 0. Of wgmma, of one and of all multiprocessors of the GPU.
  double one_thread = 0, all_threads = 0;

  /// Calls visitor(name, field, unit) for each field of the compound; the unit is "" if there is none.
  template <class Self, class Visitor>
  static void visit_fields(Self& self, Visitor&& visitor) {
    visitor("name", self.name, "");
    visitor("one_thread", self.one_thread, "FLOP/s");
    visitor("all_threads", self.all_threads, "FLOP/s");
  }
};

/// The machine and the build of a run: everything that `nalab info` prints. Attributes of the group /environment, and
/// the peaks beside them.
struct Environment {
  std::string cpu;
  std::string isas;  ///< those that the CPU supports, separated by spaces
  std::string isa;   ///< the one in use
  std::string gpu;   ///< name of the one that variants can compute on; empty: none
  std::string gpu_driver;
  int64_t gpu_multiprocessors = 0;
  int64_t gpu_memory_bytes = 0;
  double gpu_clock = 0, gpu_memory_clock = 0;  ///< the greatest
  double gpu_power_limit = 0;                  ///< above which it lowers its clocks; 0: not known
  int64_t cores = 0;
  int64_t threads = 0;
  int64_t l1d_bytes = 0, l2_bytes = 0, l3_bytes = 0;
  int64_t memory_bytes = 0;
  int64_t memory_limit_bytes = 0;  ///< the least of memory_bytes and the limits of container and process
  int64_t hardware_threads = 0;    ///< that the process may run on
  double cpu_quota = 0;            ///< CPUs' worth of time that the container may use; 0: no limit
  double load_average = 0;         ///< of the machine over a minute, before the run
  std::string os, compiler, flags, libraries;
  std::string revision;       ///< git revision of the build, with "-dirty" if the tree had changes
  double copy_bandwidth = 0;  ///< bytes read plus written per second, all threads; 0: not measured
  std::string not_measured;   ///< what was not, and why; else empty
  std::string started;        ///< UTC, ISO 8601
  std::vector<Peak> peaks;    ///< those measured, one for each arithmetic; no attribute

  /// The same for each attribute.
  template <class Self, class Visitor>
  static void visit_fields(Self& self, Visitor&& visitor) {
    visitor("cpu", self.cpu, "");
    visitor("isas", self.isas, "");
    visitor("isa", self.isa, "");
    visitor("gpu", self.gpu, "");
    visitor("gpu_driver", self.gpu_driver, "");
    visitor("gpu_multiprocessors", self.gpu_multiprocessors, "");
    visitor("gpu_memory_bytes", self.gpu_memory_bytes, "B");
    visitor("gpu_clock", self.gpu_clock, "Hz");
    visitor("gpu_memory_clock", self.gpu_memory_clock, "Hz");
    visitor("gpu_power_limit", self.gpu_power_limit, "W");
    visitor("cores", self.cores, "");
    visitor("threads", self.threads, "");
    visitor("l1d_bytes", self.l1d_bytes, "B");
    visitor("l2_bytes", self.l2_bytes, "B");
    visitor("l3_bytes", self.l3_bytes, "B");
    visitor("memory_bytes", self.memory_bytes, "B");
    visitor("memory_limit_bytes", self.memory_limit_bytes, "B");
    visitor("hardware_threads", self.hardware_threads, "");
    visitor("cpu_quota", self.cpu_quota, "CPUs");
    visitor("load_average", self.load_average, "CPUs");
    visitor("os", self.os, "");
    visitor("compiler", self.compiler, "");
    visitor("flags", self.flags, "");
    visitor("libraries", self.libraries, "");
    visitor("revision", self.revision, "");
    visitor("copy_bandwidth", self.copy_bandwidth, "B/s");
    visitor("not_measured", self.not_measured, "");
    visitor("started", self.started, "");
  }
};

/// The peak of an arithmetic; null if it was not measured.
inline const Peak* find_peak(const Environment& environment, std::string_view arithmetic) {
  const auto found = std::ranges::find(environment.peaks, arithmetic, &Peak::name);
  return found == environment.peaks.end() ? nullptr : &*found;
}

/// What rows of attention and of models say alike: what was asked for, whether it ran, and its times.
struct TimedRow {
  std::string id;        ///< stable: what is computed, variant and pass
  int64_t position = 0;  ///< among all that the configurations request, counted from 0: the order of rows
  std::string config;    ///< name of the configuration that requested it
  std::string label;     ///< what the configuration calls what is computed, such as "NAT-T level 1"
  std::string variant, type, pass;
  std::string device;  ///< cpu, cuda; empty: cpu. Not a field of models, which run there alone
  std::string isa;
  std::string arithmetic;
  int64_t threads = 0;
  std::string status;  ///< done, failed (a wrong result) or refused (not run)
  std::string reason;  ///< why the status is not done, or what was not verified
  int64_t warmups = 0;
  int64_t first_sample = 0;  ///< the row's samples are /samples[first_sample : first_sample + sample_count]
  int64_t sample_count = 0;
  /// What ended the sampling: noise (the samples are enough and scatter little), count or time (the most that was
  /// allowed). Empty if there are none.
  std::string stopped_by;
  /// What was seen of the machine around the samples, in CPUs on average: kept busy by other processes, given to others
  /// by a hypervisor, kept from the process by its container's quota.
  double cpus_others = 0, cpus_stolen = 0, cpus_throttled = 0;
  double peak_before = 0, peak_after = 0;  ///< of f32_fma on all threads, from a few milliseconds; 0: not measured

  std::vector<double> samples;  ///< seconds; kept in /samples, not a field of the compound

  bool on_gpu() const { return device == "cuda"; }

 protected:
  /// Parts of the lists of fields.
  template <class Self, class Visitor>
  static void visit_request(Self& self, Visitor& visitor) {
    visitor("id", self.id, "");
    visitor("position", self.position, "");
    visitor("config", self.config, "");
    visitor("label", self.label, "");
  }
  template <class Self, class Visitor>
  static void visit_times(Self& self, Visitor& visitor) {
    visitor("first_sample", self.first_sample, "");
    visitor("sample_count", self.sample_count, "");
    visitor("stopped_by", self.stopped_by, "");
    visitor("cpus_others", self.cpus_others, "CPUs");
    visitor("cpus_stolen", self.cpus_stolen, "CPUs");
    visitor("cpus_throttled", self.cpus_throttled, "CPUs");
    visitor("peak_before", self.peak_before, "FLOP/s");
    visitor("peak_after", self.peak_after, "FLOP/s");
  }
};

/// One (problem, variant, type, pass). Element of the compound dataset /rows. The pass is forward, forward_backward
/// (both, timed together), or one on the weights themselves: weights, weights_backward, values, values_backward. The
/// arithmetic is that of the first pass that is timed: f32_fma, bf16_dot, f64_scalar (that of the reference).
struct Row : TimedRow {
  std::string problem;   ///< id of the problem that was computed
  std::string baseline;  ///< id of the same problem with self attention: where to find the baseline row
  std::string layout, window, stride, dilation, causal;  ///< "30x48x80"
  int64_t batch = 0, heads = 0, heads_kv = 0, head_dim = 0, head_dim_v = 0, extra_tokens = 0;
  int64_t relative_bias = 0;  ///< 1: with a relative positional bias
  double scale = 0;
  std::string tiling;                                ///< of the first pass; empty if the variant has none
  std::string backward_arithmetic, backward_tiling;  ///< of the backward pass of forward_backward; else empty
  int64_t verified_queries = 0;                      ///< rows of out compared with the oracle
  int64_t total_queries = 0;                         ///< rows of out
  double error_frobenius = 0, error_max = 0;  ///< the greater of all compared tensors, relative to the bounds' norms
  double bound_frobenius = 0, bound_max = 0;
  int64_t attended_pairs = 0, useful_flops = 0, executed_flops = 0, tensor_bytes = 0, workspace_bytes = 0;
  double packing_seconds = 0;  ///< median of a call that packs and does nothing else; 0 if none was timed

  /// The same for each field of the compound.
  template <class Self, class Visitor>
  static void visit_fields(Self& self, Visitor&& visitor) {
    visit_request(self, visitor);
    visitor("problem", self.problem, "");
    visitor("baseline", self.baseline, "");
    visitor("layout", self.layout, "tokens");
    visitor("window", self.window, "tokens");
    visitor("stride", self.stride, "tokens");
    visitor("dilation", self.dilation, "tokens");
    visitor("causal", self.causal, "");
    visitor("batch", self.batch, "");
    visitor("heads", self.heads, "");
    visitor("heads_kv", self.heads_kv, "");
    visitor("head_dim", self.head_dim, "");
    visitor("head_dim_v", self.head_dim_v, "");
    visitor("extra_tokens", self.extra_tokens, "tokens");
    visitor("relative_bias", self.relative_bias, "");
    visitor("scale", self.scale, "");
    visitor("variant", self.variant, "");
    visitor("type", self.type, "");
    visitor("pass", self.pass, "");
    visitor("device", self.device, "");
    visitor("isa", self.isa, "");
    visitor("arithmetic", self.arithmetic, "");
    visitor("tiling", self.tiling, "");
    visitor("backward_arithmetic", self.backward_arithmetic, "");
    visitor("backward_tiling", self.backward_tiling, "");
    visitor("threads", self.threads, "");
    visitor("status", self.status, "");
    visitor("reason", self.reason, "");
    visitor("verified_queries", self.verified_queries, "");
    visitor("total_queries", self.total_queries, "");
    visitor("error_frobenius", self.error_frobenius, "");
    visitor("error_max", self.error_max, "");
    visitor("bound_frobenius", self.bound_frobenius, "");
    visitor("bound_max", self.bound_max, "");
    visitor("attended_pairs", self.attended_pairs, "");
    visitor("useful_flops", self.useful_flops, "FLOP");
    visitor("executed_flops", self.executed_flops, "FLOP");
    visitor("tensor_bytes", self.tensor_bytes, "B");
    visitor("workspace_bytes", self.workspace_bytes, "B");
    visitor("warmups", self.warmups, "");
    visitor("packing_seconds", self.packing_seconds, "s");
    visit_times(self, visitor);
  }
};

/// One (model, batch, type, variant, pass). Element of the compound dataset /models. A file without models has no such
/// dataset. The pass is forward, or training_step: forward, backward and an update of the weights. The arithmetic is
/// that of attention; several are separated by spaces.
struct ModelRow : TimedRow {
  std::string model;                          ///< name of its definition
  int64_t height = 0, width = 0;              ///< of the images that it gets or generates
  int64_t batch = 0;                          ///< images of a call
  int64_t relative_bias = 0;                  ///< 1: attention has its relative positional biases
  int64_t parameters = 0;                     ///< numbers
  int64_t multiply_adds = 0;                  ///< of the forward pass of one image
  int64_t attention_multiply_adds = 0;        ///< of those, within attention
  std::string verified;                       ///< what was compared; empty if nothing was
  double error_frobenius = 0;                 ///< the greatest of all compared, relative to the norm of the right one
  double bound_frobenius = 0;                 ///< that of the comparison whose error comes closest to its bound
  double attention_seconds = 0;               ///< median of what the timed calls spent within attention
  int64_t weight_bytes = 0, value_bytes = 0;  ///< parameters and what belongs to each; values and their gradients
  int64_t workspace_bytes = 0;                ///< of attention
  int64_t memory_bytes = 0;                   ///< what the row was planned to need, verification included
  int64_t peak_memory_bytes = 0;              ///< of the process while its group ran, measured; 0: not known

  /// The same for each field of the compound.
  template <class Self, class Visitor>
  static void visit_fields(Self& self, Visitor&& visitor) {
    visit_request(self, visitor);
    visitor("model", self.model, "");
    visitor("height", self.height, "pixels");
    visitor("width", self.width, "pixels");
    visitor("batch", self.batch, "");
    visitor("relative_bias", self.relative_bias, "");
    visitor("parameters", self.parameters, "");
    visitor("multiply_adds", self.multiply_adds, "");
    visitor("attention_multiply_adds", self.attention_multiply_adds, "");
    visitor("variant", self.variant, "");
    visitor("type", self.type, "");
    visitor("pass", self.pass, "");
    visitor("isa", self.isa, "");
    visitor("arithmetic", self.arithmetic, "");
    visitor("threads", self.threads, "");
    visitor("status", self.status, "");
    visitor("reason", self.reason, "");
    visitor("verified", self.verified, "");
    visitor("error_frobenius", self.error_frobenius, "");
    visitor("bound_frobenius", self.bound_frobenius, "");
    visitor("attention_seconds", self.attention_seconds, "s");
    visitor("weight_bytes", self.weight_bytes, "B");
    visitor("value_bytes", self.value_bytes, "B");
    visitor("workspace_bytes", self.workspace_bytes, "B");
    visitor("memory_bytes", self.memory_bytes, "B");
    visitor("peak_memory_bytes", self.peak_memory_bytes, "B");
    visitor("warmups", self.warmups, "");
    visit_times(self, visitor);
  }
};

/// One answer of the simulator, with the published figures. Element of the compound dataset /simulations.
/// A file without simulations has no such dataset.
struct SimulationRow {
  std::string id;                                        ///< stable: table, problem, tiles and application
  std::string config;                                    ///< name of the configuration that requested it
  std::string table;                                     ///< the published table that the row is of
  std::string label;                                     ///< what the configuration calls the table or row
  std::string layout, window, stride, dilation, causal;  ///< "30x48x80"
  int64_t extra_tokens = 0;
  std::string q_tile, kv_tile;  ///< "4x8x8"
  std::string tiles_note;       ///< a sentence on where the tiles come from; may be empty
  std::string kv_tiling;        ///< static or dynamic
  double attention_share = 0;   ///< of the application's run time with self attention throughout
  int64_t steps = 0, dense_steps = 0;
  int64_t round_speedup = 0;  ///< 1: the speedup of attention is rounded to one decimal before Amdahl's law
  int64_t query_tiles = 0, tiles_total = 0, tiles_visited_worst = 0, tiles_visited = 0, tiles_full = 0;
  int64_t attended_pairs = 0, computed_pairs = 0, all_pairs = 0;
  double speedup_flops = 0, speedup_worst = 0, speedup_mean = 0;  ///< of attention, over self attention
  double end_to_end_flops = 0, end_to_end_simulated = 0;          ///< of the application, by speedup_flops and _worst
  double published_flops = 0, published_simulated = 0;            ///< of the application; 0 if none is published
  double published_actual = 0;                                    ///< measured by the publication; 0 if none is
  std::string exception;  ///< a sentence on why the figures may differ from the published ones; empty if they may not

  /// The same for each field of the compound.
  template <class Self, class Visitor>
  static void visit_fields(Self& self, Visitor&& visitor) {
    visitor("id", self.id, "");
    visitor("config", self.config, "");
    visitor("table", self.table, "");
    visitor("label", self.label, "");
    visitor("layout", self.layout, "tokens");
    visitor("window", self.window, "tokens");
    visitor("stride", self.stride, "tokens");
    visitor("dilation", self.dilation, "tokens");
    visitor("causal", self.causal, "");
    visitor("extra_tokens", self.extra_tokens, "tokens");
    visitor("q_tile", self.q_tile, "tokens");
    visitor("kv_tile", self.kv_tile, "tokens");
    visitor("tiles_note", self.tiles_note, "");
    visitor("kv_tiling", self.kv_tiling, "");
    visitor("attention_share", self.attention_share, "");
    visitor("steps", self.steps, "");
    visitor("dense_steps", self.dense_steps, "");
    visitor("round_speedup", self.round_speedup, "");
    visitor("query_tiles", self.query_tiles, "");
    visitor("tiles_total", self.tiles_total, "");
    visitor("tiles_visited_worst", self.tiles_visited_worst, "");
    visitor("tiles_visited", self.tiles_visited, "");
    visitor("tiles_full", self.tiles_full, "");
    visitor("attended_pairs", self.attended_pairs, "");
    visitor("computed_pairs", self.computed_pairs, "");
    visitor("all_pairs", self.all_pairs, "");
    visitor("speedup_flops", self.speedup_flops, "");
    visitor("speedup_worst", self.speedup_worst, "");
    visitor("speedup_mean", self.speedup_mean, "");
    visitor("end_to_end_flops", self.end_to_end_flops, "");
    visitor("end_to_end_simulated", self.end_to_end_simulated, "");
    visitor("published_flops", self.published_flops, "");
    visitor("published_simulated", self.published_simulated, "");
    visitor("published_actual", self.published_actual, "");
    visitor("exception", self.exception, "");
  }
};

/// A tensor kept on request, float32, in /tensors/<row id>/<name>.
struct StoredTensor {
  std::string name;  ///< by the list of tensors (core/tensors.h)
  std::vector<int64_t> shape;
  std::vector<float> data;
};

/// A row with what is stored beside it.
struct FinishedRow {
  Row row;
  std::vector<StoredTensor> tensors;
};

/// A configuration as it was written and as it was understood. Group /configs/<name>, one string dataset per field but
/// the name.
struct StoredConfig {
  std::string name;
  std::string text;
  std::string resolved;
  std::string table = {};     ///< the published table that it reproduces, or generic
  std::string baseline = {};  ///< the variant that speedups are relative to

  /// The same for each dataset.
  template <class Self, class Visitor>
  static void visit_fields(Self& self, Visitor&& visitor) {
    visitor("text", self.text, "");
    visitor("resolved", self.resolved, "");
    visitor("table", self.table, "");
    visitor("baseline", self.baseline, "");
  }
};

/// Which shard of a plan a results file holds. Attributes of the group /shard, which only exists in the file of a
/// shard.
struct Shard {
  int64_t index = 1, count = 1;  ///< the index-th of count shards, 1 <= index <= count
  std::string filter = {};       ///< expression that chose the rows of the plan
  int64_t rows = 0;              ///< rows, models' among them, and simulations of the finished file

  /// The same for each attribute.
  template <class Self, class Visitor>
  static void visit_fields(Self& self, Visitor&& visitor) {
    visitor("index", self.index, "");
    visitor("count", self.count, "");
    visitor("filter", self.filter, "");
    visitor("rows", self.rows, "");
  }
};

/// A whole results file in memory, tensors aside.
struct Results {
  std::string path;
  Environment environment;
  std::vector<StoredConfig> configs;
  std::vector<Row> rows;  ///< with their samples
  std::vector<SimulationRow> simulations = {};
  std::vector<ModelRow> models = {};  ///< with their samples
  std::optional<Shard> shard = {};
};

/// The rows of attention, then those of models.
inline std::vector<const TimedRow*> timed_rows(const Results& results) {
  std::vector<const TimedRow*> rows;
  for (const Row& row : results.rows) rows.push_back(&row);
  for (const ModelRow& row : results.models) rows.push_back(&row);
  return rows;
}

}  // namespace nalab::store
