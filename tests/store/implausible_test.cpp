// Files that claim more than they have: refused in one line, and before memory is asked for.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <string>

#include "store/arrays.h"
#include "store/cases.h"
#include "store/hdf5.h"
#include "store/results.h"
#include "tests/store/memory_use.h"
#include "tests/store/results_file.h"
#include "tests/store/sample_rows.h"
#include "tests/store/temporary_folder.h"

namespace nalab::store {
namespace {

using testing::EndsWith;
using testing::HasSubstr;
using testing::StartsWith;

constexpr hsize_t kHuge = hsize_t{1} << 40;

class Implausible : public testing::Test {
 protected:
  Implausible() {
    const auto sink = create_results(path_, environment(), kConfigs);
    append(*sink, {{row("a", {0.5, 0.25}), {{"q", {1}, {2.0f}}}}, {row("b", {0.125}), {}}});
    sink->append_simulations(std::vector{simulation("s")});
  }

  void change(const std::function<void(hid_t file)>& f) {
    const hdf5::Handle file(H5Fopen(path_.c_str(), H5F_ACC_RDWR, H5P_DEFAULT), path_);
    f(file);
  }

  void set_length(const char* list, hsize_t length) {
    change([&](hid_t file) { hdf5::check(H5Dset_extent(hdf5::open_dataset(file, list), &length), list); });
  }

  /// A dataset of an extent, of which nothing is written.
  static void put(hid_t parent, const char* name, hid_t type, hsize_t extent, hsize_t chunk = 0) {
    const hsize_t unlimited = H5S_UNLIMITED;
    const hdf5::Handle space(H5Screate_simple(1, &extent, chunk > 0 ? &unlimited : nullptr), name);
    const hdf5::Handle creation(H5Pcreate(H5P_DATASET_CREATE), name);
    if (chunk > 0) hdf5::check(H5Pset_chunk(creation, 1, &chunk), name);
    hdf5::check(H5Pset_alloc_time(creation, H5D_ALLOC_TIME_INCR), name);
    hdf5::Handle(H5Dcreate2(parent, name, type, space, H5P_DEFAULT, creation, H5P_DEFAULT), name);
  }

  /// What f() is refused with, after the path. Memory stays small.
  std::string refused(const std::function<void()>& f) {
    std::string sentence;
    EXPECT_LT(peak_growth([&] { sentence = refusal(f); }), 64 << 20);
    EXPECT_THAT(sentence, StartsWith(path_ + ": "));
    EXPECT_EQ(sentence.find('\n'), std::string::npos);
    return sentence.substr(path_.size());
  }
  std::string refused_results() {
    return refused([&] { read_results(path_); });
  }

  TemporaryFolder folder_;
  std::string path_ = folder_.file("r.h5");
};

TEST_F(Implausible, SimulationsThatAreNotThere) {
  set_length("simulations", kHuge);
  EXPECT_EQ(refused_results(), ": a row or simulation has no id");
}

TEST_F(Implausible, RowsThatAreNotThere) {
  set_length("rows", kHuge);
  EXPECT_EQ(refused_results(), ": a row or simulation has no id");
}

TEST_F(Implausible, PeaksThatAreNotThere) {
  set_length("environment/peaks", kHuge);
  EXPECT_THAT(refused_results(), HasSubstr(": dataset peaks: peak  is 0.000000 FLOP/s"));
}

TEST_F(Implausible, SamplesPastTheEndByOne) {
  set_length("samples", 2);
  EXPECT_EQ(refused_results(), ": row b has samples from 2, 1 of them, but there are 2");
}

/// Sets an integer field of the only row.
void set_field(const std::string& path, const char* field, int64_t value) {
  const hdf5::Handle file(H5Fopen(path.c_str(), H5F_ACC_RDWR, H5P_DEFAULT), path);
  const hdf5::Handle type(H5Tcreate(H5T_COMPOUND, 8), "field");
  H5Tinsert(type, field, 0, H5T_NATIVE_INT64);
  const int64_t values[] = {value, 0};
  hdf5::check(H5Dwrite(hdf5::open_dataset(file, "rows"), type, H5S_ALL, H5S_ALL, H5P_DEFAULT, values), field);
}

TEST_F(Implausible, SamplesThatAreNotThere) {
  set_length("samples", kHuge);
  set_field(path_, "sample_count", kHuge - 2);
  EXPECT_EQ(refused_results(), ": row a has a sample of 0.000000 s, must be finite and greater than 0");
}

TEST_F(Implausible, SamplesOfTwoRows) {
  // Both rows claim all: many such rows would multiply the file.
  change([](hid_t file) {
    const hdf5::Handle type(H5Tcreate(H5T_COMPOUND, 16), "fields");
    H5Tinsert(type, "first_sample", 0, H5T_NATIVE_INT64);
    H5Tinsert(type, "sample_count", 8, H5T_NATIVE_INT64);
    const int64_t values[] = {0, 3, 0, 3};
    hdf5::check(H5Dwrite(hdf5::open_dataset(file, "rows"), type, H5S_ALL, H5S_ALL, H5P_DEFAULT, values), "rows");
  });
  EXPECT_EQ(refused_results(), ": row b has samples that another row has too");
}

TEST_F(Implausible, TextsLongerThanTheFile) {
  const hdf5::Handle type(H5Tcopy(H5T_C_S1), "text");
  hdf5::check(H5Tset_size(type, std::size_t{1} << 30), "text");
  change([&](hid_t file) {
    H5Ldelete(file, "configs/smoke/text", H5P_DEFAULT);
    put(hdf5::open_group(file, "configs/smoke"), "text", type, 1);
  });
  EXPECT_EQ(refused_results(), ": group configs: dataset text has 1073741824 bytes, more than the file");
}

TEST_F(Implausible, ChunksLargerThanTheirDataset) {
  change([&](hid_t file) {
    H5Ldelete(file, "samples", H5P_DEFAULT);
    put(file, "samples", H5T_NATIVE_DOUBLE, 3, hsize_t{1} << 28);
  });
  EXPECT_EQ(refused_results(), ": dataset samples has chunks of 2147483648 bytes, larger than the dataset");
}

TEST_F(Implausible, TensorsBeyondMemory) {
  change([&](hid_t file) { put(hdf5::open_group(file, "tensors/a"), "k", H5T_IEEE_F32LE, hsize_t{1} << 60, 1024); });
  EXPECT_EQ(refused([&] { read_tensors(path_, "a"); }),
            ": group tensors/a: tensor k: its shape [1152921504606846976] needs more memory than the machine has");
}

TEST_F(Implausible, DataInOtherFiles) {
  change([&](hid_t file) {
    H5Ldelete(file, "samples", H5P_DEFAULT);
    const hsize_t three = 3;
    const hdf5::Handle space(H5Screate_simple(1, &three, nullptr), "samples");
    const hdf5::Handle creation(H5Pcreate(H5P_DATASET_CREATE), "samples");
    H5Pset_external(creation, "/dev/zero", 0, 24);
    hdf5::Handle(H5Dcreate2(file, "samples", H5T_NATIVE_DOUBLE, space, H5P_DEFAULT, creation, H5P_DEFAULT), "samples");
  });
  EXPECT_EQ(refused_results(), ": dataset samples lies in files beside the HDF5 file");
}

TEST_F(Implausible, ArraysBeyondMemory) {
  change([](hid_t file) { put(file, "images", H5T_IEEE_F32LE, hsize_t{1} << 60, 1024); });
  EXPECT_EQ(refused([&] { read_array(path_, "images", 1); }),
            ": dataset images: its shape [1152921504606846976] needs more memory than the machine has");
}

/// Every extent of q of a case, made huge.
TEST_F(Implausible, ExtentsOfCases) {
  path_ = folder_.file("c.h5");
  const std::vector<hsize_t> shape{1, 8, 8, 2, 8};
  for (std::size_t axis = 0; axis < shape.size(); ++axis) {
    for (const hsize_t extent : {hsize_t{1} << 33, hsize_t{1} << 58}) {
      std::vector<hsize_t> huge = shape;
      huge[axis] = extent;
      const hdf5::Handle file(H5Fcreate(path_.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT), path_);
      hdf5::write_attribute(file, "schema", std::string(kCasesSchema));
      const hdf5::Handle group = hdf5::create_group(file, "c");
      for (const char* name : {"window", "stride", "dilation", "causal"}) {
        hdf5::write_attribute(group, name, int64_t{*name == 'c' ? 0 : 1});
      }
      for (const char* name : {"q", "k", "v"}) {
        const std::vector<hsize_t> chunk(5, 1);
        const hdf5::Handle space(H5Screate_simple(5, huge.data(), nullptr), name);
        const hdf5::Handle creation(H5Pcreate(H5P_DATASET_CREATE), name);
        H5Pset_chunk(creation, 5, chunk.data());
        hdf5::Handle(H5Dcreate2(group, name, H5T_IEEE_F32LE, space, H5P_DEFAULT, creation, H5P_DEFAULT), name);
      }
      H5Fflush(file, H5F_SCOPE_LOCAL);
      EXPECT_THAT(refused([&] { read_case(path_, "c"); }), StartsWith(": group c: "));
    }
  }
}

}  // namespace
}  // namespace nalab::store
