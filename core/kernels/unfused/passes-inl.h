// All passes of an unfused variant, made of the papers' operators (Faster NA, 2403.04690, sections 3.1 and 3.2) with
// their results for all queries stored between them.
//
// Forward: PN ("pointwise-neighborhood", the scores), softmax, and NN ("neighborhood-neighborhood", the weighted sum of
// values). Backward: PN again for the scores, and of dout and values for the gradients of the weights; softmax and its
// derivative; NN with the keys for dq; and IN ("inverse-neighborhood") for dk and dv. The split operators are these
// operators with attn in the place of what is stored.
//
// The backward pass computes the weights again from their own scores, not from the saved lse: so they add up to one
// but for rounding, and a single weight is one exactly.
#include <cstdint>
#include <limits>

#include "core/kernels/unfused/bias-inl.h"
#include "core/kernels/unfused/call.h"
#include "core/kernels/unfused/rows-inl.h"
#include "core/kernels/unfused/slots.h"
#include "core/kernels/unfused/stored_weights.h"
#include "core/tensor/row.h"

#if defined(NALAB_CORE_KERNELS_UNFUSED_PASSES_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef NALAB_CORE_KERNELS_UNFUSED_PASSES_INL_H_
#undef NALAB_CORE_KERNELS_UNFUSED_PASSES_INL_H_
#else
#define NALAB_CORE_KERNELS_UNFUSED_PASSES_INL_H_
#endif

HWY_BEFORE_NAMESPACE();
namespace nalab::unfused::HWY_NAMESPACE {

/// Products: the three operators of a variant for elements of type T,
///   PointwiseNeighborhood(queries, keys, extra, factor, bias tables, rows): rows = factor * queries keys^T + bias;
///   NeighborhoodNeighborhood(rows, values, extra, sums): sums = rows values;
///   InverseNeighborhood(rows, queries, sums, extra_sums): sums = rows^T queries;
/// and stored(), the memory between them.
template <class T, class Products>
class Passes {
 public:
  Passes(const Plan& plan, const Products& products, Workers& workers)
      : problem_(plan.problem()),
        pass_(plan.pass()),
        products_(products),
        stored_(products.stored()),
        workers_(workers) {}

  void Run(const Call& call) {
    if (stored_.tables.data != nullptr) CopyTables(call.in.rpb, stored_.tables, workers_);
    switch (pass_) {
      case Pass::forward:
        return Forward(call);
      case Pass::backward:
        return Backward(call);
      case Pass::weights:
        return Weights(call);
      case Pass::weights_backward:
        return WeightsBackward(call);
      case Pass::values:
        return products_.NeighborhoodNeighborhood(Given(call.attn, stored_.weights), call.in.v.template as<T>(),
                                                  call.in.extra_v.template as<T>(), call.out.out);
      case Pass::values_backward:
        return ValuesBackward(call);
    }
  }

 private:
  void HWY_ATTR Forward(const Call& call) {
    Scores(call.in, problem_.effective_scale(), stored_.weights);
    for_each_query(problem_, workers_, [&](int64_t b, const Token& token, int64_t h, int64_t n) HWY_ATTR {
      const float lse = Softmax(stored_.weights.row(b, token, h), n);
      store_row(call.out.lse, b, token, h, &lse);
    });
    products_.NeighborhoodNeighborhood(stored_.weights, call.in.v.template as<T>(), call.in.extra_v.template as<T>(),
                                       call.out.out);
  }

  void HWY_ATTR Backward(const Call& call) {
    const WeightRows &weights = stored_.weights, &gradients = stored_.gradients;
    const float scale = factor_as_float(problem_.effective_scale());
    const bool bias = problem_.relative_bias;
    Scores(call.in, problem_.effective_scale(), weights);
    WeightGradients(call, gradients);
    for_each_query(problem_, workers_, [&](int64_t b, const Token& token, int64_t h, int64_t n) HWY_ATTR {
      Softmax(weights.row(b, token, h), n);
      SoftmaxGradient(weights.row(b, token, h), n, bias ? 1.0f : scale, gradients.row(b, token, h));
    });
    if (bias) {
      BiasGradient(problem_, gradients, stored_.bias_slices, call.gradients.drpb, workers_);
      Scale(gradients, scale);
    }
    QueryAndKeyGradients(call, gradients);
    products_.InverseNeighborhood(weights, call.dout.template as<T>(), call.gradients.dv, call.gradients.dextra_v);
  }

  void Weights(const Call& call) {
    const WeightRows rows = Made(call.made_attn, stored_.weights);
    Scores(call.in, problem_.weights_scale(), rows);
    if (!stored_.in_place)
      store_slots(problem_, rows, -std::numeric_limits<float>::infinity(), call.made_attn, workers_);
  }

  void WeightsBackward(const Call& call) {
    const ConstWeightRows gradients = Given(call.attn, stored_.gradients);
    if (problem_.relative_bias) {
      BiasGradient(problem_, gradients, stored_.bias_slices, call.gradients.drpb, workers_);
    }
    if (problem_.weights_scale() != 1.0) Scale(stored_.gradients, factor_as_float(problem_.weights_scale()));
    QueryAndKeyGradients(call, gradients);
  }

  void ValuesBackward(const Call& call) {
    const WeightRows gradients = Made(call.made_attn, stored_.gradients);
    WeightGradients(call, gradients);
    if (!stored_.in_place) store_slots(problem_, gradients, 0.0f, call.made_attn, workers_);
    products_.InverseNeighborhood(Given(call.attn, stored_.weights), call.dout.template as<T>(), call.gradients.dv,
                                  call.gradients.dextra_v);
  }

  void Scores(const Inputs& in, double scale, const WeightRows& rows) {
    products_.PointwiseNeighborhood(in.q.template as<T>(), in.k.template as<T>(), in.extra_k.template as<T>(),
                                    factor_as_float(scale), stored_.tables, rows);
  }

  /// dout v^T.
  void WeightGradients(const Call& call, const WeightRows& rows) {
    products_.PointwiseNeighborhood(call.dout.template as<T>(), call.in.v.template as<T>(),
                                    call.in.extra_v.template as<T>(), 1.0f, BiasTables(), rows);
  }

  void QueryAndKeyGradients(const Call& call, const ConstWeightRows& gradients) {
    products_.NeighborhoodNeighborhood(gradients, call.in.k.template as<T>(), call.in.extra_k.template as<T>(),
                                       call.gradients.dq);
    products_.InverseNeighborhood(gradients, call.in.q.template as<T>(), call.gradients.dk, call.gradients.dextra_k);
  }

  void HWY_ATTR Scale(const WeightRows& rows, float factor) {
    for_each_query(problem_, workers_, [&](int64_t b, const Token& token, int64_t h, int64_t n) HWY_ATTR {
      float* const row = rows.row(b, token, h);
      for (int64_t i = 0; i < n; ++i) row[i] *= factor;
    });
  }

  /// The rows of weights that a caller gives: its own, or a copy.
  ConstWeightRows Given(const ConstTensorView& attn, const WeightRows& copy) {
    if (stored_.in_place) return attn.as<float>();
    load_slots(problem_, attn, copy, workers_);
    return copy;
  }

  /// Where the rows of weights that a caller wants are made.
  WeightRows Made(const TensorView& attn, const WeightRows& copy) const {
    return stored_.in_place ? attn.as<float>() : copy;
  }

  const Problem& problem_;
  const Pass pass_;
  const Products& products_;
  const StoredWeights& stored_;
  Workers& workers_;
};

}  // namespace nalab::unfused::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // NALAB_CORE_KERNELS_UNFUSED_PASSES_INL_H_
