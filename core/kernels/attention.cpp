#include "core/kernels/attention.h"

#include "core/error.h"
#include "core/kernels/registry.h"
#include "core/tensor/buffer.h"
#include "core/tensor/check.h"

namespace nalab {

namespace {

std::array<int64_t, 3> layout3(const Problem& problem) {
  const auto axes = problem.axes3();
  return {axes[0].extent, axes[1].extent, axes[2].extent};
}

void check_inputs(const Problem& problem, const Inputs& in) {
  check_input("q", in.q, q_shape(problem), problem.type);
  check_input("k", in.k, k_shape(problem), problem.type);
  check_input("v", in.v, v_shape(problem), problem.type);
  if (problem.extra_tokens > 0) {
    check_input("extra_k", in.extra_k, extra_k_shape(problem), problem.type);
    check_input("extra_v", in.extra_v, extra_v_shape(problem), problem.type);
  }
}

/// The variant, after all that may be refused has been looked at.
const Variant& checked_variant(std::string_view name, const Problem& problem, Pass pass, Isa isa) {
  problem.validate();
  if (!cpu_supports(isa)) throw Error("this CPU lacks the instruction set " + std::string(nalab::name(isa)));
  const Variant& variant = find_variant(name);
  if (const auto reason = variant.supports(problem, pass)) throw Error(*reason);
  return variant;
}

AlignedBuffer<std::byte> workspace_for(const Variant& variant, const Problem& problem, Pass pass, int threads) {
  return AlignedBuffer<std::byte>(variant.workspace_bytes(problem, pass, threads));
}

}  // namespace

TokenShape q_shape(const Problem& p) { return {p.batch, layout3(p), p.heads, p.head_dim}; }
TokenShape k_shape(const Problem& p) { return {p.batch, layout3(p), p.heads_kv, p.head_dim}; }
TokenShape v_shape(const Problem& p) { return {p.batch, layout3(p), p.heads_kv, p.head_dim_v}; }
TokenShape extra_k_shape(const Problem& p) { return {p.batch, {1, 1, p.extra_tokens}, p.heads_kv, p.head_dim}; }
TokenShape extra_v_shape(const Problem& p) { return {p.batch, {1, 1, p.extra_tokens}, p.heads_kv, p.head_dim_v}; }
TokenShape out_shape(const Problem& p) { return {p.batch, layout3(p), p.heads, p.head_dim_v}; }
TokenShape lse_shape(const Problem& p) { return {p.batch, layout3(p), p.heads, 1}; }

void check(const Problem& problem, const Inputs& inputs, const Outputs& outputs) {
  check_inputs(problem, inputs);
  check_output("out", outputs.out, out_shape(problem), problem.type);
  check_output("lse", outputs.lse, lse_shape(problem), ElementType::f32);
}

void check(const Problem& problem, const Inputs& inputs, const SavedForBackward& saved, const Gradients& gradients) {
  check_inputs(problem, inputs);
  check_output("out", saved.out, out_shape(problem), problem.type);
  check_output("lse", saved.lse, lse_shape(problem), ElementType::f32);
  check_input("dout", saved.dout, out_shape(problem), problem.type);
  check_output("dq", gradients.dq, q_shape(problem), problem.type);
  check_output("dk", gradients.dk, k_shape(problem), problem.type);
  check_output("dv", gradients.dv, v_shape(problem), problem.type);
  if (problem.extra_tokens > 0) {
    check_output("dextra_k", gradients.dextra_k, extra_k_shape(problem), problem.type);
    check_output("dextra_v", gradients.dextra_v, extra_v_shape(problem), problem.type);
  }
}

void attention_forward(std::string_view variant_name, const Problem& problem, const Inputs& inputs,
                       const Outputs& outputs, Workers& workers, Isa isa) {
  const Variant& variant = checked_variant(variant_name, problem, Pass::forward, isa);
  check(problem, inputs, outputs);
  auto workspace = workspace_for(variant, problem, Pass::forward, workers.threads());
  variant.forward(problem, inputs, outputs,
                  {isa, workers, {workspace.data(), static_cast<std::size_t>(workspace.size())}});
}

void attention_backward(std::string_view variant_name, const Problem& problem, const Inputs& inputs,
                        const SavedForBackward& saved, const Gradients& gradients, Workers& workers, Isa isa) {
  const Variant& variant = checked_variant(variant_name, problem, Pass::backward, isa);
  check(problem, inputs, saved, gradients);
  auto workspace = workspace_for(variant, problem, Pass::backward, workers.threads());
  variant.backward(problem, inputs, saved, gradients,
                   {isa, workers, {workspace.data(), static_cast<std::size_t>(workspace.size())}});
}

}  // namespace nalab
