// A tree of files in the place of /proc and /sys.
#pragma once

#include <filesystem>
#include <fstream>
#include <string>

#include "tests/store/temporary_folder.h"

namespace nalab::environment {

class FakeRoot {
 public:
  std::filesystem::path path() const { return folder_.file(""); }
  void write(const std::string& name, const std::string& text) const {
    const std::filesystem::path file = path() / name;
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file) << text;
  }

 private:
  TemporaryFolder folder_;
};

}  // namespace nalab::environment
