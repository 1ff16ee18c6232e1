// Holds the files of a report against expected ones. With NALAB_UPDATE_GOLDEN set, the expected files are written anew:
// read the difference before keeping it.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "tests/source_folder.h"

namespace nalab::report {

inline std::string read_file(const std::filesystem::path& path) {
  std::ostringstream text;
  text << std::ifstream(path, std::ios::binary).rdbuf();
  return text.str();
}

/// Expects each written file to be byte for byte the one of the same name in `folder` of data/golden. Gives the names.
inline std::vector<std::string> expect_golden(const std::vector<std::string>& written, const std::string& folder) {
  const std::filesystem::path golden = std::filesystem::path(source_folder()) / "data/golden" / folder;
  std::vector<std::string> names;
  for (const std::string& file : written) {
    const std::filesystem::path name = std::filesystem::path(file).filename();
    names.push_back(name.string());
    if (std::getenv("NALAB_UPDATE_GOLDEN") != nullptr) {
      std::filesystem::create_directories(golden);
      std::filesystem::copy_file(file, golden / name, std::filesystem::copy_options::overwrite_existing);
    }
    EXPECT_EQ(read_file(file), read_file(golden / name)) << name;
  }
  return names;
}

}  // namespace nalab::report
