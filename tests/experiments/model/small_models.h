// Definitions of models that take milliseconds, in a file.
#pragma once

#include <fstream>
#include <string>

namespace nalab::experiments_test {

inline constexpr const char* kSmallModels =
    "models:\n"
    "- {name: tiny, kind: nat, depths: [2, 1], heads: [1, 2], channels: [32, 64], window: 3, dilation: [2, 1],\n"
    "   mlp_ratio: 2, classes: 10, input: 26}\n"
    "- {name: painter, kind: stylenat, depths: [2, 2, 2], heads: [4, 2, 2], channels: [32, 16, 16],\n"
    "   dilation: [1, 1, 2], input: 16, style: 32}\n";

inline std::string write_small_models(const std::string& path) {
  std::ofstream(path) << kSmallModels;
  return path;
}

}  // namespace nalab::experiments_test
