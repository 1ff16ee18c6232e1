// Results files of the same machine, taken together.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "store/schema.h"

namespace nalab::report {

/// A results file as a report names it.
struct File {
  std::string name;  ///< without its folders
  std::string revision, started;
  int64_t done = 0, failed = 0, refused = 0;  ///< rows, models' among them
  int64_t simulations = 0, samples = 0;
};

/// The files of one machine: of the same CPU, instruction sets, the one in use, and threads.
struct Origin {
  std::string machine;  ///< "Example CPU 9000, avx2, 2 threads"
  std::vector<File> files;
  /// Rows and simulations left out because another file has the same of the same configuration: the first file counts,
  /// but a failed row always stands.
  int64_t repeated = 0;
};

struct Folded {
  Origin origin;
  /// All rows and simulations. The environment has the revisions and times of all files, and the highest of their
  /// peaks.
  store::Results results;
};

/// In the order of the files.
std::vector<Folded> fold(const std::vector<store::Results>& files);

}  // namespace nalab::report
