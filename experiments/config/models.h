// The whole models of a configuration, listed under `models`.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "experiments/model/model.h"
#include "yaml/reader.h"

namespace nalab::config {

/// What one row of a model times: its forward pass, or a step of training: forward, backward and update.
enum class ModelPass : uint8_t { forward, training_step };

}  // namespace nalab::config

namespace nalab::yaml {

template <>
struct Names<config::ModelPass> {
  static constexpr std::array<std::pair<config::ModelPass, const char*>, 2> list{
      {{config::ModelPass::forward, "forward"}, {config::ModelPass::training_step, "training_step"}}};
};

}  // namespace nalab::yaml

namespace nalab::config {

using namespace yaml;
enum class Form : uint8_t;

/// A model as YAML gives it, of any element type.
struct ModelSettings {
  std::string label;  ///< what the model is called in tables; once loaded at least its name
  std::string model;
  std::string definitions;  ///< file with definitions, beside the configuration; empty: those that are compiled in
  ModelPass pass = ModelPass::forward;
  int64_t batch = 1;
  std::optional<int64_t> size;  ///< side of the images; unset: that of the definition
  bool relative_bias = true;
  std::string folder;                           ///< of the configuration; no key
  std::optional<std::string> definitions_text;  ///< what the file has in it, if it can be read; no key

  model::Request request(ElementType type) const;

  template <class Self, class Visitor>
  static void visit_fields(Self& self, Visitor&& visitor) {
    visitor("label", self.label, Anything{});
    visitor("model", self.model, Identifier{});
    visitor("definitions", self.definitions, Anything{});
    visitor("pass", self.pass, Anything{});
    visitor("batch", self.batch, AtLeast{1});
    visitor("size", self.size, AtLeast{1});
    visitor("relative_bias", self.relative_bias, Anything{});
  }
};

/// One entry of `models`: a mapping of the keys of ModelSettings, where `model` may be a list of names, each of which
/// is a model with the other keys, and `quick` with keys that override them. A model that cannot be made is an error,
/// if models are built.
std::vector<ModelSettings> read_models(const Field& entry, Form form, const std::string& folder);

}  // namespace nalab::config
