// Small made-up results of the published tables.
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "store/schema.h"
#include "tests/report/sample_results.h"

namespace nalab::report {

/// What a made-up row is of. The window of dense is the layout.
struct Made {
  std::string layout, window, stride, dilation;
  std::string type = "f32", pass = "forward";
  int64_t heads = 1;
};

/// A row that is done, with FLOPs that count its pairs.
inline store::Row made(const std::string& config, const Made& m, const std::string& variant,
                       std::vector<double> samples, int64_t useful, int64_t executed) {
  const bool dense = variant == "dense";
  store::Row row = sample_row("made up", 3, variant, m.type, std::move(samples));
  row.config = config;
  row.layout = m.layout;
  row.window = dense ? m.layout : m.window;
  row.stride = m.stride;
  row.dilation = m.dilation;
  row.causal = "0";
  for (const char c : m.layout) row.causal += c == 'x' ? "x0" : "";
  row.heads = row.heads_kv = m.heads;
  row.head_dim = row.head_dim_v = 128;
  row.pass = m.pass;
  row.baseline = fmt::format("{}_self_h{}_{}", m.layout, m.heads, m.type);
  row.problem = dense ? row.baseline
                      : fmt::format("{}_w{}_s{}_d{}_h{}_{}", m.layout, m.window, m.stride, m.dilation, m.heads, m.type);
  row.id = row.problem + "." + variant + "." + m.pass;
  row.useful_flops = useful;
  row.executed_flops = executed;
  return row;
}

/// Samples of a time that is reliable.
inline std::vector<double> thrice(double seconds) { return {seconds, seconds, seconds}; }

inline store::Results with_config(const std::string& name, const std::string& table) {
  store::Results results;
  results.environment = sample_environment();
  results.configs = {{name, "", "", table, "dense"}};
  return results;
}

/// The variants take so many milliseconds; 0: the row is not there.
inline void add_sweep(store::Results& results, const Made& problem, double naive, double gemm, double fused,
                      double dense, double banded = 0) {
  const std::pair<const char*, double> rows[] = {
      {"dense", dense}, {"naive", naive}, {"gemm", gemm}, {"fused", fused}, {"banded", banded}};
  for (const auto& [variant, milliseconds] : rows) {
    if (milliseconds == 0) continue;
    results.rows.push_back(made("fna_small", problem, variant, thrice(milliseconds / 1e3), 1'000'000, 1'000'000));
  }
}

/// A row of a model that is done, batch 8: so many milliseconds a call, of those some in attention.
inline store::ModelRow made_model(const std::string& model, const std::string& variant, const std::string& type,
                                  double milliseconds, double attention, const std::string& pass = "forward") {
  store::ModelRow row;
  row.config = "small_models";
  row.model = model;
  row.height = row.width = model.ends_with("-384") ? 384 : model == "StyleNAT-256" ? 256 : 224;
  row.batch = 8;
  row.relative_bias = pass == "forward" ? 1 : 0;
  row.variant = variant;
  row.type = type;
  row.pass = pass;
  row.id = fmt::format("{}_{}.{}.{}", model, type, variant, pass);
  row.label = model;
  row.isa = "avx2";
  row.arithmetic = "f32_fma";
  row.threads = 2;
  row.status = "done";
  row.verified = "logits";
  row.error_frobenius = 1.5e-7;
  row.bound_frobenius = 1e-5;
  row.attention_seconds = attention / 1e3;
  row.peak_memory_bytes = 500'000'000;
  row.samples = thrice(milliseconds / 1e3);
  return row;
}

/// What a model takes with each variant, of that 10 ms outside of attention; 0: the row is not there.
inline void add_model(store::Results& results, const std::string& model, const std::string& type, double naive,
                      double gemm, double fused, double banded = 0, const std::string& pass = "forward") {
  const std::pair<const char*, double> rows[] = {
      {"naive", naive}, {"gemm", gemm}, {"fused", fused}, {"banded", banded}};
  for (const auto& [variant, milliseconds] : rows) {
    if (milliseconds == 0) continue;
    results.models.push_back(made_model(model, variant, type, milliseconds, milliseconds - 10, pass));
  }
}

/// NAT-T in both types, a model that failed and one that was refused, a generator, a training.
inline store::Results whole_models() {
  store::Results results = with_config("small_models", "faster_na_models");
  add_model(results, "NAT-T", "bf16", 40, 32, 20, 16);
  add_model(results, "NAT-T", "f32", 30, 20, 24);
  add_model(results, "DiNAT-L-384", "f32", 300, 0, 100);
  store::ModelRow& failed = results.models.back();
  failed.status = "failed";  // with samples, which must not count
  failed.reason = "frobenius 1.0e-01 (bound 1.0e-05)";
  add_model(results, "NAT-S", "f32", 40, 0, 20);
  for (const char* variant : {"naive", "gemm", "fused"}) {
    store::ModelRow row = made_model("DiNAT-B", variant, "bf16", 1, 1);
    row.status = "refused";
    row.reason = "needs 99.0 GiB, there are 8.0 GiB";
    row.samples.clear();
    results.models.push_back(row);
  }
  add_model(results, "StyleNAT-256", "f32", 200, 180, 160);
  add_model(results, "NAT-T", "bf16", 120, 125, 110, 0, "training_step");
  return results;
}

/// The same in bf16 on a GPU.
inline store::Results on_gpu(store::Results results) {
  give_gpu(results.environment);
  const auto of_type = [](std::string text, const std::string& type) {
    const std::size_t place = text.find("_" + type);
    return place == std::string::npos ? text : text.replace(place + 1, type.size(), "bf16");
  };
  for (store::Row& row : results.rows) {
    for (std::string* text : {&row.id, &row.problem, &row.baseline}) *text = of_type(*text, row.type);
    row.type = "bf16";
    row.device = "cuda";
    row.variant = row.variant == "dense" ? "hopper_dense" : "hopper";
    row.arithmetic = "wgmma";
    row.tiling = "q1x2x64_split3_kv1x1x128_n128_stages3_none";
    row.packing_seconds = 0;
  }
  return results;
}

/// All rows of both, on a machine that has the GPU.
inline store::Results together(const store::Results& on_cpu, const store::Results& on_gpu) {
  store::Results results = on_gpu;
  results.rows.insert(results.rows.begin(), on_cpu.rows.begin(), on_cpu.rows.end());
  return results;
}

inline store::Results use_cases(const std::string& table) {
  store::Results results = with_config("small", table);
  const auto add = [&](const Made& problem, const std::string& variant, std::vector<double> samples, int64_t useful,
                       int64_t executed) -> store::Row& {
    results.rows.push_back(made("small", problem, variant, std::move(samples), useful, executed));
    return results.rows.back();
  };
  const Made hunyuan{"30x48x80", "18x24x24", "1x1x1", "1x1x1"};
  Made block_sparse = hunyuan;
  block_sparse.stride = "16x8x8";
  add(hunyuan, "dense", {22, 20, 24}, 1'111'000'000'000, 1'111'000'000'000).packing_seconds = 1;
  add(hunyuan, "fused", thrice(2.75), 100'000'000'000, 120'000'000'000).packing_seconds = 0.25;
  add(block_sparse, "fused", thrice(2.2), 100'000'000'000, 100'000'000'000);
  // Another configuration's rows are not preferred, however many heads they have.
  results.configs.push_back({"other", "", "", "generic", "dense"});
  Made heads = hunyuan;
  heads.heads = 24;
  results.rows.push_back(made("other", heads, "fused", {1}, 1, 1));
  results.rows.push_back(made("other", heads, "dense", {100}, 1, 1));
  const Made flux{"256x256", "80x80", "16x16", "1x1"};
  add(flux, "dense", {7}, 700'000'000'000, 700'000'000'000);
  store::Row& failed = add(flux, "fused", {0.001}, 70'000'000'000, 70'000'000'000);
  failed = without_times(failed, "failed", "frobenius 1.0e-01 (bound 2.0e-06)");
  const Made cosmos{"16x44x80", "16x24x16", "1x8x16", "1x1x1"};
  add(cosmos, "fused", {0.6}, 90'000'000'000, 90'000'000'000);
  return results;
}

inline store::Results cosmos(bool whole) {
  store::Results results = with_config("small", "cosmos_predict2");
  const struct {
    Made problem;
    double seconds;
    int64_t flops;
  } patterns[] = {{{"8x44x80", "8x4x16", "1x1x1", "1x11x5"}, 0.05, 20},
                  {{"8x44x80", "8x12x16", "1x4x1", "1x1x5"}, 0.1, 50},
                  {{"8x44x80", "8x12x24", "1x4x8", "1x1x1"}, 0.125, 80},
                  {{"8x44x80", "8x20x40", "1x4x8", "1x1x1"}, 0.25, 230},
                  {{"8x44x80", "8x28x56", "1x4x8", "1x1x1"}, 0.5, 450}};
  for (const auto& [problem, seconds, flops] : patterns) {
    results.rows.push_back(made("small", problem, "fused", thrice(seconds), flops, flops));
  }
  results.rows.push_back(made("small", patterns[0].problem, "dense", thrice(1), 1000, 1000));
  if (!whole) results.rows[3] = without_times(results.rows[3], "refused", "needs 99 GB, the machine has 8 GB");
  return results;
}

}  // namespace nalab::report
