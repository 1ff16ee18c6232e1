// The input is a case file, or choices of edits to a good one.
#include "store/cases.h"

#include <cstdint>
#include <fstream>
#include <sstream>
#include <string>

#include "core/tensors.h"
#include "tests/fuzz/hdf5_edits.h"
#include "tests/fuzz/memory_file.h"
#include "tests/fuzz/refusals.h"
#include "tests/source_folder.h"

using namespace nalab;

namespace {

/// Two cases: one that has every tensor, and one that has as few as may be.
std::string good_file() {
  std::ifstream file(source_folder() + "/tests/fuzz/good_cases.h5", std::ios::binary);
  std::ostringstream bytes;
  bytes << file.rdbuf();
  fuzz::require(!bytes.str().empty(), "good_cases.h5 cannot be read");
  return bytes.str();
}

/// A case that was read is what its header says.
void check(const store::Case& c, const store::CaseHeader& header) {
  fuzz::require(c.problem == header.problem && c.backward == header.backward, "the header is of another case");
  for (const TensorInfo& info : tensors_of(c.problem, c.backward ? Pass::backward : Pass::forward)) {
    if (info.is_result() && !c.has_expected) continue;
    const std::string name(info.name);
    const size_t elements = info.is_result() ? c.expected.at(name).size() : c.tensors.at(name).size();
    int64_t product = 1;
    for (const int64_t extent : info.extents(c.problem)) product *= extent;
    fuzz::require(static_cast<int64_t>(elements) == product, "a tensor of another size: " + name);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const std::string good = good_file();
  std::string bytes(reinterpret_cast<const char*>(data), size);
  if (!fuzz::is_hdf5_file(data, size)) {
    FuzzedDataProvider choices(data, size);
    bytes = fuzz::edited(good, choices);
  }
  const fuzz::MemoryFile file(bytes);
  fuzz::allow_refusal([&] { store::read_schema(file.path()); });
  fuzz::allow_refusal([&] {
    for (const std::string& name : store::case_names(file.path())) {
      fuzz::allow_refusal([&] {
        const store::CaseHeader header = store::read_case_header(file.path(), name);
        fuzz::allow_refusal([&] { check(store::read_case(file.path(), name), header); });
      });
    }
  });
  return 0;
}
