// A small results file with one of everything that a table must show.
#pragma once

#include <string>

#include "store/schema.h"

namespace nalab::report {

inline store::Environment sample_environment() {
  store::Environment e;
  e.cpu = "Example CPU 9000 @ 3.0 GHz";
  e.isas = "baseline avx2";
  e.isa = "avx2";
  e.cores = 2;
  e.threads = 2;
  e.revision = "0123456789ab";
  e.peaks = {{"f32_fma", 50e9, 100e9}};
  e.started = "2025-01-02T03:04:05Z";
  return e;
}

inline void give_gpu(store::Environment& e) {
  e.gpu = "Example GPU";
  e.gpu_driver = "580.1";
  e.gpu_multiprocessors = 132;
  e.gpu_clock = 1.98e9;
  e.gpu_power_limit = 700;
  e.peaks.push_back({"wgmma", 6e12, 800e12});
}

/// A row that is done. The window is `window` along both axes of a 8x9 layout.
inline store::Row sample_row(const std::string& label, int window, const std::string& variant, const std::string& type,
                             std::vector<double> samples) {
  store::Row row;
  const std::string w = std::to_string(window);
  const bool whole = variant == "dense";
  row.label = label;
  row.config = "small_case";
  row.problem = (whole ? "8x9_self_" : "8x9_w" + w + "_") + type;
  row.baseline = "8x9_self_" + type;
  row.id = row.problem + "_" + variant + "_forward";
  row.layout = "8x9";
  row.window = whole ? "8x9" : w + "x" + w;
  row.stride = row.dilation = "1x1";
  row.causal = "0x0";
  row.batch = 1;
  row.heads = 4;
  row.heads_kv = 2;
  row.head_dim = row.head_dim_v = 32;
  row.scale = 0.5;
  row.variant = variant;
  row.type = type;
  row.pass = "forward";
  row.isa = "avx2";
  row.arithmetic = "f32_fma";
  row.threads = 2;
  row.status = "done";
  row.verified_queries = 288;
  row.total_queries = 288;
  row.error_frobenius = 1.25e-7;
  row.error_max = 2.5e-7;
  row.bound_frobenius = 2e-6;
  row.bound_max = 2e-5;
  row.useful_flops = whole ? 20'000'000 : 1'000'000 * window;
  row.executed_flops = row.useful_flops;
  row.warmups = 1;
  row.samples = std::move(samples);
  return row;
}

inline store::Row without_times(store::Row row, const std::string& status, const std::string& reason) {
  row.status = status;
  row.reason = reason;
  row.samples.clear();
  return row;
}

inline store::Results sample_results() {
  store::Results results;
  results.path = "sample.h5";
  results.environment = sample_environment();
  results.configs = {{"small_case", "name: small_case\n", "name: small_case\n", "generic", "dense"}};
  store::Row sampled = sample_row("B & C, 50%", 5, "naive", "f32", {0.0001});
  sampled.verified_queries = 64;
  results.rows = {
      sample_row("A_1", 3, "dense", "f32", {0.004, 0.002, 0.003, 0.005}),
      sample_row("A_1", 3, "naive", "f32", {0.00011, 0.0001, 0.00012}),
      without_times(sample_row("A_1", 3, "fused", "f32", {}), "failed", "frobenius 1.0e-01 (bound 2.0e-06)"),
      sampled,
      without_times(sample_row("B & C, 50%", 5, "fused", "f32", {}), "refused",
                    "a window of 5 is \"too odd\" | really"),
      without_times(sample_row("A_1", 3, "dense", "bf16", {}), "refused", "needs 99.0 GiB, there are 8.0 GiB"),
      sample_row("A_1", 3, "naive", "bf16", {0.0002, 0.0003}),
  };
  return results;
}

}  // namespace nalab::report
