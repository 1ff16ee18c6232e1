// Case files with one thing wrong each, and the exact line that each one gets.
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <functional>
#include <limits>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "core/error.h"
#include "store/cases.h"
#include "store/hdf5.h"
#include "store/results.h"
#include "tests/source_folder.h"
#include "tests/store/temporary_folder.h"

namespace nalab::store {
namespace {

using hdf5::Extents;

struct Attribute {
  Extents shape;
  hid_t type;  ///< of the values in the file
  std::vector<double> values;
};

/// A valid two-dimensional case with everything in it, to be broken.
struct Draft {
  struct Tensor {
    Extents shape;
    hid_t type = H5T_IEEE_F32LE;
  };
  std::map<std::string, Tensor> tensors{
      {"q", {{2, 6, 5, 4, 3}}},    {"k", {{2, 6, 5, 2, 3}}},    {"v", {{2, 6, 5, 2, 7}}}, {"extra_k", {{2, 3, 2, 3}}},
      {"extra_v", {{2, 3, 2, 7}}}, {"dout", {{2, 6, 5, 4, 7}}}, {"rpb", {{4, 5, 3}}},
  };
  std::map<std::string, Tensor> expected{
      {"out", {{2, 6, 5, 4, 7}}},   {"lse", {{2, 6, 5, 4}, H5T_IEEE_F64LE}},
      {"dq", {{2, 6, 5, 4, 3}}},    {"dk", {{2, 6, 5, 2, 3}}},
      {"dv", {{2, 6, 5, 2, 7}}},    {"dextra_k", {{2, 3, 2, 3}}},
      {"dextra_v", {{2, 3, 2, 7}}}, {"drpb", {{4, 5, 3}}},
  };
  std::map<std::string, Attribute> attributes{
      {"window", {{2}, H5T_STD_I64LE, {3, 2}}},   {"stride", {{2}, H5T_STD_I64LE, {2, 1}}},
      {"dilation", {{2}, H5T_STD_I64LE, {2, 1}}}, {"causal", {{2}, H5T_STD_I64LE, {1, 0}}},
      {"scale", {{}, H5T_IEEE_F64LE, {0.5}}},
  };
  std::optional<std::string> schema = kCasesSchema;
};

hdf5::Handle space_of(const Extents& shape) {
  const std::vector<hsize_t> size(shape.begin(), shape.end());
  return {size.empty() ? H5Screate(H5S_SCALAR) : H5Screate_simple(static_cast<int>(size.size()), size.data(), nullptr),
          "space"};
}

void write_tensors(hid_t group, const std::map<std::string, Draft::Tensor>& tensors) {
  for (const auto& [name, tensor] : tensors) {
    hdf5::Handle(
        H5Dcreate2(group, name.c_str(), tensor.type, space_of(tensor.shape), H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT),
        name);
  }
}

void write(const std::string& path, const Draft& draft) {
  const hdf5::Handle file(H5Fcreate(path.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT), path);
  if (draft.schema) hdf5::write_attribute(file, "schema", *draft.schema);
  const hdf5::Handle group = hdf5::create_group(file, "c");
  write_tensors(group, draft.tensors);
  if (!draft.expected.empty()) write_tensors(hdf5::create_group(group, "expected"), draft.expected);
  for (const auto& [name, a] : draft.attributes) {
    const hdf5::Handle attribute(H5Acreate2(group, name.c_str(), a.type, space_of(a.shape), H5P_DEFAULT, H5P_DEFAULT),
                                 name);
    hdf5::check(H5Awrite(attribute, H5T_NATIVE_DOUBLE, a.values.data()), name);
  }
}

/// What reading all of a file, or all headers in it, is refused with.
std::string refusal(const std::string& path, bool headers_alone = false) {
  try {
    for (const std::string& name : case_names(path)) {
      headers_alone ? static_cast<void>(read_case_header(path, name)) : static_cast<void>(read_case(path, name));
    }
  } catch (const Error& error) {
    return error.what();
  }
  return "nothing was refused";
}

struct BadCase {
  std::string name;
  std::function<void(Draft&)> breaks;
  std::string line;  ///< what follows "FILE: "
};

void PrintTo(const BadCase& bad, std::ostream* out) { *out << bad.name; }

std::function<void(Draft&)> shape(const std::string& tensor, const Extents& extents) {
  return [=](Draft& d) { d.tensors.at(tensor).shape = extents; };
}
std::function<void(Draft&)> without(const std::string& tensor) {
  return [=](Draft& d) { d.tensors.erase(tensor); };
}
std::function<void(Draft&)> values(const std::string& attribute, const std::vector<double>& v) {
  return [=](Draft& d) { d.attributes.at(attribute).values = v; };
}

const std::vector<BadCase> kBadCases{
    {"no_schema", [](Draft& d) { d.schema.reset(); }, "attribute schema is missing"},
    {"other_schema", [](Draft& d) { d.schema = "nalab.results/1"; },
     "attribute schema is 'nalab.results/1', must be 'nalab.cases/1'"},
    {"no_q", without("q"), "group c: tensor q is missing"},
    {"no_k", without("k"), "group c: tensor k is missing"},
    {"no_v", without("v"), "group c: tensor v is missing"},
    {"q_of_rank_3", shape("q", {2, 6, 5}),
     "group c: tensor q has shape [2, 6, 5], must be [batch, X1, (X2, (X3,)) heads, head_dim]"},
    {"q_of_rank_7", shape("q", {1, 1, 1, 1, 1, 1, 1}),
     "group c: tensor q has shape [1, 1, 1, 1, 1, 1, 1], must be [batch, X1, (X2, (X3,)) heads, head_dim]"},
    {"q_scalar", shape("q", {}), "group c: tensor q has shape [], must be [batch, X1, (X2, (X3,)) heads, head_dim]"},
    {"q_long_double", [](Draft& d) { d.tensors.at("q").type = H5T_NATIVE_LDOUBLE; },
     "group c: tensor q is float128, must be float16, float32 or float64"},
    {"k_int32", [](Draft& d) { d.tensors.at("k").type = H5T_STD_I32LE; },
     "group c: tensor k is int32, must be float16, float32 or float64"},
    {"v_string", [](Draft& d) { d.tensors.at("v").type = H5T_C_S1; },
     "group c: tensor v is string, must be float16, float32 or float64"},
    {"k_of_another_layout", shape("k", {2, 6, 4, 2, 3}),
     "group c: tensor k has shape [2, 6, 4, 2, 3], must be [2, 6, 5, heads_kv, 3]"},
    {"k_of_another_batch", shape("k", {1, 6, 5, 2, 3}),
     "group c: tensor k has shape [1, 6, 5, 2, 3], must be [2, 6, 5, heads_kv, 3]"},
    {"k_of_another_head_dim", shape("k", {2, 6, 5, 2, 4}),
     "group c: tensor k has shape [2, 6, 5, 2, 4], must be [2, 6, 5, heads_kv, 3]"},
    {"k_of_another_rank", shape("k", {2, 30, 2, 3}),
     "group c: tensor k has shape [2, 30, 2, 3], must be [2, 6, 5, heads_kv, 3]"},
    {"v_of_another_layout", shape("v", {2, 5, 6, 2, 7}),
     "group c: tensor v has shape [2, 5, 6, 2, 7], must be [2, 6, 5, 2, head_dim_v]"},
    {"v_of_other_heads", shape("v", {2, 6, 5, 4, 7}),
     "group c: tensor v has shape [2, 6, 5, 4, 7], must be [2, 6, 5, 2, head_dim_v]"},
    {"extra_k_alone", without("extra_v"), "group c: tensor extra_v is missing; it must come with extra_k"},
    {"extra_v_alone", without("extra_k"), "group c: tensor extra_k is missing; it must come with extra_v"},
    {"extra_k_of_another_batch", shape("extra_k", {1, 3, 2, 3}),
     "group c: tensor extra_k has shape [1, 3, 2, 3], must be [2, extra_tokens, 2, 3]"},
    {"extra_v_of_another_length", shape("extra_v", {2, 4, 2, 7}),
     "group c: tensor extra_v has shape [2, 4, 2, 7], must be [2, 3, 2, 7]"},
    {"dout_of_qs_shape", shape("dout", {2, 6, 5, 4, 3}),
     "group c: tensor dout has shape [2, 6, 5, 4, 3], must be [2, 6, 5, 4, 7]"},
    {"rpb_of_kv_heads", shape("rpb", {2, 5, 3}),
     "group c: tensor rpb has shape [2, 5, 3], must be [4, 5, 3]: heads, then 2 window - 1 for each axis"},
    {"rpb_of_the_window", shape("rpb", {4, 3, 2}),
     "group c: tensor rpb has shape [4, 3, 2], must be [4, 5, 3]: heads, then 2 window - 1 for each axis"},
    {"rpb_of_another_order", shape("rpb", {4, 3, 5}),
     "group c: tensor rpb has shape [4, 3, 5], must be [4, 5, 3]: heads, then 2 window - 1 for each axis"},
    {"rpb_in_one", shape("rpb", {4, 15}),
     "group c: tensor rpb has shape [4, 15], must be [4, 5, 3]: heads, then 2 window - 1 for each axis"},
    {"rpb_with_batch", shape("rpb", {2, 4, 5, 3}),
     "group c: tensor rpb has shape [2, 4, 5, 3], must be [4, 5, 3]: heads, then 2 window - 1 for each axis"},
    {"rpb_scalar", shape("rpb", {}),
     "group c: tensor rpb has shape [], must be [4, 5, 3]: heads, then 2 window - 1 for each axis"},
    {"rpb_integers", [](Draft& d) { d.tensors.at("rpb").type = H5T_STD_I32LE; },
     "group c: tensor rpb is int32, must be float16, float32 or float64"},
    {"rpb_of_a_bad_window",
     [](Draft& d) {
       values("window", {3, 6})(d);
       d.tensors.at("rpb").shape = {4, 5, 11};
     },
     "group c: axis 2: window 6 must be at most 5, the layout 5 div the dilation 1"},
    {"no_window", [](Draft& d) { d.attributes.erase("window"); }, "group c: attribute window is missing"},
    {"no_causal", [](Draft& d) { d.attributes.erase("causal"); }, "group c: attribute causal is missing"},
    {"window_too_long",
     [](Draft& d) {
       d.attributes.at("window") = {{3}, H5T_STD_I64LE, {3, 2, 1}};
     },
     "group c: attribute window has shape [3], must be [2] as q has 2 token axes, or a scalar"},
    {"stride_of_one_axis",
     [](Draft& d) {
       d.attributes.at("stride") = {{1}, H5T_STD_I64LE, {1}};
     },
     "group c: attribute stride has shape [1], must be [2] as q has 2 token axes, or a scalar"},
    {"one_stride_for_all_axes_that_one_cannot_have",
     [](Draft& d) {
       d.attributes.at("stride") = {{}, H5T_STD_I64LE, {3}};
     },
     "group c: axis 2: stride 3 must be at most 2, the window"},
    {"window_float", [](Draft& d) { d.attributes.at("window").type = H5T_IEEE_F64LE; },
     "group c: attribute window is float64, must be an integer per axis, or one for all"},
    {"causal_float", [](Draft& d) { d.attributes.at("causal").type = H5T_IEEE_F64LE; },
     "group c: attribute causal is float64, must be an integer or boolean per axis, or one for all"},
    {"causal_2", values("causal", {0, 2}), "group c: axis 2: causal 2 must be 0 or 1"},
    {"window_0", values("window", {3, 0}), "group c: axis 2: window 0 must be at least 1"},
    {"window_negative", values("window", {-7, 2}), "group c: axis 1: window -7 must be at least 1"},
    {"window_above_layout", values("window", {3, 6}),
     "group c: axis 2: window 6 must be at most 5, the layout 5 div the dilation 1"},
    {"dilation_0", values("dilation", {2, 0}), "group c: axis 2: dilation 0 must be at least 1"},
    {"all_violations_at_once",
     [](Draft& d) {
       values("window", {4, 2})(d);
       values("stride", {1, 3})(d);
       values("scale", {INFINITY})(d);
     },
     "group c: axis 1: window 4 must be at most 3, the layout 6 div the dilation 2; axis 2: stride 3 must be at most "
     "2, the window; scale inf must be finite"},
    {"scale_nan", values("scale", {NAN}), "group c: scale nan must be finite"},
    {"scale_list", [](Draft& d) { d.attributes.at("scale").shape = {1}; },
     "group c: attribute scale is float64 of shape [1], must be a scalar number"},
    {"heads_not_divided",
     [](Draft& d) {
       for (const char* tensor : {"q", "dout"}) d.tensors.at(tensor).shape[3] = 5;
     },
     "group c: heads_kv 2 must divide heads 5"},
    {"no_batch",
     [](Draft& d) {
       for (auto& [name, tensor] : d.tensors) {
         if (name != "rpb") tensor.shape[0] = 0;
       }
     },
     "group c: batch 0 must be at least 1"},
    {"axis_without_tokens",
     [](Draft& d) {
       for (const char* tensor : {"q", "k", "v", "dout"}) d.tensors.at(tensor).shape[2] = 0;
     },
     "group c: axis 2: layout 0 must be at least 1"},
    {"head_dim_0",
     [](Draft& d) {
       for (const char* tensor : {"q", "k", "extra_k"}) d.tensors.at(tensor).shape.back() = 0;
     },
     "group c: head_dim 0 must be at least 1"},
    {"expected_out_of_another_shape",
     [](Draft& d) {
       d.expected.at("out").shape = {2, 6, 5, 4, 3};
     },
     "group c: expected: tensor out has shape [2, 6, 5, 4, 3], must be [2, 6, 5, 4, 7]"},
    {"expected_lse_with_dim",
     [](Draft& d) {
       d.expected.at("lse").shape = {2, 6, 5, 4, 1};
     },
     "group c: expected: tensor lse has shape [2, 6, 5, 4, 1], must be [2, 6, 5, 4]"},
    {"expected_without_lse", [](Draft& d) { d.expected.erase("lse"); }, "group c: expected: tensor lse is missing"},
    {"expected_without_dextra_k", [](Draft& d) { d.expected.erase("dextra_k"); },
     "group c: expected: tensor dextra_k is missing"},
    {"expected_without_drpb", [](Draft& d) { d.expected.erase("drpb"); }, "group c: expected: tensor drpb is missing"},
    {"expected_drpb_of_another_shape",
     [](Draft& d) {
       d.expected.at("drpb").shape = {4, 5, 5};
     },
     "group c: expected: tensor drpb has shape [4, 5, 5], must be [4, 5, 3]: heads, then 2 window - 1 for each axis"},
    {"expected_integers", [](Draft& d) { d.expected.at("dq").type = H5T_STD_I64LE; },
     "group c: expected: tensor dq is int64, must be float16, float32 or float64"},
};

class BadCaseFiles : public testing::TestWithParam<BadCase> {};

TEST_P(BadCaseFiles, IsRefusedInOneLine) {
  const TemporaryFolder folder;
  const std::string path = folder.file("bad.h5");
  Draft draft;
  GetParam().breaks(draft);
  write(path, draft);
  EXPECT_EQ(refusal(path), path + ": " + GetParam().line);
  EXPECT_EQ(refusal(path, /*headers_alone=*/true), refusal(path)) << "a header is checked no less";
}

INSTANTIATE_TEST_SUITE_P(Table, BadCaseFiles, testing::ValuesIn(kBadCases),
                         [](const auto& bad) { return bad.param.name; });

TEST(BadFiles, TheDraftItselfIsFine) {
  const TemporaryFolder folder;
  const std::string path = folder.file("good.h5");
  write(path, {});
  EXPECT_EQ(refusal(path), "nothing was refused");
  EXPECT_EQ(read_case(path, "c").expected.size(), 8u);
}

TEST(BadFiles, MissingFile) {
  EXPECT_EQ(refusal("/no/such/file.h5"), "/no/such/file.h5: cannot be read: No such file or directory");
}

TEST(BadFiles, Directory) {
  const TemporaryFolder folder;
  EXPECT_EQ(refusal(folder.path()), folder.path().string() + ": is a directory, must be an HDF5 file");
}

TEST(BadFiles, OtherFormat) {
  const TemporaryFolder folder;
  const std::string path = folder.file("text.h5");
  std::ofstream(path) << "q: 1\n";
  EXPECT_EQ(refusal(path), path + ": is not an HDF5 file");
  std::ofstream(path, std::ios::trunc).close();
  EXPECT_EQ(refusal(path), path + ": is not an HDF5 file");
}

TEST(BadFiles, MissingGroup) {
  const TemporaryFolder folder;
  const std::string path = folder.file("good.h5");
  write(path, {});
  try {
    read_case(path, "d");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(std::string(error.what()), path + ": group d is missing");
  }
}

TEST(BadFiles, SchemaThatIsNoString) {
  const TemporaryFolder folder;
  const std::string path = folder.file("bad.h5");
  {
    const hdf5::Handle file(H5Fcreate(path.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT), path);
    hdf5::write_attribute(file, "schema", int64_t{1});
  }
  EXPECT_EQ(refusal(path), path + ": attribute schema must be one string");
}

TEST(BadFiles, TensorThatIsAGroup) {
  const TemporaryFolder folder;
  const std::string path = folder.file("bad.h5");
  Draft draft;
  draft.tensors.erase("q");
  write(path, draft);
  {
    const hdf5::Handle file(H5Fopen(path.c_str(), H5F_ACC_RDWR, H5P_DEFAULT), path);
    hdf5::create_group(hdf5::open_group(file, "c"), "q");
  }
  EXPECT_EQ(refusal(path), path + ": group c: dataset q: not a dataset");
}

TEST(BadFiles, TensorsBeyondMemory) {
  const TemporaryFolder folder;
  const std::string path = folder.file("bad.h5");
  Draft draft;
  for (const char* tensor : {"q", "k", "v", "dout"}) draft.tensors.at(tensor).shape[1] = int64_t{1} << 30;
  draft.tensors.erase("extra_k");
  draft.tensors.erase("extra_v");
  draft.expected.clear();
  write(path, draft);
  EXPECT_TRUE(refusal(path).starts_with(path + ": group c: its tensors need ")) << refusal(path);
}

/// Cut at any length, a file is refused in one line (or, cut behind its last byte of use, still read).
TEST(BadFiles, TruncatedAnywhere) {
  const TemporaryFolder folder;
  const std::string path = folder.file("cut.h5");
  write(path, {});
  const auto size = std::filesystem::file_size(path);
  for (auto length = size - 1; length > 0; length = length * 3 / 4) {
    std::filesystem::resize_file(path, length);
    const std::string line = refusal(path);
    EXPECT_TRUE(line.starts_with(path + ": ")) << line;
    EXPECT_EQ(line.find('\n'), std::string::npos);
  }
}

TEST(BadFiles, TruncatedNamesTheReason) {
  const TemporaryFolder folder;
  const std::string path = folder.file("cut.h5");
  write(path, {});
  std::filesystem::resize_file(path, 1000);
  EXPECT_TRUE(refusal(path).starts_with(path + ": cannot be opened as an HDF5 file: truncated file")) << refusal(path);
}

/// Bytes overwritten in the midst of the compressed data: the checksum of gzip tells.
TEST(BadFiles, DamagedData) {
  const TemporaryFolder folder;
  const std::string path = folder.file("damaged.h5");
  std::filesystem::copy_file(source_folder() + "/data/cases/cases.h5", path);
  {
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(static_cast<std::streamoff>(std::filesystem::file_size(path) / 2));
    file << std::string(20000, '\x5a');
  }
  const std::string line = refusal(path);
  EXPECT_TRUE(line.starts_with(path + ": group ")) << line;
  EXPECT_EQ(line.find('\n'), std::string::npos);
}

TEST(BadFiles, ResultsOfAnotherSchema) {
  const TemporaryFolder folder;
  const std::string path = folder.file("cases.h5");
  write(path, {});
  try {
    read_results(path);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(std::string(error.what()), path + ": attribute schema is 'nalab.cases/1', must be 'nalab.results/1'");
  }
}

TEST(BadFiles, Hdf5PrintsNothingItself) {
  testing::internal::CaptureStderr();
  const TemporaryFolder folder;
  const std::string path = folder.file("cut.h5");
  write(path, {});
  std::filesystem::resize_file(path, 3000);
  refusal(path);
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
}

}  // namespace
}  // namespace nalab::store
