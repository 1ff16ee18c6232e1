// Runs the executable and tells what it did.
#pragma once

#include <sys/wait.h>

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "tests/cli/executable.h"
#include "tests/source_folder.h"
#include "tests/store/temporary_folder.h"

namespace nalab {

inline std::string bytes_of(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

struct Outcome {
  int exit_code;
  std::string out, err;
};

/// `before` stands in front of the command in the shell: variables, limits.
inline Outcome run_nalab(const TemporaryFolder& folder, const std::vector<std::string>& arguments,
                         const std::string& before = "") {
  const std::string out = folder.file("standard output");
  const std::string err = folder.file("standard error");
  std::string command = before + " '" + nalab_executable() + "'";
  for (const std::string& argument : arguments) command += " '" + argument + "'";
  const int status = std::system((command + " >'" + out + "' 2>'" + err + "'").c_str());
  return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, bytes_of(out), bytes_of(err)};
}

inline const std::string kSmallCases = source_folder() + "/data/cases/cases.h5";
/// Cases with a relative positional bias.
inline const std::string kBiasCases = source_folder() + "/data/cases/rpb.h5";

}  // namespace nalab
