// The variants hopper and hopper_dense on a GPU that is the emulator: what they refuse, choose and compute.
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <span>
#include <string>

#include "core/attention.h"
#include "core/compare.h"
#include "core/gpu/device.h"
#include "core/kernels/reference/reference.h"
#include "core/kernels/registry.h"
#include "tests/core/gpu/emulated_gpu.h"
#include "tests/core/kernels/support.h"
#include "tests/core/support.h"

namespace nalab::gpu {
namespace {

class HopperVariants : public testing::Test {
 protected:
  HopperVariants() {
    gpu_ = {};
    install_backend(gpu_);
    problem_.axes = {{.extent = 9, .window = 5, .stride = 2}, {.extent = 20, .window = 8}};
    problem_.heads = 2;
    problem_.head_dim = 12;
    problem_.head_dim_v = 9;
    problem_.extra_tokens = 3;
    problem_.type = ElementType::bf16;
  }

  static void expect_right(const Problem& problem, std::string_view variant) {
    const nalab::test::Data data(problem, 11);
    Tensor out(ElementType::f32, out_shape(problem)), lse(ElementType::f32, lse_shape(problem));
    Context context(1);
    attention_forward(problem, data.inputs(), {out.view(), lse.view()}, context, {.variant = variant});
    const auto expected = reference::forward(problem, data.inputs());
    const Tolerance bound = tolerance(problem.type, TensorKind::output, expected.max_abs_score);
    const auto values = [](const Tensor& tensor) {
      return std::span(tensor.data<float>(), static_cast<std::size_t>(tensor.elements()));
    };
    EXPECT_TRUE(compare(values(out), std::span(expected.out), bound, 5).ok);
    EXPECT_TRUE(compare(values(lse), std::span(expected.lse), bound, 1).ok);
  }

  static inline test::EmulatedGpu gpu_;
  Problem problem_;
};

TEST_F(HopperVariants, ComputeWhatTheReferenceDoes) {
  expect_right(problem_, "hopper");
  EXPECT_EQ(gpu_.walked_rank, 2);
  expect_right(problem_.self_attention(), "hopper_dense");
  EXPECT_EQ(gpu_.walked_rank, 1) << "tokens in a row";
  expect_right(problem_.self_attention(), "hopper");
}

TEST_F(HopperVariants, RefuseWhatTheyDoNotCompute) {
  for (const char* name : {"hopper", "hopper_dense"}) {
    const Variant& variant = find_variant(name);
    Problem problem = problem_.self_attention();
    EXPECT_EQ(variant.supports(problem, Pass::forward), std::nullopt);
    EXPECT_EQ(variant.supports(problem, Pass::backward), name + std::string(" computes the forward pass only"));
    problem.type = ElementType::f32;
    EXPECT_EQ(variant.supports(problem, Pass::forward), name + std::string(" computes bf16 and f16 only"));
    problem = problem_.self_attention();
    problem.extra_tokens = int64_t{1} << 31;
    EXPECT_EQ(variant.supports(problem, Pass::forward),
              name + std::string(" takes at most 1073741824 tokens, since its plan counts them in 32 bits"));
  }
  EXPECT_EQ(find_variant("hopper").supports(problem_, Pass::forward), std::nullopt);
  EXPECT_EQ(find_variant("hopper_dense").supports(problem_, Pass::forward),
            "hopper_dense computes self attention only, and a window or a causal axis leaves tokens out");
}

TEST_F(HopperVariants, AreNotHereWithoutAGpu) {
  EXPECT_EQ(why_not_here(Device::cuda), std::nullopt);
  EXPECT_TRUE(available(find_arithmetic(kWgmma), Isa::baseline));
  gpu_.present = false;
  EXPECT_EQ(why_not_here(Device::cuda), "needs an sm_90 GPU; none is here");
  EXPECT_FALSE(available(find_arithmetic(kWgmma), Isa::baseline));
  EXPECT_EQ(find_variant("hopper").supports(problem_, Pass::forward), "hopper needs an sm_90 GPU; none is here");
}

TEST_F(HopperVariants, APeakThatNoClockAllowsIsRefused) {
  const auto peak = find_arithmetic(kWgmma).measure_peak;
  Workers workers(1);
  // 4096 FLOP a clock and multiprocessor, at 1 GHz.
  gpu_.peak = {4.0e12, 132 * 4.0e12};
  EXPECT_EQ(peak(Isa::baseline, workers).all_threads, 132 * 4.0e12);
  for (const PeakRate wrong : {PeakRate{4.2e12, 132 * 4.0e12}, PeakRate{4.0e12, 132 * 4.2e12}}) {
    gpu_.peak = wrong;
    EXPECT_EQ(nalab::test::error_of([&] { peak(Isa::baseline, workers); }),
              "the peak of the GPU's tensor cores was measured as more than its clock allows");
  }
}

TEST_F(HopperVariants, AreOnlyChosenByName) {
  for (const Problem& problem : {problem_, problem_.self_attention()}) {
    EXPECT_EQ(best_variant(problem, Pass::forward).device, Device::cpu);
    EXPECT_EQ(best_variant(problem, Pass::forward, true).device, Device::cpu);
  }
  const Plan plan = make_plan(problem_, Pass::forward, {.variant = "hopper"});
  EXPECT_EQ(plan.arithmetic_name(), "wgmma");
  EXPECT_GE(plan.executed_flops(), problem_.useful_flops(Pass::forward));
  EXPECT_EQ(plan.workspace_bytes(4), 0);
}

TEST_F(HopperVariants, PlansHaveTheTilesThatCallsWalk) {
  const Plan plan = make_plan(problem_, Pass::forward, {.variant = "hopper"});
  EXPECT_EQ(plan.tiling_text(), to_string(plan.gpu_tiles().shape()));
  EXPECT_EQ(plan.to_string(), "hopper forward wgmma " + std::string(name(plan.isa())) + " " + plan.tiling_text() +
                                  " of " + problem_.id());
  const nalab::test::Data data(problem_, 11);
  find_variant("hopper").open(plan, data.inputs());
  EXPECT_EQ(gpu_.opened, &plan.gpu_tiles()) << "made once";
  EXPECT_EQ(plan, make_plan(problem_, Pass::forward, {.variant = "hopper"}));
  EXPECT_EQ(make_plan(problem_, Pass::forward, {.variant = "naive"}).tiling_text(), "");
}

TEST_F(HopperVariants, PlansAreForTheGpuThatIsHere) {
  const Problem large{.axes = {{.extent = 64, .window = 32}, {.extent = 64, .window = 32}},
                      .head_dim = 128,
                      .head_dim_v = 128,
                      .type = ElementType::bf16};
  EXPECT_EQ(gpu_limits().multiprocessors, 132);
  gpu_.info.limits = {.multiprocessors = 7, .shared_bytes = 180 * 1024};
  EXPECT_EQ(gpu_limits().multiprocessors, 7);
  EXPECT_LE(shared_bytes(make_tile_plan(large, gpu_limits()).shape(), large), 180 * 1024);
  gpu_.present = false;
  EXPECT_EQ(gpu_limits().multiprocessors, 132) << "an H100's";
}

}  // namespace
}  // namespace nalab::gpu
