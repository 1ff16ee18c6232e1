// Shared by the tests of results files: configurations to create one with, and its bytes.
#pragma once

#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "store/results.h"

namespace nalab::store {

inline const std::vector<StoredConfig> kConfigs{
    {"smoke", "name: smoke\n", "name: smoke\ntypes: [f32]\n", "generic", "dense"}, {"a second", "", "x: 1\n"}};

inline void append(ResultsSink& sink, std::vector<FinishedRow> rows) { sink.append(rows); }

inline std::string bytes_of(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

}  // namespace nalab::store
