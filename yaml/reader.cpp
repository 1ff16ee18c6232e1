#include "yaml/reader.h"

#include <utf8.h>
#include <yaml-cpp/depthguard.h>
#include <yaml-cpp/eventhandler.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <limits>
#include <sstream>

#include "core/error.h"
#include "core/plan.h"

namespace nalab::yaml {

namespace {

/// No one writes so much.
constexpr int64_t kMostBytes = 16 << 20;
constexpr const char* kMergeKey = "<<";
/// A mapping with more merges than these is merged into itself, or into others again and again.
constexpr int kMostMerges = 1000;

std::string place(const std::string& file, int64_t line, int64_t column) {
  return file + ":" + std::to_string(line) + ":" + std::to_string(column);
}

/// YAML counts lines and columns from 0, people count from 1.
std::string place(const std::string& file, const YAML::Mark& mark) {
  if (mark.is_null()) return file;
  return place(file, mark.line + 1, mark.column + 1);
}

bool is_control(char c) {
  const auto byte = static_cast<unsigned char>(c);
  return (byte < 0x20 && c != '\t' && c != '\n' && c != '\r') || byte == 0x7F;
}

std::string hexadecimal(char c) {
  char text[8];
  std::snprintf(text, sizeof text, "0x%02x", static_cast<unsigned char>(c));
  return text;
}

/// Refuses what is not UTF-8, and control characters, which YAML does not allow: the parser would take one of them for
/// the end of the file.
void check_characters(const std::string& file, const std::string& text) {
  const auto invalid = utf8::find_invalid(text.begin(), text.end());
  const auto bad = std::find_if(text.begin(), invalid, is_control);
  if (bad == text.end()) return;
  const auto line = std::find(std::make_reverse_iterator(bad), text.rend(), '\n').base();
  throw Error(place(file, 1 + std::count(text.begin(), bad, '\n'), 1 + utf8::distance(line, bad)) + ": expected " +
              (bad == invalid ? "UTF-8, got the byte " : "text, got the control character ") + hexadecimal(*bad));
}

std::string quoted(const std::string& text) {
  constexpr std::size_t kShown = 60;
  return "'" + (text.size() > kShown ? text.substr(0, kShown) + "..." : text) + "'";
}

std::string describe(const YAML::Node& node) {
  switch (node.Type()) {
    case YAML::NodeType::Scalar:
      return quoted(node.Scalar());
    case YAML::NodeType::Sequence:
      return node.size() == 0 ? "an empty list" : "a list of " + std::to_string(node.size());
    case YAML::NodeType::Map:
      return "a mapping";
    default:
      return "nothing";
  }
}

template <class T>
bool parse_number(const std::string& text, T& value) {
  const char* end = text.data() + text.size();
  const auto [stop, code] = std::from_chars(text.data(), end, value);
  return code == std::errc{} && stop == end;
}

/// A floating-point number, or YAML's spelling of one that is not finite.
bool parse_double(const std::string& text, double& value) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  const std::pair<const char*, double> special[] = {
      {".nan", std::numeric_limits<double>::quiet_NaN()}, {".inf", kInfinity}, {"-.inf", -kInfinity}};
  for (const auto& [spelling, meaning] : special) {
    if (text == spelling) {
      value = meaning;
      return true;
    }
  }
  return parse_number(text, value) && std::isfinite(value);
}

/// Where the last document of a text begins; ignores what is in it.
class LastDocument : public YAML::EventHandler {
 public:
  YAML::Mark mark = YAML::Mark::null_mark();

  void OnDocumentStart(const YAML::Mark& at) override { mark = at; }
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark&, YAML::anchor_t) override {}
  void OnAlias(const YAML::Mark&, YAML::anchor_t) override {}
  void OnScalar(const YAML::Mark&, const std::string&, YAML::anchor_t, const std::string&) override {}
  void OnSequenceStart(const YAML::Mark&, const std::string&, YAML::anchor_t, YAML::EmitterStyle::value) override {}
  void OnSequenceEnd() override {}
  void OnMapStart(const YAML::Mark&, const std::string&, YAML::anchor_t, YAML::EmitterStyle::value) override {}
  void OnMapEnd() override {}
};

/// Refuses a text of several documents. YAML::LoadAll would find documents for ever in some bad texts, such as
/// "--- a\n--- ,".
void check_documents(const std::string& file, const std::string& text) {
  std::istringstream stream(text);
  YAML::Parser parser(stream);
  LastDocument last;
  if (!parser.HandleNextDocument(last) || !parser.HandleNextDocument(last)) return;
  throw Error(place(file, last.mark) + ": expected one YAML document, got a second one");
}

std::string number(double x) {
  char text[32];
  std::snprintf(text, sizeof text, "%.9g", x);
  return text;
}

}  // namespace

std::string joined(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
  return text;
}

std::string read_text(const std::string& path) {
  std::error_code not_there;
  if (std::filesystem::is_directory(path, not_there)) throw Error(path + ": expected a YAML file, got a directory");
  std::ifstream file(path, std::ios::binary);
  std::string text(kMostBytes + 1, '\0');
  file.read(text.data(), std::ssize(text));
  if (!file.is_open() || file.bad()) throw Error(path + ": expected a YAML file, got one that cannot be read");
  if (file.gcount() > kMostBytes) throw Error(path + ": expected a YAML file of at most 16 MiB, got a longer one");
  text.resize(static_cast<std::size_t>(file.gcount()));
  return text;
}

Field::Field(std::string file, std::string key, const YAML::Node& node, YAML::Mark mark)
    : file_(std::move(file)), key_(std::move(key)), node_(node), mark_(mark) {}

Field Field::parse(const std::string& file, const std::string& text) {
  check_characters(file, text);
  try {
    check_documents(file, text);
    const YAML::Node root = YAML::Load(text);
    const YAML::Mark mark = root.IsNull() ? YAML::Mark::null_mark() : root.Mark();
    return {file, "", root, mark};
  } catch (const YAML::DeepRecursion& error) {
    throw Error(place(file, error.mark) + ": expected lists and mappings that nest less deeply");
  } catch (const YAML::Exception& error) {
    throw Error(place(file, error.mark) + ": expected YAML, got: " + error.msg);
  }
}

void Field::complain(const std::string& sentence) const {
  throw Error(place(file_, mark_) + ": " + (key_.empty() ? "" : key_ + ": ") + sentence);
}

void Field::refuse(const std::string& expected) const { refuse(expected, describe(node_)); }

void Field::refuse(const std::string& expected, const std::string& got) const {
  complain("expected " + expected + ", got " + got);
}

std::vector<Field> Field::entries() const {
  int merges_left = kMostMerges;
  return entries(merges_left);
}

std::vector<Field> Field::entries(int& merges_left) const {
  if (!node_.IsMap()) refuse("a mapping of keys to values");
  std::vector<Field> fields, merged;  // the second holds the value of the merge key, if there is one
  for (const auto& entry : node_) {
    if (!entry.first.IsScalar()) Field(file_, key_, entry.first, entry.first.Mark()).refuse("a key");
    const bool empty = entry.second.IsNull();
    Field field(file_, entry.first.Scalar(), entry.second, empty ? entry.first.Mark() : entry.second.Mark());
    const bool is_merge = entry.first.Tag() != "!" && field.key() == kMergeKey;
    if (is_merge ? !merged.empty() : find(fields, field.key()) != nullptr) {
      Field(file_, field.key(), entry.second, entry.first.Mark()).refuse("each key once", "it a second time");
    }
    (is_merge ? merged : fields).push_back(std::move(field));
  }
  // The mapping's own keys come before those that are merged into it, and earlier mappings before later ones.
  for (const Field& merge : merged) {
    for (const Field& mapping : merge.elements()) {
      if (merges_left-- == 0) refuse("at most " + std::to_string(kMostMerges) + " merges", "more");
      for (Field& field : mapping.entries(merges_left)) {
        if (find(fields, field.key()) == nullptr) fields.push_back(std::move(field));
      }
    }
  }
  return fields;
}

std::vector<Field> Field::elements() const {
  if (!node_.IsSequence()) return {*this};
  if (node_.size() == 0) refuse("at least one value");
  std::vector<Field> fields;
  for (const auto& element : node_)
    fields.emplace_back(file_, key_, element, element.IsNull() ? mark_ : element.Mark());
  return fields;
}

bool Field::is_plain_scalar() const { return node_.IsScalar() && node_.Tag() != "!"; }

void read(const Field& field, int64_t& value, Anything) {
  if (!field.is_plain_scalar() || !parse_number(field.node().Scalar(), value)) field.refuse("an integer");
}

void read(const Field& field, int64_t& value, AtLeast rule) {
  if (!field.is_plain_scalar() || !parse_number(field.node().Scalar(), value) ||
      static_cast<double>(value) < rule.least) {
    field.refuse("an integer of at least " + number(rule.least));
  }
}

void read(const Field& field, double& value, Anything) {
  if (!field.is_plain_scalar() || !parse_double(field.node().Scalar(), value)) field.refuse("a number");
}

void read(const Field& field, double& value, AtLeast rule) {
  if (!field.is_plain_scalar() || !parse_double(field.node().Scalar(), value) || !std::isfinite(value) ||
      value < rule.least) {
    field.refuse("a number of at least " + number(rule.least));
  }
}

void read(const Field& field, bool& value, Anything) {
  const std::string text = field.is_plain_scalar() ? field.node().Scalar() : "";
  if (text != "true" && text != "false" && text != "1" && text != "0") field.refuse("true or false");
  value = text == "true" || text == "1";
}

void read(const Field& field, std::string& value, Anything) {
  if (!field.node().IsScalar()) field.refuse("text");
  value = field.node().Scalar();
  const auto control = std::ranges::find_if(value, is_control);  // escaped in the file
  if (control != value.end()) field.refuse("text", "the control character " + hexadecimal(*control));
}

void read(const Field& field, std::string& value, Identifier) {
  const auto allowed = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-' ||
           c == '.';
  };
  const std::string text = field.node().IsScalar() ? field.node().Scalar() : "";
  if (text.empty() || text[0] == '.' || !std::all_of(text.begin(), text.end(), allowed)) {
    field.refuse("a name of letters, digits, '_', '-' and '.'");
  }
  value = text;
}

void read(const Field& field, std::string& value, TilingName) {
  const std::string text = field.node().IsScalar() ? field.node().Scalar() : "";
  try {
    check_tiling_name(text);
  } catch (const Error&) {
    field.refuse("best, static or a tiling such as q1x4x8_s2x2x1_kv1x1x1_l32_h1_b256");
  }
  value = text;
}

void read(const Field& field, std::string& value, const OneOf& rule) {
  const std::string text = field.node().IsScalar() ? field.node().Scalar() : "";
  if (std::find(rule.names.begin(), rule.names.end(), text) == rule.names.end()) {
    field.refuse("one of " + joined(rule.names));
  }
  value = text;
}

void refuse_unknown(const std::vector<Field>& entries, const std::vector<std::string>& known) {
  for (const Field& entry : entries) {
    if (std::find(known.begin(), known.end(), entry.key()) == known.end()) {
      entry.refuse("one of the keys " + joined(known), "an unknown key");
    }
  }
}

const Field* find(const std::vector<Field>& entries, std::string_view key) {
  const auto it = std::find_if(entries.begin(), entries.end(), [key](const Field& f) { return f.key() == key; });
  return it == entries.end() ? nullptr : &*it;
}

}  // namespace nalab::yaml
