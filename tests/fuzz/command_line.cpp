// The input is a command line, an argument on each line. Nothing is run: the parser takes it apart, and what reads the
// values of options reads each argument.
#include <algorithm>
#include <cstdint>
#include <sstream>
#include <string>
#include <vector>

#include "cli/commands.h"
#include "cli/sim/request.h"
#include "core/plan.h"
#include "core/problem.h"
#include "core/simd/arithmetic.h"
#include "core/simd/isa.h"
#include "core/tiling.h"
#include "experiments/plan/shard.h"
#include "tests/fuzz/refusals.h"

using namespace nalab;

namespace {

/// Ends with an exception where the commands would be called.
class Parser : public CLI::App {
  void pre_callback() override { throw CLI::Success(); }
};

/// Does what main() does up to the call of the commands.
void parse(std::vector<std::string> arguments) {
  Parser app;
  int exit_code = 0;
  cli::add_commands(app, exit_code);
  std::ranges::reverse(arguments);  // as CLI11 takes them
  try {
    app.parse(std::move(arguments));
  } catch (const CLI::Error& refusal) {
    fuzz::require(!std::string(refusal.what()).empty(), "an error says nothing");
  }
}

/// The values of options, as text.
void read_values(const std::string& text) {
  fuzz::allow_refusal([&] { parse_extents("--layout", text); });
  fuzz::allow_refusal([&] { check_tiling_name(text); });
  fuzz::allow_refusal([&] {
    const std::string tiling = parse_tiling(text).to_string();
    fuzz::require(parse_tiling(tiling).to_string() == tiling, "a tiling changes when it is read back: " + text);
  });
  fuzz::allow_refusal([&] { parse_element_type(text); });
  fuzz::allow_refusal([&] { parse_isa(text); });
  fuzz::allow_refusal([&] { find_arithmetic(text); });
  fuzz::allow_refusal([&] { plan::parse_shard(text); });
}

/// The arguments in turn as values of nalab sim.
void read_simulation(const std::vector<std::string>& arguments) {
  cli::SimOptions options;
  std::string* const fields[] = {&options.layout, &options.window, &options.stride, &options.dilation,
                                 &options.causal, &options.q_tile, &options.kv_tile};
  for (std::size_t i = 0; i < std::min(std::size(fields), arguments.size()); ++i) *fields[i] = arguments[i];
  fuzz::allow_refusal([&] { cli::read_request(options); });
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::istringstream lines(std::string(reinterpret_cast<const char*>(data), size));
  std::vector<std::string> arguments;
  for (std::string line; std::getline(lines, line);) arguments.push_back(line);
  parse(arguments);
  for (const std::string& argument : arguments) read_values(argument);
  read_simulation(arguments);
  return 0;
}
