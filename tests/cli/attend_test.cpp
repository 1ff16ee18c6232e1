// nalab attend: what it writes, and what it refuses without touching anything.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cmath>
#include <filesystem>
#include <functional>
#include <map>
#include <set>

#include "core/compare.h"
#include "core/kernels/registry.h"
#include "core/simd/isa.h"
#include "core/tensors.h"
#include "store/cases.h"
#include "store/hdf5.h"
#include "tests/cli/run_nalab.h"

namespace nalab {
namespace {

using store::hdf5::children;
using store::hdf5::open_dataset;
using store::hdf5::open_file;
using store::hdf5::open_group;
using store::hdf5::read_values;
using store::hdf5::shape_of;
using testing::ElementsAre;
using testing::HasSubstr;

std::vector<float> output(const std::string& path, const std::string& name, const std::string& tensor) {
  return read_values<float>(open_dataset(open_group(open_file(path), name), tensor));
}

double max_abs(const std::vector<double>& values) {
  double greatest = 0;
  for (double x : values) greatest = std::max(greatest, std::abs(x));
  return greatest;
}

/// How the line that attend ends with counts the variants that it chooses for gradients.
std::string chosen(const std::string& cases) {
  std::map<std::string_view, int> counts;
  for (const std::string& name : store::case_names(cases)) {
    ++counts[best_variant(store::read_case(cases, name).problem, Pass::backward).name];
  }
  std::string line;
  for (const auto& [variant, count] : counts) line += " " + std::to_string(count) + " with " + std::string(variant);
  return line;
}

class AttendVariant : public testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(Attend, AttendVariant, testing::Values("reference", "naive", "gemm", "banded", "fused", ""),
                         [](const auto& test) { return test.param.empty() ? "chosen" : test.param; });

TEST_P(AttendVariant, WritesWhatIsExpected) {
  const TemporaryFolder folder;
  const std::string path = folder.file("out.h5");
  std::vector<std::string> arguments{"attend", kSmallCases, path, "--backward"};
  const std::string& variant = GetParam();
  if (!variant.empty()) arguments.insert(arguments.end(), {"--variant", variant});
  const Outcome run = run_nalab(folder, arguments);
  ASSERT_EQ(run.exit_code, 0) << run.err;
  EXPECT_THAT(run.out, HasSubstr(variant.empty() ? chosen(kSmallCases) : "14 with " + variant));
  EXPECT_EQ(store::read_schema(path), "nalab.outputs/1");
  EXPECT_EQ(children(open_file(path), H5O_TYPE_GROUP), store::case_names(kSmallCases));
  for (const std::string& name : store::case_names(kSmallCases)) {
    const store::Case c = store::read_case(kSmallCases, name);
    const auto file = open_file(path);
    const auto group = open_group(file, name);
    const auto tensors = children(group, H5O_TYPE_DATASET);
    EXPECT_EQ(std::set<std::string>(tensors.begin(), tensors.end()).size(), c.expected.size());
    for (const auto& [tensor, expected] : c.expected) {
      const auto dataset = open_dataset(group, tensor);
      EXPECT_EQ(shape_of(dataset), find_tensor(c.problem, tensor)->extents(c.problem)) << name << ' ' << tensor;
      const TensorKind kind = tensor.front() == 'd' ? TensorKind::gradient : TensorKind::output;
      // 100: more than any score of these cases.
      const auto comparison = compare(read_values<float>(dataset), expected, tolerance(ElementType::f32, kind, 100),
                                      max_abs(c.expected.at("dv")));
      EXPECT_TRUE(comparison.ok) << name << ' ' << tensor << ": " << comparison.to_string();
    }
  }
}

TEST(Attend, BackwardGivesTheSameBytesForEveryThreadCount) {
  for (const char* variant : {"naive", "gemm", "fused"}) {
    const TemporaryFolder folder;
    for (const char* threads : {"1", "3"}) {
      const Outcome run = run_nalab(folder, {"attend", kSmallCases, folder.file(threads), "--backward", "--variant",
                                             variant, "--threads", threads});
      ASSERT_EQ(run.exit_code, 0) << run.err;
    }
    for (const std::string& name : store::case_names(kSmallCases)) {
      for (const char* tensor : {"dq", "dk", "dv"}) {
        EXPECT_EQ(output(folder.file("1"), name, tensor), output(folder.file("3"), name, tensor)) << variant << name;
      }
    }
  }
}

TEST(Attend, TilingDecidesTheBits) {
  const TemporaryFolder folder;
  const auto out = [&](const std::string& file, const std::vector<std::string>& options) {
    std::vector<std::string> arguments{"attend", kSmallCases, folder.file(file), "--cases", "3d_gqa_extra_kv"};
    arguments.insert(arguments.end(), options.begin(), options.end());
    const Outcome run = run_nalab(folder, arguments);
    EXPECT_EQ(run.exit_code, 0) << run.err;
    return output(folder.file(file), "3d_gqa_extra_kv", "out");
  };
  const auto best = out("best", {});
  EXPECT_EQ(out("same", {"--tiling", "best", "--arithmetic", "f32_fma"}), best);
  EXPECT_NE(out("other", {"--tiling", "q1x4x4_s1x1x1_kv1x1x1_l16_h1_b8"}), best);
  EXPECT_EQ(out("static", {"--tiling", "static"}).size(), best.size());
}

TEST(Attend, ForwardAloneWritesNoGradients) {
  const TemporaryFolder folder;
  const std::string path = folder.file("out.h5");
  ASSERT_EQ(run_nalab(folder, {"attend", kSmallCases, path, "--cases", "^1d_extra_kv$"}).exit_code, 0);
  const auto file = open_file(path);
  EXPECT_THAT(children(file, H5O_TYPE_GROUP), ElementsAre("1d_extra_kv"));
  EXPECT_THAT(children(open_group(file, "1d_extra_kv"), H5O_TYPE_DATASET), ElementsAre("lse", "out"));
}

TEST(Attend, RoundsTheInputs) {
  const TemporaryFolder folder;
  const std::string name = "3d_gqa_extra_kv";
  const auto expected = store::read_case(kSmallCases, name).expected.at("out");
  double before = 0;
  for (const auto& [dtype, type] :
       {std::pair{"f32", ElementType::f32}, {"f16", ElementType::f16}, {"bf16", ElementType::bf16}}) {
    const std::string path = folder.file(dtype);
    ASSERT_EQ(run_nalab(folder, {"attend", kSmallCases, path, "--dtype", dtype, "--cases", name}).exit_code, 0);
    const auto comparison =
        compare(output(path, name, "out"), expected, tolerance(type, TensorKind::output), max_abs(expected));
    EXPECT_TRUE(comparison.ok) << comparison.to_string();
    EXPECT_GT(comparison.frobenius, 4 * before) << "coarser types are further from what is expected";
    before = comparison.frobenius;
  }
}

TEST(Attend, SameBytesForEveryThreadCount) {
  const TemporaryFolder folder;
  const Outcome one = run_nalab(folder, {"attend", kSmallCases, folder.file("1"), "--threads", "1"});
  const Outcome three = run_nalab(folder, {"attend", kSmallCases, folder.file("3")}, "NALAB_THREADS=3");
  EXPECT_THAT(one.out, HasSubstr(" 1 threads"));
  EXPECT_THAT(three.out, HasSubstr(" 3 threads"));
  for (const std::string& name : store::case_names(kSmallCases)) {
    EXPECT_EQ(output(folder.file("1"), name, "out"), output(folder.file("3"), name, "out")) << name;
  }
}

TEST(Attend, InstructionSetIsHonoured) {
  const TemporaryFolder folder;
  const std::string path = folder.file("out.h5");
  EXPECT_THAT(run_nalab(folder, {"attend", kSmallCases, path}, "NALAB_ISA=baseline").out, HasSubstr(", baseline,"));
  const std::string best(name(best_isa()));
  EXPECT_THAT(run_nalab(folder, {"attend", kSmallCases, path, "--isa", best}, "NALAB_ISA=baseline").out,
              HasSubstr(", " + best + ","));
  const Outcome unknown = run_nalab(folder, {"attend", kSmallCases, path}, "NALAB_ISA=sse9");
  EXPECT_EQ(unknown.exit_code, 2);
  EXPECT_EQ(unknown.err, "nalab: instruction set 'sse9' is none of baseline, avx2, avx512, avx512bf16, amx\n");
  EXPECT_EQ(run_nalab(folder, {"attend", kSmallCases, path}, "NALAB_ARITHMETIC=f8_fma").err,
            "nalab: arithmetic 'f8_fma' is none of bf16_amx, f32_amx3, bf16_dot, f32_fma, f64_scalar, "
            "bf16_amx_emulated, f32_amx3_emulated, wgmma\n");
}

TEST(Attend, RefusesToOverwriteItsInput) {
  const TemporaryFolder folder;
  const std::string in = folder.file("in.h5");
  std::filesystem::copy_file(kSmallCases, in);
  std::filesystem::create_symlink(in, folder.file("symlink.h5"));
  std::filesystem::create_hard_link(in, folder.file("hardlink.h5"));
  for (const std::string& out : {in, folder.file("symlink.h5"), folder.file("hardlink.h5"), folder.file("./in.h5")}) {
    const Outcome run = run_nalab(folder, {"attend", in, out});
    EXPECT_EQ(run.exit_code, 2);
    EXPECT_EQ(run.err, "nalab: " + out + ": is the input file; the output must be another file\n");
  }
  EXPECT_EQ(bytes_of(in), bytes_of(kSmallCases));
}

/// A case file with good cases and one at the end to be spoilt.
std::string with_last_case(const TemporaryFolder& folder, const std::function<void(hid_t)>& spoil) {
  const std::string path = folder.file("in.h5");
  std::filesystem::copy_file(kSmallCases, path);
  const store::hdf5::Handle file(H5Fopen(path.c_str(), H5F_ACC_RDWR, H5P_DEFAULT), path);
  H5Ocopy(file, "1d_head_dim_odd", file, "zz", H5P_DEFAULT, H5P_DEFAULT);
  spoil(open_group(file, "zz"));
  return path;
}

/// Nothing called out.h5 and more.
void expect_no_temporary(const TemporaryFolder& folder) {
  for (const auto& entry : std::filesystem::directory_iterator(folder.path())) {
    EXPECT_FALSE(entry.path().filename().string().starts_with("out.h5."));
  }
}

/// Refused with that sentence, and OUT is as it was: absent, or with the old bytes.
void expect_refusal(const TemporaryFolder& folder, const std::vector<std::string>& options, const std::string& in,
                    const std::string& sentence) {
  const std::string out = folder.file("out.h5");
  for (const char* before : {"", "from before"}) {
    std::filesystem::remove(out);
    if (*before != '\0') std::ofstream(out) << before;
    std::vector<std::string> arguments{"attend", in, out};
    arguments.insert(arguments.end(), options.begin(), options.end());
    const Outcome run = run_nalab(folder, arguments);
    EXPECT_EQ(run.exit_code, 2);
    EXPECT_EQ(run.err, "nalab: " + sentence + "\n");
    EXPECT_EQ(run.out, "");
    EXPECT_EQ(std::filesystem::exists(out), *before != '\0');
    EXPECT_EQ(bytes_of(out), before);
    expect_no_temporary(folder);
  }
}

TEST(Attend, ABadCaseIsFoundBeforeAnyWork) {
  const TemporaryFolder folder;
  const std::string in = with_last_case(folder, [](hid_t group) {
    H5Adelete(group, "window");
    store::hdf5::write_attribute(group, "window", 7.0);
  });
  expect_refusal(folder, {}, in,
                 in + ": group zz: attribute window is float64, must be an integer per axis, or one for all");
  EXPECT_EQ(run_nalab(folder, {"attend", in, folder.file("out.h5"), "--cases", "^[123]d"}).exit_code, 0)
      << "a bad case that is not asked for does not matter";
}

TEST(Attend, BackwardNeedsDout) {
  const TemporaryFolder folder;
  const std::string in = with_last_case(folder, [](hid_t group) {
    H5Ldelete(group, "dout", H5P_DEFAULT);
    H5Ldelete(group, "expected", H5P_DEFAULT);
  });
  expect_refusal(folder, {"--backward"}, in, in + ": group zz: tensor dout is missing; --backward needs it");
  EXPECT_EQ(run_nalab(folder, {"attend", in, folder.file("out.h5")}).exit_code, 0);
}

TEST(Attend, EveryPlanIsMadeBeforeAnyWork) {
  const TemporaryFolder folder;
  const std::string& in = kSmallCases;
  // The first of the cases has four query heads for a kv head, the second one.
  const std::string tiling = "q1x4x4_s1x1x1_kv1x1x1_l16_h2_b8";
  expect_refusal(folder, {"--tiling", tiling, "--cases", "3d_(gqa|rect)"}, in,
                 in + ": group 3d_rect_even: tiling " + tiling + ": h must divide the 1 query heads of a kv head");
  expect_refusal(folder, {"--variant", "naive", "--tiling", "static", "--cases", "1d_one"}, in,
                 in + ": group 1d_one_token: tiling 'static': variant naive has no tiles");
}

TEST(Attend, BadRequests) {
  const TemporaryFolder folder;
  const std::string& in = kSmallCases;
  const std::string none = folder.file("none.h5");
  expect_refusal(folder, {}, none, none + ": cannot be read: No such file or directory");
  expect_refusal(folder, {"--cases", "four"}, in, in + ": --cases 'four' matches none of 14");
  expect_refusal(folder, {"--cases", "(1d"}, in, "--cases '(1d' is not a regular expression: missing ): (1d");
  expect_refusal(folder, {"--dtype", "f64"}, in, "element type 'f64' is none of f32, bf16, f16");
  expect_refusal(folder, {"--isa", "neon"}, in,
                 "instruction set 'neon' is none of baseline, avx2, avx512, avx512bf16, amx");
  expect_refusal(folder, {"--threads", "0"}, in, "--threads 0 must be from 1 to 1024");
  expect_refusal(folder, {"--variant", "dense", "--cases", "1d_window_1_is_linear"}, in,
                 in + ": group 1d_window_1_is_linear: dense computes self attention only, and a window leaves tokens "
                      "out");
  const Outcome unknown = run_nalab(folder, {"attend", in, folder.file("out.h5"), "--variant", "magic"});
  EXPECT_EQ(unknown.exit_code, 2);
  EXPECT_THAT(unknown.err,
              testing::StartsWith("nalab: variant 'magic' is none of fused, banded, dense, gemm, naive, reference"));
}

TEST(Attend, OutputThatCannotBeWritten) {
  const TemporaryFolder folder;
  const std::string nowhere = folder.file("no/such/folder.h5");
  EXPECT_EQ(run_nalab(folder, {"attend", kSmallCases, nowhere}).err,
            "nalab: " + nowhere + ": cannot be written: No such file or directory\n");
  EXPECT_EQ(run_nalab(folder, {"attend", kSmallCases, folder.path()}).err,
            "nalab: " + folder.path().string() + ": cannot be written: Is a directory\n");
}

// The sanitizers need more address space.
#ifndef NALAB_SANITIZED
TEST(Attend, MoreThreadsThanTheSystemStarts) {
  const TemporaryFolder folder;
  const std::string path = folder.file("out.h5");
  const Outcome run = run_nalab(folder, {"attend", kSmallCases, path, "--threads", "64"}, "ulimit -v 400000;");
  EXPECT_EQ(run.exit_code, 2);
  EXPECT_THAT(run.err, testing::MatchesRegex("nalab: 64 threads cannot be started, only [0-9]+: [^\n]+\n"));
  EXPECT_FALSE(std::filesystem::exists(path));
}
#endif

TEST(Attend, OutputIsNoRegularFile) {
  const TemporaryFolder folder;
  const std::string pipe = folder.file("pipe");
  ASSERT_EQ(mkfifo(pipe.c_str(), 0666), 0);
  EXPECT_EQ(run_nalab(folder, {"attend", kSmallCases, pipe}).err,
            "nalab: " + pipe + ": is not a regular file; refusing to replace it\n");
  EXPECT_TRUE(std::filesystem::is_fifo(pipe));
  EXPECT_EQ(run_nalab(folder, {"attend", pipe, folder.file("out.h5")}).err,
            "nalab: " + pipe + ": is not a regular file, must be an HDF5 file\n");
  EXPECT_EQ(run_nalab(folder, {"attend", kSmallCases, ""}).err, "nalab: the name of the file to write is empty\n");
  EXPECT_EQ(run_nalab(folder, {"attend", "", folder.file("out.h5")}).err,
            "nalab: the name of the file to read is empty\n");
}

TEST(Attend, InputBesideTheOutputSurvives) {
  const TemporaryFolder folder;
  const std::string in = folder.file("out.h5.tmp");
  std::filesystem::copy_file(kSmallCases, in);
  EXPECT_EQ(run_nalab(folder, {"attend", in, folder.file("out.h5"), "--cases", "^1d_causal"}).exit_code, 0);
  EXPECT_EQ(bytes_of(in), bytes_of(kSmallCases));
}

TEST(Attend, FullDisk) {
  const TemporaryFolder folder;
  const std::string out = folder.file("out.h5");
  std::ofstream(out) << "from before";
  const Outcome run = run_nalab(folder, {"attend", kSmallCases, out}, "trap '' XFSZ; ulimit -f 20;");
  EXPECT_EQ(run.exit_code, 2);
  EXPECT_EQ(run.err, "nalab: " + out + ": cannot be written: File too large\n");
  EXPECT_EQ(bytes_of(out), "from before");
  expect_no_temporary(folder);
}

}  // namespace
}  // namespace nalab
