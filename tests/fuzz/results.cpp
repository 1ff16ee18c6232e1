// The input is a results file, or choices of what the rows of one say and of edits to it. What can be read is reported.
#include "store/results.h"

#include <unistd.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <type_traits>

#include "report/html.h"
#include "report/render.h"
#include "report/report.h"
#include "store/rows.h"
#include "store/system_calls.h"
#include "tests/fuzz/hdf5_edits.h"
#include "tests/fuzz/memory_file.h"
#include "tests/fuzz/refusals.h"
#include "tests/store/sample_rows.h"

using namespace nalab;

namespace {

/// Texts that mean something in one field or another.
constexpr std::array kTexts{
    "done", "failed",  "refused",   "forward", "forward_backward", "weights", "naive", "fused", "dense", "f32", "bf16",
    "8x8",  "3x3",     "1x1",       "0x0",     "f32_fma",          "static",  "smoke", "",      "\xff",  "a|b", "<b>&",
    "\\$",  "1x2x3x4", "99999999x9"};

template <class T>
void choose(FuzzedDataProvider& choices, T& field) {
  if constexpr (std::is_same_v<T, std::string>) {
    field = choices.ConsumeBool() ? choices.PickValueInArray(kTexts) : choices.ConsumeRandomLengthString(16);
  } else if constexpr (std::is_same_v<T, double>) {
    field = choices.ConsumeFloatingPoint<double>();
  } else {
    field = choices.ConsumeBool() ? choices.ConsumeIntegral<T>() : choices.ConsumeIntegralInRange<T>(0, 8);
  }
}

/// Changes some of the fields.
template <class Struct>
void change(FuzzedDataProvider& choices, Struct& object) {
  Struct::visit_fields(object, [&](const char*, auto& field, const char*) {
    if (choices.ConsumeIntegralInRange(0, 7) == 0) choose(choices, field);
  });
}

/// Rows as a run of a small problem writes them.
store::Row good_row(const std::string& variant) {
  store::Row row = store::row("8x8." + variant, {0.25, 0.5});
  Problem problem;
  problem.axes = {{.extent = 8, .window = 3}, {.extent = 8, .window = 3}};
  row.pass = "forward";
  row.variant = variant;
  row.config = "smoke";
  store::describe(problem, row);
  row.baseline = row.problem;
  return row;
}

std::string bytes_of(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream bytes;
  bytes << file.rdbuf();
  return bytes.str();
}

/// A results file with changed rows, and edited as a file.
std::string made_file(FuzzedDataProvider& choices) {
  store::Environment environment = store::environment();
  store::StoredConfig config{"smoke", "text", "resolved", "generic", "naive"};
  if (choices.ConsumeBool()) config.table = choices.ConsumeRandomLengthString(16);
  if (choices.ConsumeBool()) change(choices, environment);
  std::vector<store::FinishedRow> rows;
  for (const char* variant : {"naive", "fused"}) {
    rows.push_back({good_row(variant), {{"out", {1, 2}, {1.0f, 2.0f}}}});
    change(choices, rows.back().row);
    if (choices.ConsumeBool()) rows.back().row.samples = {choices.ConsumeFloatingPoint<double>()};
  }
  std::vector<store::SimulationRow> simulations{store::simulation("s")};
  change(choices, simulations.front());
  std::vector<store::ModelRow> models{store::model("m", {1.0})};
  change(choices, models.front());
  const std::string path = std::filesystem::temp_directory_path() / ("nalab_fuzz_" + std::to_string(::getpid()));
  std::filesystem::remove(path);
  store::system_calls.fsync = [](int) { return 0; };  // takes most of the time, and matters only if power fails
  const auto sink = store::create_results(path, environment, {config});
  sink->append(rows);
  sink->append_simulations(simulations);
  sink->append_models(models);
  const std::string bytes = bytes_of(path);
  std::filesystem::remove(path);
  return choices.ConsumeBool() ? fuzz::edited(bytes, choices) : bytes;
}

void report_of(const store::Results& results) {
  const report::Report report = report::make_report({results}, {});
  report::to_html(report, {});
  for (const report::Table& table : report::tables_of(report)) {
    report::to_markdown(table);
    report::to_csv(table);
    report::to_latex(table);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string bytes(reinterpret_cast<const char*>(data), size);
  fuzz::allow_refusal([&] {
    if (!fuzz::is_hdf5_file(data, size)) {
      FuzzedDataProvider choices(data, size);
      bytes = made_file(choices);
    }
    const fuzz::MemoryFile file(bytes);
    const store::Results results = store::read_results(file.path());
    for (const store::Row& row : results.rows) {
      fuzz::allow_refusal([&] { store::problem_of(row); });
    }
    for (const store::Row& row : results.rows) {
      fuzz::allow_refusal([&] { store::read_tensors(file.path(), row.id); });
    }
    fuzz::allow_refusal([&] { report_of(results); });
  });
  return 0;
}
