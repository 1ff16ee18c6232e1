// Definitions of models: data, in YAML. Those of the papers are in data/models and are compiled in.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "yaml/reader.h"

namespace nalab::models {

enum class Kind : uint8_t {
  nat,        ///< NAT (2204.07143), DiNAT (2209.15001): two convolutions at the start, one between levels
  dinats,     ///< DiNATs: patches at the start, patch merging between levels (Swin's)
  isotropic,  ///< one level on patches of 16 x 16
  stylenat,   ///< generator of StyleNAT (2211.05770)
};

/// A model of the papers, or one of the same kinds.
struct Definition {
  std::string name;
  std::string about;  ///< where it is from; may be empty
  Kind kind = Kind::nat;
  std::vector<int64_t> depths;    ///< layers of each level
  std::vector<int64_t> heads;     ///< of each level
  std::vector<int64_t> channels;  ///< of each level
  int64_t window = 7;
  /// Of each level. In classifiers every second layer has it, from the second on, and the others have 1; in StyleNAT
  /// half of the heads have it. Empty: 1.
  std::vector<int64_t> dilation;
  double mlp_ratio = 4;    ///< hidden channels of an MLP over its channels
  double layer_scale = 0;  ///< initial factor of each branch; 0: none
  int64_t patch = 4;       ///< side of a patch; dinats and isotropic
  int64_t classes = 1000;  ///< of classifiers
  int64_t input = 224;     ///< side of the images that the published figures are of; of StyleNAT's, what it generates
  int64_t style = 512;     ///< channels of latents and styles; stylenat

  bool is_classifier() const { return kind != Kind::stylenat; }

  template <class Self, class Visitor>
  static void visit_fields(Self& self, Visitor&& visitor) {
    using yaml::Anything;
    using yaml::AtLeast;
    visitor("name", self.name, yaml::Identifier{});
    visitor("about", self.about, Anything{});
    visitor("kind", self.kind, Anything{});
    visitor("depths", self.depths, AtLeast{1});
    visitor("heads", self.heads, AtLeast{1});
    visitor("channels", self.channels, AtLeast{1});
    visitor("window", self.window, AtLeast{1});
    visitor("dilation", self.dilation, AtLeast{1});
    visitor("mlp_ratio", self.mlp_ratio, AtLeast{0});
    visitor("layer_scale", self.layer_scale, AtLeast{0});
    visitor("patch", self.patch, AtLeast{1});
    visitor("classes", self.classes, AtLeast{1});
    visitor("input", self.input, AtLeast{1});
    visitor("style", self.style, AtLeast{1});
  }
};

/// The definitions of a YAML text, a list of mappings. Throws Error "FILE:LINE:COLUMN: KEY: ..." if one is wrong.
std::vector<Definition> parse_definitions(const std::string& file, const std::string& text);

/// All models of data/models.
const std::vector<Definition>& definitions();
/// The model of a name, in a list or in that of definitions(). Throws Error that lists the names if there is none.
const Definition& find_definition(const std::vector<Definition>& list, std::string_view name);
const Definition& find_definition(std::string_view name);

}  // namespace nalab::models

template <>
struct nalab::yaml::Names<nalab::models::Kind> {
  static constexpr std::array<std::pair<models::Kind, const char*>, 4> list{{{models::Kind::nat, "nat"},
                                                                             {models::Kind::dinats, "dinats"},
                                                                             {models::Kind::isotropic, "isotropic"},
                                                                             {models::Kind::stylenat, "stylenat"}}};
};
