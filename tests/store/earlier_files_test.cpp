// Files of earlier builds, which lack fields of today.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <type_traits>
#include <vector>

#include "store/hdf5.h"
#include "store/merge.h"
#include "store/results.h"
#include "tests/source_folder.h"
#include "tests/store/sample_rows.h"
#include "tests/store/temporary_folder.h"

namespace nalab::store {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

hdf5::Handle open_to_change(const std::string& path) {
  return {H5Fopen(path.c_str(), H5F_ACC_RDWR, H5P_DEFAULT), path};
}

/// Puts one row without samples in the place of the file's rows, without the fields named.
void put_row_without(const std::vector<std::string>& names, const Row& full, const std::string& path) {
  const hdf5::Handle file = open_to_change(path);
  // Every field takes eight bytes.
  const hdf5::Handle type(H5Tcreate(H5T_COMPOUND, 1024), "type");
  std::vector<char> bytes(1024);
  std::size_t offset = 0;
  std::vector<std::string> texts;
  texts.reserve(100);
  Row::visit_fields(full, [&](const std::string& name, const auto& field, const char*) {
    using Field = std::decay_t<decltype(field)>;
    if (std::find(names.begin(), names.end(), name) != names.end()) return;
    H5Tinsert(type, name.c_str(), offset, hdf5::value_type<Field>());
    if constexpr (std::is_same_v<Field, std::string>) {
      const char* text = texts.emplace_back(field).c_str();
      std::memcpy(bytes.data() + offset, &text, sizeof text);
    } else {
      const Field value = name == "first_sample" || name == "sample_count" ? 0 : field;
      std::memcpy(bytes.data() + offset, &value, sizeof value);
    }
    offset += 8;
  });
  H5Ldelete(file, "rows", H5P_DEFAULT);
  hdf5::append(hdf5::create_list(file, "rows", type, 4), type, bytes.data(), 1);
}

/// Puts the attributes of earlier builds in the place of the peaks.
void put_attributes_for_peaks(double fma, double dot, const std::string& path) {
  const hdf5::Handle file = open_to_change(path);
  const hdf5::Handle group = hdf5::open_group(file, "environment");
  H5Ldelete(group, "peaks", H5P_DEFAULT);
  hdf5::write_attribute(group, "fma_f32_one_thread", fma / 2);
  hdf5::write_attribute(group, "fma_f32_all_threads", fma);
  hdf5::write_attribute(group, "dot_bf16_one_thread", dot / 2);
  hdf5::write_attribute(group, "dot_bf16_all_threads", dot);
}

class EarlierFiles : public testing::Test {
 protected:
  void SetUp() override { create_results(path_, environment(), {{"smoke", "", ""}}); }
  /// All that the file's reading is refused for, without its name.
  std::string refused() {
    return refusal([&] { read_results(path_); }).substr(path_.size());
  }
  std::vector<std::string> peaks() {
    std::vector<std::string> texts;
    for (const Peak& peak : read_results(path_).environment.peaks) texts.push_back(text_of(peak));
    return texts;
  }

  TemporaryFolder folder_;
  std::string path_ = folder_.file("r.h5");
};

TEST_F(EarlierFiles, FieldsThatTheyLackReadAsNothing) {
  put_row_without({"position", "packing_seconds", "relative_bias"}, row("a"), path_);
  Row expected = row("a");
  expected.first_sample = expected.sample_count = 0;
  expected.position = 0;
  expected.packing_seconds = 0;
  expected.relative_bias = 0;
  EXPECT_EQ(text_of(read_results(path_).rows.at(0)), text_of(expected));
  put_row_without({"status"}, row("a"), path_);
  EXPECT_EQ(refused(), ": dataset rows has no field status");
}

TEST_F(EarlierFiles, ArithmeticsAreInferred) {
  Row old = row("a");
  old.first_sample = old.sample_count = 0;
  old.variant = "fused";
  old.type = "bf16";
  old.isa = "avx512bf16";
  old.pass = "forward_backward";
  Row expected = old;
  expected.arithmetic = "bf16_dot";
  expected.backward_arithmetic = "f32_fma";
  expected.tiling = expected.backward_tiling = "";
  put_row_without({"arithmetic", "tiling", "backward_arithmetic", "backward_tiling"}, old, path_);
  EXPECT_EQ(text_of(read_results(path_).rows.at(0)), text_of(expected));
  // A merge writes them down.
  const std::string merged = folder_.file("merged.h5");
  merge_results({path_}, merged, {});
  EXPECT_EQ(text_of(read_results(merged).rows.at(0)), text_of(expected));
}

TEST_F(EarlierFiles, StoredArithmeticsAreKeptEvenWhereEmpty) {
  Row today = row("a");
  today.first_sample = today.sample_count = 0;
  today.arithmetic = today.backward_arithmetic = "";
  put_row_without({}, today, path_);
  EXPECT_EQ(text_of(read_results(path_).rows.at(0)), text_of(today));
}

TEST_F(EarlierFiles, PeaksAreReadFromAttributes) {
  put_attributes_for_peaks(8, 6, path_);
  EXPECT_THAT(peaks(), ElementsAre(text_of(Peak{"f32_fma", 4, 8}), text_of(Peak{"bf16_dot", 3, 6})));
}

TEST_F(EarlierFiles, PeaksOfZeroWereNotMeasured) {
  put_attributes_for_peaks(8, 0, path_);
  EXPECT_THAT(peaks(), ElementsAre(text_of(Peak{"f32_fma", 4, 8})));
  hdf5::write_attribute(hdf5::open_group(open_to_change(path_), "environment"), "unknown", std::string("is ignored"));
  EXPECT_EQ(peaks().size(), 1u);
}

TEST_F(EarlierFiles, PeaksThatAreMissingAreNamed) {
  H5Ldelete(hdf5::open_group(open_to_change(path_), "environment"), "peaks", H5P_DEFAULT);
  EXPECT_EQ(refused(), ": group environment: dataset peaks is missing");
}

TEST_F(EarlierFiles, AFileOfAnEarlierBuildIsRead) {
  const Results results = read_results(source_folder() + "/data/golden/earlier_results.h5");
  ASSERT_EQ(results.environment.peaks.size(), 2u);
  EXPECT_EQ(results.environment.peaks[0].name, "f32_fma");
  EXPECT_NEAR(results.environment.peaks[0].all_threads, 478.77e9, 0.01e9);
  EXPECT_NEAR(results.environment.peaks[1].one_thread, 119.81e9, 0.01e9);
  ASSERT_FALSE(results.rows.empty());
  for (const Row& r : results.rows) {
    EXPECT_EQ(r.arithmetic, "f32_fma");
    EXPECT_EQ(r.tiling + r.backward_arithmetic + r.backward_tiling, "");
  }
}

TEST(BadPeaks, AreNamed) {
  const auto refused = [](const auto& spoil) {
    const TemporaryFolder folder;
    const std::string path = folder.file("r.h5");
    create_results(path, environment(), {});
    {
      const hdf5::Handle group = hdf5::open_group(open_to_change(path), "environment");
      H5Ldelete(group, "peaks", H5P_DEFAULT);
      spoil(group);
    }
    return refusal([&] { read_results(path); }).substr(path.size());
  };
  EXPECT_EQ(refused([](hid_t group) { hdf5::create_list(group, "peaks", hdf5::value_type<double>(), 4); }),
            ": group environment: dataset peaks must be a compound");
  EXPECT_EQ(refused([](hid_t group) {
              const hdf5::Handle type(H5Tcreate(H5T_COMPOUND, 8), "type");
              H5Tinsert(type, "name", 0, hdf5::value_type<std::string>());
              hdf5::create_list(group, "peaks", type, 4);
            }),
            ": group environment: dataset peaks has no field one_thread");
  for (const double rate : {0.0, -1.0, double{NAN}, double{INFINITY}}) {
    const TemporaryFolder folder;
    const std::string path = folder.file("r.h5");
    Environment machine;
    machine.peaks = {{"fine", 1, 2}, {"f32_fma", 3, rate}};
    create_results(path, machine, {});
    EXPECT_EQ(refusal([&] { read_results(path); }), path + ": group environment: dataset peaks: peak f32_fma is " +
                                                        std::to_string(rate) +
                                                        " FLOP/s, must be finite and greater than 0");
  }
}

TEST(Results, MayHaveNoPeaks) {
  const TemporaryFolder folder;
  create_results(folder.file("r.h5"), {}, {});
  EXPECT_THAT(read_results(folder.file("r.h5")).environment.peaks, IsEmpty());
}

}  // namespace
}  // namespace nalab::store
