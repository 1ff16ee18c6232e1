// Results files that other programs have open.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <string>

#include "store/cases.h"
#include "store/hdf5.h"
#include "store/results.h"
#include "tests/store/faults.h"
#include "tests/store/results_file.h"
#include "tests/store/sample_rows.h"
#include "tests/store/temporary_folder.h"

namespace nalab::store {
namespace {

using testing::SizeIs;

/// As other programs open HDF5 files, with HDF5's lock.
hdf5::Handle open_with_lock(const std::string& path, unsigned flags) {
  return {H5Fopen(path.c_str(), flags, H5P_DEFAULT), path};
}

/// Whether HDF5's locks are on; by default, or because the environment says so.
class OtherProcesses : public testing::TestWithParam<const char*> {
 protected:
  OtherProcesses() {
    if (*GetParam() != '\0') ::setenv("HDF5_USE_FILE_LOCKING", GetParam(), 1);
    sink_ = create_results(path_, environment(), kConfigs);
    append(*sink_, {{row("a", {1.0}), {{"q", {1}, {2.0f}}}}});
  }

  /// Does it in a process of its own, since HDF5 reads the environment once.
  template <class F>
  void expect_fine(const F& f) {
    const int status = in_child([&] {
      const std::string sentence = refusal(f);
      if (sentence == "nothing was refused") return;
      std::fprintf(stderr, "%s\n", sentence.c_str());
      ::_exit(1);
    });
    EXPECT_EQ(status, 0);
  }

  TemporaryFolder folder_;
  std::string path_ = folder_.file("r.h5");
  std::unique_ptr<ResultsSink> sink_;
};
INSTANTIATE_TEST_SUITE_P(Locks, OtherProcesses, testing::Values("", "TRUE", "BEST_EFFORT"),
                         [](const auto& test) { return *test.param == '\0' ? "default" : test.param; });

TEST_P(OtherProcesses, AReaderDoesNotMatterToARunNorTheRunToTheReader) {
  for (const unsigned flags : {H5F_ACC_RDONLY, H5F_ACC_RDWR}) {
    expect_fine([&] {
      const hdf5::Handle reader = open_with_lock(path_, flags);
      append(*sink_, {{row("b", {1.0}), {}}});
      sink_->append_simulations(std::vector{simulation("s")});
      sink_->finish();
      sink_.reset();
      std::vector<std::string> finished;
      append(*resume_results(path_, environment(), kConfigs, finished), {{row("c", {1.0}), {}}});
      if (read_results(path_).rows.size() != 3) throw Error("rows are missing");
      // What the reader has opened is as it was.
      if (hdf5::length(hdf5::open_dataset(reader, "rows")) != 1) throw Error("the reader's file has changed");
    });
    std::filesystem::remove(path_);
    sink_ = create_results(path_, environment(), kConfigs);
    append(*sink_, {{row("a", {1.0}), {}}});
  }
}

TEST_P(OtherProcesses, AWriterDoesNotMatterToAReader) {
  expect_fine([&] {
    const hdf5::Handle writer = open_with_lock(path_, H5F_ACC_RDWR);
    read_results(path_);
    if (read_tensors(path_, "a").size() != 1) throw Error("tensors are missing");
    read_schema(path_);
  });
}

}  // namespace
}  // namespace nalab::store
