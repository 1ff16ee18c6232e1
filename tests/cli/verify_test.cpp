// nalab verify: agrees with what is right, finds what is wrong.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <functional>
#include <limits>
#include <utility>

#include "core/tensors.h"
#include "store/cases.h"
#include "store/hdf5.h"
#include "store/results.h"
#include "tests/cli/run_nalab.h"
#include "tests/source_folder.h"

namespace nalab {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

TEST(VerifyCases, AllVariantsAndTypesAgree) {
  const TemporaryFolder folder;
  const Outcome run = run_nalab(folder, {"verify", kSmallCases, "--dtype", "all"});
  EXPECT_EQ(run.exit_code, 0) << run.err << run.out;
  EXPECT_THAT(run.out, AllOf(HasSubstr(" 0 failed; "), Not(HasSubstr("FAIL"))));
  EXPECT_THAT(run.out, HasSubstr("skipped: dense computes self attention only"));
  EXPECT_THAT(run.out, AllOf(HasSubstr("  f16   new, oracle"), HasSubstr("  bf16  new, oracle")));
}

TEST(VerifyCases, AllIncludesStaticKvTiling) {
  const TemporaryFolder folder;
  const std::vector<std::string> one_case{"verify", kSmallCases, "--cases", "3d_gqa"};
  const auto lines = [&](const std::vector<std::string>& options) {
    std::vector<std::string> arguments = one_case;
    arguments.insert(arguments.end(), options.begin(), options.end());
    return run_nalab(folder, arguments).out;
  };
  EXPECT_THAT(lines({}), HasSubstr("  fused static "));
  EXPECT_THAT(lines({"--tiling", "best"}), Not(HasSubstr(" static ")));
  EXPECT_THAT(lines({"--variant", "fused"}), Not(HasSubstr(" static ")));
  EXPECT_THAT(lines({"--tiling", "static"}),
              AllOf(HasSubstr("skipped: tiling 'static': variant naive has no tiles\n"), HasSubstr(" 0 failed; ")));
}

TEST(VerifyCases, OneVariantOneTypeSomeCases) {
  const TemporaryFolder folder;
  const Outcome run =
      run_nalab(folder, {"verify", kSmallCases, "--variant", "reference", "--cases", "^1d_(causal|ext)"});
  EXPECT_EQ(run.exit_code, 0) << run.err;
  EXPECT_THAT(run.out, HasSubstr("\n2 compared: 2 ok, 0 failed; 0 skipped\n"));
}

/// A copy of the small cases in which one value of one tensor is changed.
std::string with_changed_value(const TemporaryFolder& folder, const std::string& dataset, std::size_t index,
                               const std::function<double(double)>& change) {
  const std::string path = folder.file("changed.h5");
  std::filesystem::copy_file(kSmallCases, path, std::filesystem::copy_options::overwrite_existing);
  const store::hdf5::Handle file(H5Fopen(path.c_str(), H5F_ACC_RDWR, H5P_DEFAULT), path);
  const auto handle = store::hdf5::open_dataset(file, dataset);
  auto values = store::hdf5::read_values<double>(handle);
  values.at(index) = change(values.at(index));
  H5Dwrite(handle, H5T_NATIVE_DOUBLE, H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data());
  return path;
}

TEST(VerifyCases, OneWrongValueIsFoundInEveryTensor) {
  const TemporaryFolder folder;
  for (const std::string tensor : {"out", "lse", "dq", "dk", "dv", "dextra_k", "dextra_v"}) {
    const std::string path = with_changed_value(folder, "3d_gqa_extra_kv/expected/" + tensor, 35,
                                                [](double x) { return x + (x > 0 ? -0.01 : 0.01); });
    const Outcome run = run_nalab(folder, {"verify", path, "--variant", "reference"});
    EXPECT_EQ(run.exit_code, 1) << tensor;
    EXPECT_EQ(run.err, "");
    EXPECT_THAT(run.out, AllOf(HasSubstr("FAIL\n  " + tensor + ": frobenius "), HasSubstr("worst at 35: "),
                               HasSubstr("\n14 compared: 13 ok, 1 failed; 0 skipped\n")));
  }
}

TEST(VerifyCases, TheWorstElementIsNamed) {
  const TemporaryFolder folder;
  // out [1, 6, 8, 8, 4, 16]: 16 * (4 * (8 * (8 * 2 + 3) + 1) + 2) + 5.
  const std::string path = with_changed_value(folder, "3d_gqa_extra_kv/expected/out", 9829, [](double) { return 7; });
  const Outcome run = run_nalab(folder, {"verify", path, "--cases", "3d_gqa", "--variant", "reference"});
  EXPECT_THAT(run.out, AllOf(HasSubstr("worst at 9829: "), HasSubstr(" for 7, element [0, 2, 3, 1, 2, 5]\n")));
}

TEST(VerifyCases, NotANumberIsAMismatch) {
  const TemporaryFolder folder;
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const std::string path = with_changed_value(folder, "1d_one_token/expected/lse", 1, [=](double) { return nan; });
  EXPECT_EQ(run_nalab(folder, {"verify", path, "--variant", "reference"}).exit_code, 1);
}

TEST(VerifyCases, ExpectedOfFloat32IsNotAskedForRoundedInputs) {
  const TemporaryFolder folder;
  const std::string path = with_changed_value(folder, "1d_one_token/expected/out", 0, [](double) { return 7; });
  EXPECT_EQ(run_nalab(folder, {"verify", path, "--dtype", "bf16"}).exit_code, 0);
}

TEST(VerifyCases, WithoutExpectedThereIsNothingToCompare) {
  const TemporaryFolder folder;
  const std::string path = folder.file("inputs.h5");
  std::filesystem::copy_file(kSmallCases, path);
  {
    const store::hdf5::Handle file(H5Fopen(path.c_str(), H5F_ACC_RDWR, H5P_DEFAULT), path);
    H5Ldelete(file, "1d_one_token/expected", H5P_DEFAULT);
  }
  const Outcome some = run_nalab(folder, {"verify", path, "--cases", "^1d_(one|extra)", "--variant", "reference"});
  EXPECT_EQ(some.exit_code, 0) << some.err;
  EXPECT_THAT(some.out, AllOf(HasSubstr("skipped: the group has no expected tensors\n"),
                              HasSubstr("\n1 compared: 1 ok, 0 failed; 1 skipped\n")));
  const Outcome none = run_nalab(folder, {"verify", path, "--cases", "^1d_one"});
  EXPECT_EQ(none.exit_code, 2);
  EXPECT_EQ(none.err, "nalab: " + path + ": nothing was compared, 1 skipped\n");
}

TEST(Verify, BadRequests) {
  const TemporaryFolder folder;
  const std::string out = folder.file("out.h5");
  ASSERT_EQ(run_nalab(folder, {"attend", kSmallCases, out, "--cases", "1d_one"}).exit_code, 0);
  const std::vector<std::pair<std::vector<std::string>, std::string>> table{
      {{"/no/such.h5"}, "/no/such.h5: cannot be read: No such file or directory"},
      {{folder.path().string()}, folder.path().string() + ": is a directory, must be an HDF5 file"},
      {{source_folder() + "/CMakeLists.txt"}, source_folder() + "/CMakeLists.txt: is not an HDF5 file"},
      {{out}, out + ": attribute schema is 'nalab.outputs/1', must be 'nalab.cases/1' or 'nalab.results/1'"},
      {{kSmallCases, "--dtype", "int8"}, "element type 'int8' is none of f32, bf16, f16"},
      {{kSmallCases, "--arithmetic", "f8_fma"},
       "arithmetic 'f8_fma' is none of bf16_amx, f32_amx3, bf16_dot, f32_fma, f64_scalar, bf16_amx_emulated, "
       "f32_amx3_emulated, wgmma"},
      {{kSmallCases, "--tiling", "q1"}, "tiling 'q1' must be written as q1x4x8_s2x2x1_kv1x1x1_l32_h1_b256"},
      {{kSmallCases, "--cases", "["}, "--cases '[' is not a regular expression: missing ]: ["},
      {{kSmallCases, "--cases", "4d"}, kSmallCases + ": --cases '4d' matches none of 14"},
  };
  for (const auto& [options, sentence] : table) {
    std::vector<std::string> arguments{"verify"};
    arguments.insert(arguments.end(), options.begin(), options.end());
    const Outcome run = run_nalab(folder, arguments);
    EXPECT_EQ(run.exit_code, 2) << sentence;
    EXPECT_EQ(run.err, "nalab: " + sentence + "\n");
  }
}

/// A results file with one row, its tensors those of a case.
class VerifyResults : public testing::Test {
 protected:
  VerifyResults() {
    const store::Case c = store::read_case(kSmallCases, "3d_gqa_extra_kv");
    problem_ = c.problem;
    row_.id = "a.reference.forward_backward";
    row_.layout = "6x8x8";
    row_.window = "3x3x3";
    row_.stride = "2x1x2";
    row_.dilation = "2x2x2";
    row_.causal = "0x0x0";
    row_.batch = problem_.batch;
    row_.heads = problem_.heads;
    row_.heads_kv = problem_.heads_kv;
    row_.head_dim = problem_.head_dim;
    row_.head_dim_v = problem_.head_dim_v;
    row_.extra_tokens = problem_.extra_tokens;
    row_.scale = problem_.effective_scale();
    row_.status = "done";
    row_.variant = "reference";
    row_.type = "f32";
    row_.pass = "forward_backward";
    for (const TensorInfo& info : tensors_of(problem_, Pass::backward)) {
      const std::string name(info.name);
      std::vector<float> data;
      if (info.is_result()) {
        data.assign(c.expected.at(name).begin(), c.expected.at(name).end());
      } else {
        data = c.tensors.at(name);
      }
      tensors_.push_back({name, info.extents(problem_), data});
    }
  }

  Outcome verify(const std::vector<store::FinishedRow>& rows, const std::vector<std::string>& options = {}) {
    std::filesystem::remove(path_);
    store::create_results(path_, {}, {})->append(rows);
    std::vector<std::string> arguments{"verify", path_};
    arguments.insert(arguments.end(), options.begin(), options.end());
    return run_nalab(folder_, arguments);
  }

  store::StoredTensor& tensor(const std::string& name) {
    for (store::StoredTensor& t : tensors_) {
      if (t.name == name) return t;
    }
    throw std::out_of_range(name);
  }

  TemporaryFolder folder_;
  std::string path_ = folder_.file("results.h5");
  Problem problem_;
  store::Row row_;
  std::vector<store::StoredTensor> tensors_;
};

TEST_F(VerifyResults, KeptTensorsAgree) {
  store::Row without = row_;
  without.id = "without";
  const Outcome run = verify({{row_, tensors_}, {without, {}}});
  EXPECT_EQ(run.exit_code, 0) << run.err << run.out;
  EXPECT_THAT(run.out, AllOf(HasSubstr("stored, oracle"), HasSubstr("new, stored"),
                             HasSubstr("skipped: its tensors are not stored\n"), HasSubstr("; 1 rows are without"),
                             HasSubstr("\n2 compared: 2 ok, 0 failed; 1 skipped\n")));
}

TEST_F(VerifyResults, AWrongKeptResultIsFound) {
  for (const char* name : {"out", "lse", "dq", "dextra_v"}) {
    float& value = tensor(name).data.at(40);
    const float right = std::exchange(value, value + 0.5f);
    const Outcome run = verify({{row_, tensors_}});
    EXPECT_EQ(run.exit_code, 1) << name;
    EXPECT_THAT(run.out, AllOf(HasSubstr("FAIL\n  " + std::string(name) + ": "), HasSubstr("worst at 40: "),
                               HasSubstr("\n2 compared: 0 ok, 2 failed; 0 skipped\n")));
    value = right;
  }
}

TEST_F(VerifyResults, AChangedInputIsFound) {
  tensor("k").data.at(3) += 1.0f;
  EXPECT_EQ(verify({{row_, tensors_}}).exit_code, 1);
}

TEST_F(VerifyResults, OptionsChooseRows) {
  store::Row other = row_;
  other.id = "b";
  EXPECT_THAT(verify({{row_, tensors_}, {other, tensors_}}, {"--cases", "^b"}).out, HasSubstr("\n2 compared: 2 ok"));
  EXPECT_EQ(verify({{row_, tensors_}}, {"--dtype", "bf16"}).err,
            "nalab: " + path_ + ": nothing was compared, 0 skipped\n");
  EXPECT_EQ(verify({{row_, tensors_}}, {"--variant", "naive"}).exit_code, 2);
}

TEST_F(VerifyResults, AreComputedAgainWithTheStoredTiling) {
  row_.variant = "fused";
  row_.tiling = "q1x4x8_s1x1x1_kv1x1x1_l32_h1_b64";
  row_.backward_tiling = "q2x2x4_s1x1x1_kv1x1x1_l16_h1_b64";
  row_.arithmetic = row_.backward_arithmetic = "f32_fma";
  EXPECT_THAT(verify({{row_, tensors_}}).out, HasSubstr("\n2 compared: 2 ok, 0 failed; 0 skipped\n"));
  row_.tiling = "q1x4x8_s1x1x1_kv1x1x1_l32_h3_b64";
  EXPECT_THAT(verify({{row_, tensors_}}).out,
              AllOf(HasSubstr("skipped: tiling q1x4x8_s1x1x1_kv1x1x1_l32_h3_b64: h must divide the 4 query heads"),
                    HasSubstr("\n1 compared: 1 ok, 0 failed; 1 skipped\n")));
  EXPECT_THAT(verify({{row_, tensors_}}, {"--tiling", "best"}).out, HasSubstr("\n2 compared: 2 ok"))
      << "an option goes before what is stored";
}

TEST_F(VerifyResults, TheFormerStaticVariantIsFused) {
  row_.variant = "fused_static";
  EXPECT_THAT(verify({{row_, tensors_}}, {"--variant", "fused"}).out,
              AllOf(HasSubstr("  fused_static "), HasSubstr("\n2 compared: 2 ok, 0 failed; 0 skipped\n")));
}

TEST_F(VerifyResults, WithoutTensorsThereIsNothingToCompare) {
  const Outcome run = verify({{row_, {}}});
  EXPECT_EQ(run.exit_code, 2);
  EXPECT_EQ(run.err, "nalab: " + path_ +
                         ": no tensors are stored for these rows; a run stores them with store: {tensors: all}\n");
}

TEST_F(VerifyResults, AMissingGroupIsNamedOnce) {
  verify({{row_, tensors_}});
  {
    const store::hdf5::Handle file(H5Fopen(path_.c_str(), H5F_ACC_RDWR, H5P_DEFAULT), path_);
    H5Ldelete(file, "tensors", H5P_DEFAULT);
  }
  EXPECT_EQ(run_nalab(folder_, {"verify", path_}).err, "nalab: " + path_ + ": group tensors is missing\n");
}

TEST_F(VerifyResults, BadRows) {
  const auto expect = [&](const store::Row& row, const std::string& sentence) {
    const Outcome run = verify({{row, tensors_}});
    EXPECT_EQ(run.exit_code, 2);
    EXPECT_EQ(run.err, "nalab: " + path_ + ": row " + row_.id + ": " + sentence + "\n");
  };
  store::Row row = row_;
  row.layout = "6xx8";
  expect(row, "layout '6xx8' must be whole numbers joined by x, such as 30x48x80");
  row = row_;
  row.window = "3x3";
  expect(row, "window '3x3' must have as many numbers as layout '6x8x8'");
  row = row_;
  row.stride = "2x1x4";
  expect(row, "axis 3: stride 4 must be at most 3, the window");
  row = row_;
  row.type = "f8";
  expect(row, "element type 'f8' is none of f32, bf16, f16");
  row = row_;
  row.heads = 2;
  expect(row, "tensor q does not have the shape of its problem");
  tensors_.erase(tensors_.begin() + 1);
  expect(row_, "tensor k is not stored");
}

}  // namespace
}  // namespace nalab
