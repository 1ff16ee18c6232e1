// Rows of variants on another device: what is copied, what is timed, what is verified.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <new>
#include <stdexcept>

#include "core/attention.h"
#include "tests/experiments/runner/runner_fixture.h"

namespace nalab::runner_test {
namespace {

using testing::Each;
using testing::StartsWith;

/// What happened to the calls of the device, and what goes wrong there.
struct Doings {
  int opened = 0, calls = 0, downloads = 0, alive = 0;
  bool wrong = false, no_memory = false, refuses = false;
};
Doings doings;

class FakeResident : public Resident {
 public:
  FakeResident(const Plan& plan, const Inputs& inputs)
      : problem_(plan.problem()),
        inputs_(inputs),
        out_(problem_.type, out_shape(problem_)),
        lse_(ElementType::f32, lse_shape(problem_)) {
    ++doings.alive;
  }
  ~FakeResident() override { --doings.alive; }

  double forward() override {
    ++doings.calls;
    script.clock.now += 50;  // on the host
    Context context(1);
    attention_forward(problem_, inputs_, {out_.view(), lse_.view()}, context, {.variant = "naive"});
    if (doings.wrong) out_.data<float>()[0] += 1;
    return 3;
  }
  void download(const Outputs& outputs) override {
    ++doings.downloads;
    std::copy_n(out_.data<float>(), out_.elements(), static_cast<float*>(outputs.out.data));
    std::copy_n(lse_.data<float>(), lse_.elements(), static_cast<float*>(outputs.lse.data));
  }

 private:
  Problem problem_;
  Inputs inputs_;
  Tensor out_, lse_;
};

class DeviceRun : public RunnerTest {
 protected:
  DeviceRun() {
    doings = {};
    settings_.timing = {.warmups = 2, .min_samples = 3, .max_samples = 3, .min_seconds = 0, .max_seconds = 100};
    device_ = fake("device");
    device_.device = Device::cuda;
    device_.forward = nullptr;
    device_.open = [](const Plan& plan, const Inputs& inputs) -> std::unique_ptr<Resident> {
      ++doings.opened;
      if (doings.no_memory) throw std::bad_alloc();
      if (doings.refuses) throw std::runtime_error("CUDA, making an event: unknown error");
      return std::make_unique<FakeResident>(plan, inputs);
    };
  }

  Variant device_;
};

TEST_F(DeviceRun, IsTimedByTheDeviceOnTensorsThatStayThere) {
  const auto got = run({row(device_, RowPass::forward), row(kA, RowPass::forward)});
  const store::Row& there = got.at("device").row;
  EXPECT_EQ(there.status, "done") << there.reason;
  EXPECT_EQ(there.device, "cuda");
  EXPECT_EQ(there.samples.size(), 3u);
  EXPECT_THAT(there.samples, Each(3.0));
  EXPECT_THAT(got.at("a").row.samples, Each(1.0));
  EXPECT_EQ(doings.opened, 1);
  EXPECT_EQ(doings.calls, 2 + 3);
  EXPECT_EQ(doings.downloads, 1) << "to be verified";
  EXPECT_EQ(doings.alive, 0);
}

TEST_F(DeviceRun, AWrongResultThereFails) {
  doings.wrong = true;
  const store::Row failed = run({row(device_, RowPass::forward)}).at("device").row;
  EXPECT_EQ(failed.status, "failed");
  EXPECT_THAT(failed.reason, StartsWith("out: "));
  EXPECT_TRUE(failed.samples.empty());
}

TEST_F(DeviceRun, WhatTheDeviceRefusesFailsItsRowAlone) {
  doings.refuses = true;
  const auto got = run({row(device_, RowPass::forward), row(kA, RowPass::forward)});
  EXPECT_EQ(got.at("device").row.status, "failed");
  EXPECT_EQ(got.at("device").row.reason, "CUDA, making an event: unknown error");
  EXPECT_EQ(got.at("a").row.status, "done");
}

TEST_F(DeviceRun, WhatTheDevicesMemoryIsTooSmallForIsRefusedAlone) {
  doings.no_memory = true;
  const auto got = run({row(device_, RowPass::forward), row(kA, RowPass::forward)});
  EXPECT_EQ(got.at("device").row.status, "refused");
  EXPECT_EQ(got.at("device").row.reason, "not enough memory");
  EXPECT_EQ(got.at("a").row.status, "done");
}

}  // namespace
}  // namespace nalab::runner_test
