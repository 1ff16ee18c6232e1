#include "cli/models.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "cli/commands.h"
#include "cli/terminal_table.h"
#include "models/build.h"
#include "models/parameters.h"
#include "yaml/reader.h"

namespace nalab::cli {

models::Definition find_model(const std::string& name, const std::string& file) {
  if (file.empty()) return models::find_definition(name);
  return models::find_definition(models::parse_definitions(file, yaml::read_text(file)), name);
}

void list_models() {
  using enum TerminalTable::Align;
  TerminalTable table({{"model"}, {"input", right}, {"parameters", right}, {"GMAC", right}, {"attention %", right}});
  for (const models::Definition& definition : models::definitions()) {
    const models::Graph graph = models::build(definition);
    const models::MultiplyAdds cost = models::multiply_adds(graph);
    const auto all = static_cast<double>(cost.all);
    table.add({definition.name, fmt::format("{}x{}", definition.input, definition.input),
               fmt::format("{}", models::parameter_count(graph)), fmt::format("{:.3f}", all / 1e9),
               fmt::format("{:.1f}", 100 * static_cast<double>(cost.attention) / all)});
  }
  table.add_note("GMAC: 1e9 multiply-adds of one image, which the papers call FLOPs; attention: its share of them.");
  fmt::print("{}", table.to_string());
}

}  // namespace nalab::cli
