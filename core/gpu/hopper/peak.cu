// Products and nothing else: the tiles stay in shared memory. A thread block has two warpgroups, as many as compute in
// the forward kernel, with 64 rows each and tiles of columns that they share.
#include "core/gpu/hopper/peak.h"

#include <cuda_runtime.h>

#include <algorithm>

#include "core/gpu/hopper/cuda_error.h"
#include "core/gpu/hopper/device_memory.h"
#include "core/gpu/hopper/ptx.cuh"
#include "core/gpu/hopper/wgmma.cuh"

namespace nalab::gpu::hopper {

namespace {

constexpr int kPeakThreads = 256, kRows = 64, kColumns = 176, kDepth = 64;
constexpr int kTiles = 6;  ///< of columns, so that neighbouring products differ
constexpr uint32_t kRowBytes = kDepth * 2, kColumnsBytes = kColumns * kRowBytes;
constexpr uint32_t kAllRowsBytes = kPeakThreads / 128 * kRows * kRowBytes;
constexpr int kSharedBytes = 1024 + kAllRowsBytes + kTiles * kColumnsBytes;
constexpr double kFlopsOfRound = 2.0 * kPeakThreads / 128 * kRows * kColumns * kDepth * kTiles;

/// Two bf16 with magnitudes from 1 to 2: the bits of their fractions and signs are what counts.
__device__ uint32_t random_pair(uint32_t i) {
  i = (i ^ i >> 16) * 0x7FEB352Du;
  i = (i ^ i >> 15) * 0x846CA68Bu;
  return ((i ^ i >> 16) & 0x807F807Fu) | 0x3F803F80u;
}

/// `sink` is for one number that no sum is in fact: ptxas drops products whose sums are never read, volatile or not.
__global__ void __launch_bounds__(kPeakThreads, 1) multiply(int rounds, float* sink) {
  extern __shared__ uint8_t shared[];
  const uint32_t base = (shared_address(shared) + 1023) / 1024 * 1024;
  const uint32_t skipped = base - shared_address(shared);
  for (uint32_t i = threadIdx.x; i < (kAllRowsBytes + kTiles * kColumnsBytes) / 4; i += kPeakThreads) {
    *reinterpret_cast<uint32_t*>(shared + skipped + 4 * i) = random_pair(i);
  }
  fence_shared_writes();
  __syncthreads();
  const Operand rows = rows_operand(base + threadIdx.x / 128 * kRows * kRowBytes);
  const Operand columns = rows_operand(base + kAllRowsBytes);
  float sum[kColumns / 2] = {};
  for (int round = 0; round < rounds; ++round) {
    wgmma_fence();
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
#pragma unroll
      for (uint32_t bytes = 0; bytes < kRowBytes; bytes += 32) {
        multiply_rows<__nv_bfloat16, kColumns, true>(sum, rows.after(bytes),
                                                     columns.after(tile * kColumnsBytes + bytes));
      }
    }
    wgmma_commit();
    wgmma_wait<0>();
  }
  float all = 0;
  for (const float one : sum) all += one;
  if (all == 0.1f) *sink = all;  // sums of products of bf16 with 7 bits of fraction have few bits behind the point
}

class Event {
 public:
  Event() { throw_on(cudaEventCreate(&event_), "making an event"); }
  ~Event() { cudaEventDestroy(event_); }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  operator cudaEvent_t() const { return event_; }

 private:
  cudaEvent_t event_ = nullptr;
};

/// FLOP/s of so many thread blocks, each on a multiprocessor of its own.
double measure(int blocks) {
  constexpr int kRounds = 10000;  // about 30 ms
  constexpr int kSamples = 10;
  const Event begin, end;
  const DeviceMemory sink = allocate(sizeof(float));
  double best = 0;
  for (int sample = 0; sample < kSamples; ++sample) {
    int rounds = kRounds;
    void* place = sink.get();
    void* arguments[] = {&rounds, &place};
    throw_on(cudaEventRecord(begin), "recording an event");
    throw_on(cudaLaunchKernel(reinterpret_cast<const void*>(multiply), dim3(blocks), dim3(kPeakThreads), arguments,
                              kSharedBytes, nullptr),
             "starting products");
    throw_on(cudaEventRecord(end), "recording an event");
    throw_on(cudaEventSynchronize(end), "multiplying");
    float milliseconds = 0;
    throw_on(cudaEventElapsedTime(&milliseconds, begin, end), "reading a clock");
    best = std::max(best, blocks * kRounds * kFlopsOfRound / (milliseconds * 1e-3));
  }
  return best;
}

}  // namespace

PeakRate measure_peak() {
  int device = 0, multiprocessors = 0;
  throw_on(cudaGetDevice(&device), "finding a device");
  throw_on(cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device),
           "counting multiprocessors");
  throw_on(cudaFuncSetAttribute(multiply, cudaFuncAttributeMaxDynamicSharedMemorySize, kSharedBytes),
           "asking for shared memory");
  return {measure(1), measure(multiprocessors)};
}

}  // namespace nalab::gpu::hopper
