// Case files that are in order, and output files.
#include "store/cases.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <functional>

#include "core/error.h"
#include "store/hdf5.h"
#include "tests/source_folder.h"
#include "tests/store/temporary_folder.h"

namespace nalab::store {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;

const std::string kSmallCases = source_folder() + "/data/cases/cases.h5";
const std::string kBiasCases = source_folder() + "/data/cases/rpb.h5";

TEST(Cases, ReadsEveryCaseOfTheSmallFile) {
  const auto names = case_names(kSmallCases);
  EXPECT_THAT(names, SizeIs(14));
  for (const std::string& name : names) {
    const Case c = read_case(kSmallCases, name);
    EXPECT_EQ(c.name, name);
    EXPECT_THAT(c.problem.violations(), IsEmpty());
    EXPECT_TRUE(c.backward && c.has_expected);
    const bool extra = c.problem.extra_tokens > 0;
    EXPECT_EQ(c.tensors.size(), extra ? 6u : 4u) << name;
    EXPECT_EQ(c.expected.size(), extra ? 7u : 5u) << name;
    EXPECT_EQ(static_cast<int64_t>(c.expected.at("lse").size()),
              c.problem.batch * c.problem.tokens() * c.problem.heads);
  }
}

TEST(Cases, ReadsTheProblemOfACase) {
  const Case c = read_case(kSmallCases, "3d_batch_2_causal_all");
  EXPECT_EQ(c.problem.id(), "5x7x6_w3x4x2_s2x1x2_d1x1x3_c1x1x1_b2_h2_kv1_dk16_dv24_e0_scale0.25_f32");
  EXPECT_THAT(c.tensors.at("q"), SizeIs(2 * 5 * 7 * 6 * 2 * 16));
  EXPECT_THAT(c.tensors.at("v"), SizeIs(2 * 5 * 7 * 6 * 1 * 24));
  const Case extra = read_case(kSmallCases, "1d_extra_kv");
  EXPECT_EQ(extra.problem.extra_tokens, 17);
  EXPECT_THAT(extra.tensors.at("extra_v"), SizeIs(17 * 2 * 32));
}

TEST(Cases, ReadsTheBiasOfACase) {
  EXPECT_THAT(case_names(kBiasCases), ElementsAre("rpb_1d_scale_negative", "rpb_2d_window_is_layout", "rpb_3d_mixed"));
  const Case mixed = read_case(kBiasCases, "rpb_3d_mixed");
  EXPECT_EQ(mixed.problem.id(), "9x8x8_w3x4x3_s2x1x2_d2x2x2_c1x0x0_b1_h2_kv1_dk16_dv16_e3_scale0.25_f32_rpb");
  EXPECT_THAT(mixed.tensors.at("rpb"), SizeIs(2 * 5 * 7 * 5));
  EXPECT_THAT(mixed.expected.at("drpb"), SizeIs(2 * 5 * 7 * 5));
  EXPECT_EQ(read_case_header(kBiasCases, "rpb_3d_mixed").problem, mixed.problem);
  const Case forward = read_case(kBiasCases, "rpb_2d_window_is_layout");
  EXPECT_TRUE(forward.problem.relative_bias && !forward.backward);
  EXPECT_FALSE(forward.expected.contains("drpb")) << "without dout there are no gradients";
}

TEST(Cases, LseOfOneTokenIsItsScore) {
  // One key attended: lse is the scaled score. Ties the order of elements in q, k and lse.
  const Case c = read_case(kSmallCases, "1d_one_token");
  const Problem& p = c.problem;
  ASSERT_EQ(p.tokens(), 1);
  for (int64_t b = 0; b < p.batch; ++b) {
    for (int64_t h = 0; h < p.heads; ++h) {
      double score = 0;
      for (int64_t d = 0; d < p.head_dim; ++d) {
        score += double(c.tensors.at("q")[(b * p.heads + h) * p.head_dim + d]) *
                 c.tensors.at("k")[(b * p.heads_kv + h / (p.heads / p.heads_kv)) * p.head_dim + d];
      }
      EXPECT_NEAR(c.expected.at("lse")[b * p.heads + h], score * p.effective_scale(), 1e-12);
    }
  }
}

TEST(Cases, TheHeaderIsThatOfTheCase) {
  for (const std::string& name : case_names(kSmallCases)) {
    const Case c = read_case(kSmallCases, name);
    const CaseHeader header = read_case_header(kSmallCases, name);
    EXPECT_EQ(header.name, name);
    EXPECT_EQ(header.problem, c.problem);
    EXPECT_EQ(header.backward, c.backward);
    EXPECT_EQ(header.has_expected, c.has_expected);
  }
}

/// A file written with the plain HDF5 API in ways that a case file may be written.
TEST(Cases, ReadsWhatTheFormatLeavesOpen) {
  const TemporaryFolder folder;
  const std::string path = folder.file("c.h5");
  {
    const hdf5::Handle file(H5Fcreate(path.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT), path);
    const hdf5::Handle scalar(H5Screate(H5S_SCALAR), "scalar");
    // The schema as a string of fixed length.
    const hdf5::Handle fixed(H5Tcopy(H5T_C_S1), "string");
    H5Tset_size(fixed, 13);
    H5Tset_strpad(fixed, H5T_STR_NULLPAD);
    const hdf5::Handle schema(H5Acreate2(file, "schema", fixed, scalar, H5P_DEFAULT, H5P_DEFAULT), "schema");
    H5Awrite(schema, fixed, "nalab.cases/1");
    hdf5::write_text(file, "a dataset beside the cases", "ignored");

    const hdf5::Handle group(H5Gcreate2(file, "c", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT), "c");
    hdf5::write_attribute(group, "comment", std::string("ignored"));
    hdf5::write_tensor(group, "unknown", {1}, {1.0f});
    const hsize_t one = 1;
    const hdf5::Handle list(H5Screate_simple(1, &one, nullptr), "list");
    // Integers of several widths and byte orders.
    const std::pair<const char*, hid_t> attributes[] = {
        {"window", H5T_STD_U8LE}, {"stride", H5T_STD_I16BE}, {"dilation", H5T_STD_U64LE}, {"causal", H5T_STD_I32BE}};
    const int64_t values[] = {3, 2, 2, 1};
    for (int i = 0; i < 4; ++i) {
      const hdf5::Handle attribute(
          H5Acreate2(group, attributes[i].first, attributes[i].second, list, H5P_DEFAULT, H5P_DEFAULT), "attribute");
      H5Awrite(attribute, H5T_NATIVE_INT64, &values[i]);
    }
    // Big-endian floats, not chunked; extra tokens of which there are none.
    const hsize_t shape[] = {1, 6, 1, 2};
    const hdf5::Handle space(H5Screate_simple(4, shape, nullptr), "space");
    std::vector<float> data(12);
    for (int i = 0; i < 12; ++i) data[i] = static_cast<float>(i) / 8;
    for (const char* name : {"q", "k", "v"}) {
      const hdf5::Handle dataset(H5Dcreate2(group, name, H5T_IEEE_F32BE, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT),
                                 name);
      H5Dwrite(dataset, H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, data.data());
    }
    hdf5::write_tensor(group, "extra_k", {1, 0, 1, 2}, {});
    hdf5::write_tensor(group, "extra_v", {1, 0, 1, 2}, {});
    const hdf5::Handle expected(H5Gcreate2(group, "expected", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT), "expected");
    hdf5::write_tensor(expected, "out", {1, 6, 1, 2}, data);
    hdf5::write_tensor(expected, "lse", {1, 6, 1}, std::vector<float>(6, 0.5f));  // float32 instead of float64
  }
  EXPECT_THAT(case_names(path), ElementsAre("c"));
  const Case c = read_case(path, "c");
  EXPECT_EQ(c.problem.id(), "6_w3_s2_d2_c1_b1_h1_kv1_dk2_dv2_e0_f32");
  EXPECT_FALSE(c.problem.scale.has_value());
  EXPECT_FLOAT_EQ(c.tensors.at("q")[11], 11.0f / 8);
  EXPECT_THAT(c.tensors, SizeIs(3)) << "without extra tokens there are no tensors of them";
  EXPECT_FALSE(c.backward);
  EXPECT_THAT(c.expected.at("lse"), ElementsAre(0.5, 0.5, 0.5, 0.5, 0.5, 0.5));
}

/// The numbers 0 to 11 over 8, or others that fit in the type, in q, k and v of a case of one axis of 6 tokens.
void write_case(const std::string& path, hid_t type, const std::vector<double>& data,
                const std::function<void(hid_t group)>& write_attributes) {
  const hdf5::Handle file(H5Fcreate(path.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT), path);
  hdf5::write_attribute(file, "schema", std::string(kCasesSchema));
  const hdf5::Handle group = hdf5::create_group(file, "c");
  const hsize_t shape[] = {1, 3, 2, 1, 2};
  const hdf5::Handle space(H5Screate_simple(5, shape, nullptr), "space");
  for (const char* name : {"q", "k", "v"}) {
    const hdf5::Handle dataset(H5Dcreate2(group, name, type, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT), name);
    hdf5::check(H5Dwrite(dataset, H5T_NATIVE_DOUBLE, H5S_ALL, H5S_ALL, H5P_DEFAULT, data.data()), name);
  }
  write_attributes(group);
}

void write_plain_attributes(hid_t group) {
  for (const char* name : {"window", "stride", "dilation"}) hdf5::write_attribute(group, name, int64_t{1});
  hdf5::write_attribute(group, "causal", int64_t{0});
}

/// IEEE half, as NumPy's float16.
hdf5::Handle half() {
  hdf5::Handle type(H5Tcopy(H5T_IEEE_F32LE), "half");
  hdf5::check(H5Tset_fields(type, 15, 10, 5, 0, 10), "half");
  hdf5::check(H5Tset_size(type, 2), "half");
  hdf5::check(H5Tset_ebias(type, 15), "half");
  return type;
}

TEST(Cases, OneIntegerStandsForAllAxesAndScaleMayBeOne) {
  const TemporaryFolder folder;
  const std::string path = folder.file("c.h5");
  write_case(path, H5T_IEEE_F32LE, std::vector<double>(12), [](hid_t group) {
    hdf5::write_attribute(group, "window", int64_t{2});
    hdf5::write_attribute(group, "stride", int64_t{2});
    hdf5::write_attribute(group, "dilation", int64_t{1});
    hdf5::write_attribute(group, "causal", int64_t{1});
    hdf5::write_attribute(group, "scale", int64_t{-3});
  });
  EXPECT_EQ(read_case(path, "c").problem.id(), "3x2_w2x2_s2x2_d1x1_c1x1_b1_h1_kv1_dk2_dv2_e0_scale-3_f32");
}

TEST(Cases, CausalMayBeBoolean) {
  const TemporaryFolder folder;
  const std::string path = folder.file("c.h5");
  // As h5py writes booleans.
  const hdf5::Handle boolean(H5Tenum_create(H5T_STD_I8LE), "boolean");
  const int8_t no = 0, yes = 1;
  H5Tenum_insert(boolean, "FALSE", &no);
  H5Tenum_insert(boolean, "TRUE", &yes);
  for (const bool scalar : {false, true}) {
    write_case(path, H5T_IEEE_F32LE, std::vector<double>(12), [&](hid_t group) {
      write_plain_attributes(group);
      H5Adelete(group, "causal");
      const hsize_t two = 2;
      const hdf5::Handle space(scalar ? H5Screate(H5S_SCALAR) : H5Screate_simple(1, &two, nullptr), "space");
      const hdf5::Handle causal(H5Acreate2(group, "causal", boolean, space, H5P_DEFAULT, H5P_DEFAULT), "causal");
      const int8_t values[] = {1, 0};
      hdf5::check(H5Awrite(causal, boolean, values), "causal");
    });
    const Problem problem = read_case(path, "c").problem;
    EXPECT_TRUE(problem.axes[0].causal);
    EXPECT_EQ(problem.axes[1].causal, scalar);
  }
}

TEST(Cases, TensorsMayHaveHalfOrDoublePrecision) {
  const TemporaryFolder folder;
  const std::string path = folder.file("c.h5");
  // Exact in half precision; the last is its greatest, the one before it subnormal.
  const std::vector<double> data{0, 1, -2, 0.5, 1024, 0.25, 3, -4, 1.5, 7, 0x1p-24, 65504};
  const hdf5::Handle types[] = {half(), {H5Tcopy(H5T_IEEE_F64BE), "double"}};
  for (const hdf5::Handle& type : types) {
    write_case(path, type, data, write_plain_attributes);
    for (const ElementType to : {ElementType::f32, ElementType::f16}) {
      EXPECT_EQ(read_case(path, "c", to).tensors.at("q"), std::vector<float>(data.begin(), data.end()));
      EXPECT_EQ(read_case(path, "c", to).problem.type, to);
    }
  }
}

TEST(Cases, DoublesAreRoundedOnceToTheTypeAtHand) {
  const TemporaryFolder folder;
  const std::string path = folder.file("c.h5");
  // A little more or less than the middle of two numbers of 8 bits, and of 11: less than a float can tell.
  const double bf16_middle = 1 + 0x1p-8, f16_middle = 1 + 0x1p-11, little = 0x1p-40;
  const double f32_greatest = 0x1.fffffep127;
  write_case(path, H5T_IEEE_F64LE,
             {bf16_middle + little, bf16_middle - little, bf16_middle, -bf16_middle - little, f16_middle + little,
              f16_middle - little, 1e-300, -1e-300, NAN, INFINITY, 1e300, f32_greatest * (1 + 0x1p-26)},
             write_plain_attributes);
  const auto read = [&](ElementType type) { return read_case(path, "c", type).tensors.at("q"); };
  const auto expect = [&](ElementType type, const std::vector<float>& expected) {
    const std::vector<float> values = read(type);
    for (std::size_t i = 0; i < expected.size(); ++i) {
      const bool same = std::isnan(expected[i]) ? std::isnan(values[i]) : values[i] == expected[i];
      EXPECT_TRUE(same) << name(type) << ' ' << i << ": " << values[i];
    }
  };
  const float inf = INFINITY, up = 1 + 0x1p-7, half_up = 1 + 0x1p-10;
  expect(ElementType::bf16, {up, 1, 1, -up, 1, 1, 0, 0, NAN, inf, inf, inf});
  expect(ElementType::f16, {float(bf16_middle), float(bf16_middle), float(bf16_middle), float(-bf16_middle), half_up, 1,
                            0, 0, NAN, inf, inf, inf});
  expect(ElementType::f32, {float(bf16_middle), float(bf16_middle), float(bf16_middle), float(-bf16_middle),
                            float(f16_middle), float(f16_middle), 0, 0, NAN, inf, inf, float(f32_greatest)});
}

TEST(Outputs, AppearAtCommit) {
  const TemporaryFolder folder;
  const std::string path = folder.file("out.h5");
  std::ofstream(path) << "from before";
  {
    OutputsFile outputs(path);
    outputs.write({"a", {{"out", {{1, 2, 1, 1}, {1.0f, 2.0f}}}}});
  }
  EXPECT_EQ(folder.count(), 1);
  std::ifstream before(path);
  std::string text;
  std::getline(before, text);
  EXPECT_EQ(text, "from before");

  OutputsFile outputs(path);
  outputs.write({"a", {{"out", {{1, 2, 1, 1}, {1.0f, 2.0f}}}, {"lse", {{1, 2, 1}, {3.0f, INFINITY}}}}});
  outputs.write({"b", {{"dextra_k", {{1, 0, 1, 1}, {}}}}});
  outputs.commit();
  EXPECT_EQ(read_schema(path), kOutputsSchema);
  const hdf5::Handle file = hdf5::open_file(path);
  EXPECT_THAT(hdf5::children(file, H5O_TYPE_GROUP), ElementsAre("a", "b"));
  const hdf5::Handle lse = hdf5::open_dataset(file, "a/lse");
  EXPECT_THAT(hdf5::shape_of(lse), ElementsAre(1, 2, 1));
  EXPECT_THAT(hdf5::read_values<float>(lse), ElementsAre(3.0f, INFINITY));
  EXPECT_THAT(hdf5::shape_of(hdf5::open_dataset(file, "b/dextra_k")), ElementsAre(1, 0, 1, 1));
}

}  // namespace
}  // namespace nalab::store
