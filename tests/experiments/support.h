// Shared by the tests of experiments: configurations from text.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "core/error.h"
#include "experiments/config/config.h"

namespace nalab::experiments_test {

/// A file of its own that goes away with the object.
class TemporaryYaml {
 public:
  explicit TemporaryYaml(const std::string& text)
      : path_(testing::TempDir() + "nalab_" + std::to_string(getpid()) + "_" + std::to_string(next_++) + ".yaml") {
    std::ofstream(path_, std::ios::binary) << text;
  }
  ~TemporaryYaml() { std::filesystem::remove(path_); }
  TemporaryYaml(const TemporaryYaml&) = delete;
  TemporaryYaml& operator=(const TemporaryYaml&) = delete;
  const std::string& path() const { return path_; }

 private:
  inline static int next_ = 0;
  std::string path_;
};

inline config::Config load_text(const std::string& text, config::Form form = config::Form::full) {
  return config::load(TemporaryYaml(text).path(), form);
}

/// What load() complains of, with the file called x.yaml; empty where it does not.
inline std::string complaint_of(const std::string& text) {
  const TemporaryYaml file(text);
  try {
    config::load(file.path(), config::Form::full);
  } catch (const Error& error) {
    std::string line = error.what();
    if (const auto at = line.find(file.path()); at != std::string::npos) line.replace(at, file.path().size(), "x.yaml");
    return line;
  }
  return "";
}

}  // namespace nalab::experiments_test
