// Problems with a relative positional bias and the operators on weights on the command line: from files and back.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "core/compare.h"
#include "core/tensors.h"
#include "store/cases.h"
#include "store/hdf5.h"
#include "store/results.h"
#include "tests/cli/run_nalab.h"

namespace nalab {
namespace {

using store::hdf5::open_dataset;
using store::hdf5::open_file;
using store::hdf5::open_group;
using store::hdf5::read_values;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

/// The variants that compute a bias in every problem of the small file.
constexpr const char* kVariants[] = {"naive", "gemm", "reference"};

hid_t open_to_change(const std::string& path) { return H5Fopen(path.c_str(), H5F_ACC_RDWR, H5P_DEFAULT); }

TEST(Bias, AttendWritesItsGradient) {
  const TemporaryFolder folder;
  for (const char* variant : kVariants) {
    const std::string path = folder.file("out.h5");
    const Outcome run =
        run_nalab(folder, {"attend", kBiasCases, path, "--backward", "--variant", variant, "--cases", "rpb_(1d|3d)"});
    ASSERT_EQ(run.exit_code, 0) << run.err;
    for (const std::string name : {"rpb_1d_scale_negative", "rpb_3d_mixed"}) {
      const store::Case c = store::read_case(kBiasCases, name);
      const auto file = open_file(path);
      const auto dataset = open_dataset(open_group(file, name), "drpb");
      EXPECT_EQ(store::hdf5::shape_of(dataset), find_tensor(c.problem, "drpb")->extents(c.problem));
      const auto comparison = compare(read_values<float>(dataset), c.expected.at("drpb"),
                                      tolerance(ElementType::f32, TensorKind::gradient), 1);
      EXPECT_TRUE(comparison.ok) << variant << name << comparison.to_string();
    }
  }
}

TEST(Bias, ForwardAloneWritesNoGradient) {
  const TemporaryFolder folder;
  const std::string path = folder.file("out.h5");
  ASSERT_EQ(run_nalab(folder, {"attend", kBiasCases, path, "--variant", "naive"}).exit_code, 0);
  for (const std::string& name : store::case_names(kBiasCases)) {
    const auto file = open_file(path);
    EXPECT_THAT(store::hdf5::children(open_group(file, name), H5O_TYPE_DATASET), testing::ElementsAre("lse", "out"));
  }
  const Outcome backward = run_nalab(folder, {"attend", kBiasCases, path, "--backward"});
  EXPECT_EQ(backward.exit_code, 2);
  EXPECT_EQ(backward.err, "nalab: " + kBiasCases +
                              ": group rpb_2d_window_is_layout: tensor dout is missing; "
                              "--backward needs it\n");
}

TEST(Bias, AChangedTableChangesTheResult) {
  const TemporaryFolder folder;
  const std::string path = folder.file("changed.h5");
  std::filesystem::copy_file(kBiasCases, path);
  {
    const store::hdf5::Handle file(open_to_change(path), path);
    const auto rpb = open_dataset(file, "rpb_3d_mixed/rpb");
    auto values = read_values<float>(rpb);
    values.at(0) += 1;
    H5Dwrite(rpb, H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data());
  }
  for (const char* variant : kVariants) {
    EXPECT_EQ(run_nalab(folder, {"verify", path, "--cases", "3d", "--variant", variant}).exit_code, 1) << variant;
  }
}

TEST(Bias, AMisshapenTableIsRefusedBeforeAnyWork) {
  const TemporaryFolder folder;
  const std::string path = folder.file("bad.h5");
  std::filesystem::copy_file(kBiasCases, path);
  {
    const store::hdf5::Handle file(open_to_change(path), path);
    const auto group = open_group(file, "rpb_3d_mixed");
    H5Ldelete(group, "rpb", H5P_DEFAULT);
    store::hdf5::write_tensor(group, "rpb", {1, 5, 7, 5}, std::vector<float>(175));
  }
  const std::string sentence = "nalab: " + path +
                               ": group rpb_3d_mixed: tensor rpb has shape [1, 5, 7, 5], must be "
                               "[2, 5, 7, 5]: heads, then 2 window - 1 for each axis\n";
  const std::string out = folder.file("out.h5");
  EXPECT_EQ(run_nalab(folder, {"attend", path, out}).err, sentence);
  EXPECT_FALSE(std::filesystem::exists(out));
  EXPECT_EQ(run_nalab(folder, {"verify", path, "--cases", "3d"}).err, sentence);
}

TEST(Bias, CasesAgreeInEveryType) {
  const TemporaryFolder folder;
  for (const char* variant : kVariants) {
    const Outcome run = run_nalab(folder, {"verify", kBiasCases, "--dtype", "all", "--variant", variant});
    EXPECT_EQ(run.exit_code, 0) << run.err << run.out;
    EXPECT_THAT(run.out, HasSubstr("\n9 compared: 9 ok, 0 failed; 0 skipped\n"));
  }
}

TEST(Bias, AWrongGradientOfACaseIsFound) {
  const TemporaryFolder folder;
  const std::string path = folder.file("changed.h5");
  std::filesystem::copy_file(kBiasCases, path);
  {
    const store::hdf5::Handle file(open_to_change(path), path);
    const auto drpb = open_dataset(file, "rpb_3d_mixed/expected/drpb");
    auto values = read_values<double>(drpb);
    values.at(349) += 0.01;
    H5Dwrite(drpb, H5T_NATIVE_DOUBLE, H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data());
  }
  const Outcome run = run_nalab(folder, {"verify", path, "--cases", "3d", "--variant", "naive"});
  EXPECT_EQ(run.exit_code, 1);
  EXPECT_THAT(run.out, AllOf(HasSubstr("FAIL\n  drpb: frobenius "), HasSubstr(", element [1, 4, 6, 4]\n")));
}

/// A configuration of every pass with and without a bias.
class StoredRun : public testing::Test {
 protected:
  StoredRun() {
    std::ofstream(config_)
        << "name: passes\nvariants: [dense, naive, gemm]\nstore: {tensors: all}\ntypes: [f32, bf16]\n"
           "timing: {warmups: 1, min_samples: 1, max_samples: 1, min_seconds: 0, max_seconds: 0.001}\n"
           "runs:\n- passes: forward_backward\n"
           "- {variants: [naive, gemm, reference], passes: [weights, weights_backward, values, values_backward]}\n"
           "grids: [{layout: [[9, 8]], window: [[5, 4]], causal: [[true, false]], heads: 2, head_dim: 8,\n"
           "  extra_tokens: 2, relative_bias: [false, true]}]\n";
  }

  Outcome run() { return run_nalab(folder_, {"run", config_, "-o", path_, "--threads", "2"}); }

  /// The only row whose id ends like this.
  store::FinishedRow row_of(const std::string& end) {
    auto rows = store::read_results(path_).rows;
    std::erase_if(rows, [&](const store::Row& row) { return !row.id.ends_with(end); });
    EXPECT_EQ(rows.size(), 1u) << end;
    return {rows.at(0), store::read_tensors(path_, rows.at(0).id)};
  }

  /// nalab verify of a file that has this row alone.
  Outcome verify(const store::FinishedRow& row) {
    std::filesystem::remove(changed_);
    store::create_results(changed_, {}, {})->append({&row, 1});
    return run_nalab(folder_, {"verify", changed_});
  }

  TemporaryFolder folder_;
  std::string config_ = folder_.file("passes.yaml");
  std::string path_ = folder_.file("passes.h5"), changed_ = folder_.file("changed.h5");
};

TEST_F(StoredRun, IsDoneAndVerifiesAgainAndItsReportKeepsBiasAndPassesApart) {
  const Outcome done = run();
  EXPECT_EQ(done.exit_code, 0) << done.err << done.out;
  // Of each type: forward_backward 3 + 2 rows, weights and its backward 2 * 3 each, values and its backward 3 each.
  EXPECT_THAT(done.out, HasSubstr(": 46 done, 0 failed, 0 refused in "));
  const Outcome verified = run_nalab(folder_, {"verify", path_});
  EXPECT_EQ(verified.exit_code, 0) << verified.out << verified.err;
  EXPECT_THAT(verified.out, AllOf(HasSubstr("\n92 compared: 92 ok, 0 failed; 0 skipped\n"), Not(HasSubstr("FAIL"))));
  EXPECT_EQ(run_nalab(folder_, {"verify", path_, "--isa", "baseline", "--threads", "3"}).exit_code, 0);

  const Outcome report = run_nalab(folder_, {"report", path_, "-o", folder_.file("report")});
  ASSERT_EQ(report.exit_code, 0) << report.err;
  EXPECT_THAT(bytes_of(folder_.file("report/report.md")),
              AllOf(HasSubstr("| bias | type | pass |"), HasSubstr("| yes | f32 | weights |"),
                    HasSubstr("| no | bf16 | values, backward |"), HasSubstr("| yes | f32 | forward + backward |"),
                    Not(HasSubstr("| yes | f32 | values |"))));
}

TEST_F(StoredRun, AVariantOfTheOptionReplacesThoseOfRunsToo) {
  const Outcome dry = run_nalab(folder_, {"run", config_, "--dry-run", "--variants", "gemm,dense"});
  EXPECT_EQ(dry.exit_code, 0) << dry.err;
  EXPECT_THAT(dry.out, AllOf(Not(HasSubstr(".naive.")), Not(HasSubstr(".reference.")), HasSubstr(".gemm.weights "),
                             HasSubstr("_rpb.gemm.forward_backward "), HasSubstr(".dense.forward_backward "),
                             Not(HasSubstr("refused:"))));
  const Outcome dense = run_nalab(folder_, {"run", config_, "--dry-run", "--variants", "dense"});
  EXPECT_THAT(dense.out, AllOf(HasSubstr(".dense.forward_backward "), Not(HasSubstr("weights"))));
}

TEST_F(StoredRun, AWrongOrMissingTensorOfEveryPassIsFound) {
  ASSERT_EQ(run().exit_code, 0);
  const std::pair<const char*, const char*> wrong[] = {{"f32_rpb.naive.forward_backward", "drpb"},
                                                       {"f32_rpb.gemm.weights", "attn"},
                                                       {"f32_rpb.naive.weights_backward", "drpb"},
                                                       {"bf16.gemm.values", "out"},
                                                       {"f32.reference.values_backward", "dattn"}};
  for (const auto& [end, tensor] : wrong) {
    store::FinishedRow row = row_of(end);
    std::ranges::find(row.tensors, tensor, &store::StoredTensor::name)->data.back() += 10;
    const Outcome outcome = verify(row);
    EXPECT_EQ(outcome.exit_code, 1) << end;
    EXPECT_THAT(outcome.out, AllOf(HasSubstr("FAIL\n  " + std::string(tensor) + ": "), HasSubstr("stored, oracle"),
                                   HasSubstr("\n2 compared: 0 ok, 2 failed; 0 skipped\n")));
  }
  const std::pair<const char*, const char*> missing[] = {{"f32_rpb.naive.forward_backward", "rpb"},
                                                         {"f32_rpb.gemm.weights", "rpb"},
                                                         {"f32.gemm.values", "attn"},
                                                         {"f32_rpb.gemm.weights_backward", "dattn"}};
  for (const auto& [end, tensor] : missing) {
    store::FinishedRow row = row_of(end);
    std::erase_if(row.tensors, [&tensor = tensor](const store::StoredTensor& t) { return t.name == tensor; });
    EXPECT_EQ(verify(row).err,
              "nalab: " + changed_ + ": row " + row.row.id + ": tensor " + tensor + " is not stored\n");
  }
}

}  // namespace
}  // namespace nalab
