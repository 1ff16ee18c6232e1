// Case files: problems with inputs and their expected results (schema nalab.cases/1), and output files
// (nalab.outputs/1).
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/problem.h"
#include "store/schema.h"

namespace nalab::store {

/// One case. Tensors are contiguous; their shapes follow from the problem, whose element type is f32.
struct Case {
  std::string name;
  Problem problem;
  std::vector<float> q, k, v;
  std::optional<std::vector<float>> extra_k, extra_v, dout;
  /// By name: out, lse, dq, dk, dv, dextra_k, dextra_v. Empty if the group has no `expected`.
  std::map<std::string, std::vector<double>> expected;
};

/// What a variant computed for a case, by dataset name; float32 in the file.
struct CaseOutputs {
  std::string name;
  struct Dataset {
    std::vector<int64_t> shape;
    std::vector<float> data;
  };
  std::map<std::string, Dataset> datasets;
};

/// Shape of a tensor in a file: q, k, v, extra_k, extra_v, out, lse, dout or a gradient of one of them. Unlike a
/// TokenShape it has no extents of one for axes that the layout lacks, and lse has no dim.
std::vector<int64_t> tensor_extents(const Problem& problem, std::string_view tensor);

/// Names of the case groups, in the file's order. Throws Error as read_case() does.
std::vector<std::string> case_names(const std::string& path);

/// Reads and checks one case. Throws Error in one line "FILE: group NAME: ..." that names the tensor or the axis and
/// parameter, its value and the rule: a missing or misshapen tensor, an attribute of another type or length, an invalid
/// problem, a truncated file.
Case read_case(const std::string& path, const std::string& name);

/// Schema attribute of an HDF5 file ("" if there is none). Throws Error if it is not an HDF5 file.
std::string read_schema(const std::string& path);

/// Writes an output file row by row under a temporary name that becomes `path` at commit(). Nothing is left behind
/// if commit() is not reached.
class OutputsFile {
 public:
  explicit OutputsFile(const std::string& path);
  ~OutputsFile();
  OutputsFile(const OutputsFile&) = delete;
  OutputsFile& operator=(const OutputsFile&) = delete;

  void write(const CaseOutputs& outputs);
  void commit();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace nalab::store
