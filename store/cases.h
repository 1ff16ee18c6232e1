// Case files: problems with inputs and their expected results (schema nalab.cases/1), and output files
// (nalab.outputs/1).
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/problem.h"
#include "store/schema.h"

namespace nalab::store {

/// What a case is about, tensors aside.
struct CaseHeader {
  std::string name;
  Problem problem;            ///< of element type f32 unless the tensors were read as another one
  bool backward = false;      ///< whether there is dout, so that the case has gradients
  bool has_expected = false;  ///< whether the group has `expected`
};

/// One case. Tensors are contiguous, and named and shaped by the list of tensors (core/tensors.h).
struct Case : CaseHeader {
  std::map<std::string, std::vector<float>, std::less<>> tensors;    ///< the inputs, and dout if there is one
  std::map<std::string, std::vector<double>, std::less<>> expected;  ///< results; empty without `expected`
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

/// Names of the case groups, in the file's order. Throws Error as read_case() does.
std::vector<std::string> case_names(const std::string& path);

/// Reads and checks one case. Throws Error in one line "FILE: group NAME: ..." that names the tensor or the axis and
/// parameter, its value and the rule: a missing or misshapen tensor, an attribute of another type or length, an invalid
/// problem, a truncated file. Inputs are rounded to nearest even of the element type, once, whatever the file has.
Case read_case(const std::string& path, const std::string& name, ElementType type = ElementType::f32);
/// Checks a case as read_case() does, without reading its tensors. Throws Error likewise.
CaseHeader read_case_header(const std::string& path, const std::string& name);

/// Schema attribute of an HDF5 file ("" if there is none). Throws Error if it is not an HDF5 file.
std::string read_schema(const std::string& path);

/// Writes an output file case by case. It becomes `path` at commit(); nothing is left behind if that is not reached.
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
