// Matrix products of a warpgroup (wgmma): 64 rows, n columns, 16 deep, f32 sums in registers.
//
// A thread t of the 128 holds of a sum, in sum[4 j + i], the row 16 (t / 32) + (t mod 32) / 4 + 8 (i / 2) and the
// column 8 j + 2 (t mod 4) + i mod 2. An operand A in registers is held alike, two columns a register:
// a[i] has the row ... + 8 (i mod 2) and the columns 8 (i / 2) + 2 (t mod 4) + {0, 1}.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>
#include <type_traits>

namespace nalab::gpu::hopper {

/// Before products: orders them after what the threads have done with their registers.
__device__ inline void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ inline void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int kPending>
__device__ inline void wgmma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
}

/// Describes an operand in shared memory: its place, and the distances that its layout has. The place is in the low
/// word alone, so that moving on is one addition.
struct Operand {
  uint32_t low, high;

  __device__ Operand after(uint32_t bytes) const { return {low + (bytes >> 4), high}; }
  __device__ uint64_t descriptor() const {
    uint64_t both;
    asm("mov.b64 %0, {%1, %2};" : "=l"(both) : "r"(low), "r"(high));
    return both;
  }
};

/// `leading` and `stride` are distances in bytes; which ones, depends on the layout: see the functions below.
__device__ inline Operand operand(uint32_t address, uint32_t leading, uint32_t stride, uint32_t swizzle) {
  return {(address & 0x3FFFF) >> 4 | (leading & 0x3FFFF) >> 4 << 16, stride >> 4 | swizzle << 30};
}

/// Rows of 64 channels (128 bytes, swizzled as TMA does), the channels being the depth: q and k in q k^T. The next 16
/// channels are 32 bytes on.
__device__ inline Operand rows_operand(uint32_t address) { return operand(address, 16, 1024, 1); }
/// The same rows, the rows being the depth: v in p v. Blocks of 64 channels are `block_bytes` apart. The next 16 rows
/// are 2048 bytes on.
__device__ inline Operand columns_operand(uint32_t address, uint32_t block_bytes) {
  return operand(address, block_bytes, 1024, 1);
}
/// Rows of 8 numbers (16 bytes, not swizzled) 16 bytes apart; the second 8 of the depth are `second_bytes` on.
__device__ inline Operand bias_operand(uint32_t address, uint32_t second_bytes) {
  return operand(address, second_bytes, 128, 0);
}

// The registers of an instruction as operands: "%0, %1, ..." and "+f"(s[0]), ... in groups of eight.
#define NALAB_R0 "%0,%1,%2,%3,%4,%5,%6,%7"
#define NALAB_R1 NALAB_R0 ",%8,%9,%10,%11,%12,%13,%14,%15"
#define NALAB_R2 NALAB_R1 ",%16,%17,%18,%19,%20,%21,%22,%23"
#define NALAB_R3 NALAB_R2 ",%24,%25,%26,%27,%28,%29,%30,%31"
#define NALAB_R4 NALAB_R3 ",%32,%33,%34,%35,%36,%37,%38,%39"
#define NALAB_R5 NALAB_R4 ",%40,%41,%42,%43,%44,%45,%46,%47"
#define NALAB_R6 NALAB_R5 ",%48,%49,%50,%51,%52,%53,%54,%55"
#define NALAB_R7 NALAB_R6 ",%56,%57,%58,%59,%60,%61,%62,%63"
#define NALAB_R8 NALAB_R7 ",%64,%65,%66,%67,%68,%69,%70,%71"
#define NALAB_R9 NALAB_R8 ",%72,%73,%74,%75,%76,%77,%78,%79"
#define NALAB_R10 NALAB_R9 ",%80,%81,%82,%83,%84,%85,%86,%87"
#define NALAB_S(g)                                                                                          \
  "+f"(s[8 * (g)]), "+f"(s[8 * (g) + 1]), "+f"(s[8 * (g) + 2]), "+f"(s[8 * (g) + 3]), "+f"(s[8 * (g) + 4]), \
      "+f"(s[8 * (g) + 5]), "+f"(s[8 * (g) + 6]), "+f"(s[8 * (g) + 7])
#define NALAB_S3 NALAB_S(0), NALAB_S(1), NALAB_S(2), NALAB_S(3)
#define NALAB_S5 NALAB_S3, NALAB_S(4), NALAB_S(5)
#define NALAB_S6 NALAB_S5, NALAB_S(6)
#define NALAB_S7 NALAB_S6, NALAB_S(7)
#define NALAB_S8 NALAB_S7, NALAB_S(8)
#define NALAB_S9 NALAB_S8, NALAB_S(9)
#define NALAB_S10 NALAB_S9, NALAB_S(10)

// n columns; last group of registers; numbers of the operands that follow them.
#define NALAB_COLUMN_COUNTS(X)                 \
  X(64, 3, "%32", "%33", "%34", "%35", "%36")  \
  X(96, 5, "%48", "%49", "%50", "%51", "%52")  \
  X(112, 6, "%56", "%57", "%58", "%59", "%60") \
  X(128, 7, "%64", "%65", "%66", "%67", "%68") \
  X(144, 8, "%72", "%73", "%74", "%75", "%76") \
  X(160, 9, "%80", "%81", "%82", "%83", "%84") \
  X(176, 10, "%88", "%89", "%90", "%91", "%92")

#define NALAB_WGMMA(n, groups, type, operands, accumulate, flags, ...)                                    \
  asm volatile("{\n.reg .pred accumulate;\nsetp.ne.b32 accumulate, " accumulate                           \
               ", 0;\nwgmma.mma_async.sync.aligned.m64n" #n "k16.f32." type "." type " {" NALAB_R##groups \
               "}, " operands ", accumulate, " flags ";\n}"                                               \
               : NALAB_S##groups                                                                          \
               : __VA_ARGS__)

/// s = (kAccumulate ? s : 0) + A B^T, both by rows_operand.
template <class Element, int kColumns, bool kAccumulate>
__device__ inline void multiply_rows(float (&s)[kColumns / 2], Operand a, Operand b) {
#define NALAB_CASE(n, groups, x0, x1, x2, x3, x4)                                                          \
  if constexpr (kColumns == n && std::is_same_v<Element, __half>) {                                        \
    NALAB_WGMMA(n, groups, "f16", x0 ", " x1, x2, "1, 1, 0, 0", "l"(a.descriptor()), "l"(b.descriptor()),  \
                "n"(static_cast<int>(kAccumulate)));                                                       \
  } else if constexpr (kColumns == n) {                                                                    \
    NALAB_WGMMA(n, groups, "bf16", x0 ", " x1, x2, "1, 1, 0, 0", "l"(a.descriptor()), "l"(b.descriptor()), \
                "n"(static_cast<int>(kAccumulate)));                                                       \
  }
  NALAB_COLUMN_COUNTS(NALAB_CASE)
#undef NALAB_CASE
}

/// s += A B with A in registers, B by columns_operand.
template <class Element, int kColumns>
__device__ inline void multiply_columns(float (&s)[kColumns / 2], const uint32_t* a, Operand b) {
#define NALAB_CASE(n, groups, x0, x1, x2, x3, x4)                                                              \
  if constexpr (kColumns == n && std::is_same_v<Element, __half>) {                                            \
    NALAB_WGMMA(n, groups, "f16", "{" x0 "," x1 "," x2 "," x3 "}, " x4, "1", "1, 1, 1", "r"(a[0]), "r"(a[1]),  \
                "r"(a[2]), "r"(a[3]), "l"(b.descriptor()));                                                    \
  } else if constexpr (kColumns == n) {                                                                        \
    NALAB_WGMMA(n, groups, "bf16", "{" x0 "," x1 "," x2 "," x3 "}, " x4, "1", "1, 1, 1", "r"(a[0]), "r"(a[1]), \
                "r"(a[2]), "r"(a[3]), "l"(b.descriptor()));                                                    \
  }
  NALAB_COLUMN_COUNTS(NALAB_CASE)
#undef NALAB_CASE
}

/// s = A B^T in bf16 with A in registers, B by bias_operand.
template <int kColumns>
__device__ inline void multiply_bias(float (&s)[kColumns / 2], const uint32_t (&a)[4], Operand b) {
#define NALAB_CASE(n, groups, x0, x1, x2, x3, x4)                                                              \
  if constexpr (kColumns == n) {                                                                               \
    NALAB_WGMMA(n, groups, "bf16", "{" x0 "," x1 "," x2 "," x3 "}, " x4, "0", "1, 1, 0", "r"(a[0]), "r"(a[1]), \
                "r"(a[2]), "r"(a[3]), "l"(b.descriptor()));                                                    \
  }
  NALAB_COLUMN_COUNTS(NALAB_CASE)
#undef NALAB_CASE
}

#undef NALAB_WGMMA
#undef NALAB_COLUMN_COUNTS

}  // namespace nalab::gpu::hopper
