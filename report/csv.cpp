#include "report/render.h"

namespace nalab::report {
namespace {

std::string quoted(const std::string& field) {
  if (field.find_first_of(",\"\r\n") == std::string::npos) return field;
  std::string result = "\"";
  for (char c : field) result += c == '"' ? "\"\"" : std::string(1, c);
  return result + "\"";
}

std::string line(const std::vector<std::string>& fields) {
  std::string text;
  for (std::size_t i = 0; i < fields.size(); ++i) text += (i > 0 ? "," : "") + quoted(fields[i]);
  return text + "\n";
}

}  // namespace

std::string to_csv(const Table& table) {
  if (table.records.fields.empty()) return "";
  std::string text = line(table.records.fields);
  for (const auto& fields : table.records.lines) text += line(fields);
  return text;
}

}  // namespace nalab::report
