#include "core/operators/permute_tokens.h"

#include <algorithm>
#include <string>

#include "core/error.h"
#include "core/parallel.h"
#include "core/tensor/check.h"

namespace nalab {

namespace {

using geometry::TokenPermutation;

/// Places of one task: enough that a task costs more than its start.
constexpr int64_t kPlacesPerTask = 128;

void check(const TokenPermutation& permutation, const ConstTensorView& tokens, const ConstTensorView& permuted) {
  TokenShape shape = tokens.shape;
  for (int i = 0; i < geometry::kAxes; ++i) {
    const geometry::Axis& axis = permutation.axis(i);
    shape.layout[i] = axis.extent;
    const auto require = [i](const char* what, int64_t value) {
      if (value >= 1) return;
      throw Error("token permutation: " + std::string(what) + " " + std::to_string(value) + " of axis " +
                  std::to_string(i + 1) + " of three must be at least 1");
    };
    require("extent", axis.extent);
    require("dilation", axis.dilation);
    require("tile", permutation.tile()[i]);
  }
  check_input("tokens", tokens, shape, tokens.type);
  shape.layout = {1, 1, permutation.tokens()};
  check_input("permuted", permuted, shape, tokens.type);
}

/// Calls copy(row of tokens, row of permuted, elements) for all rows. Rows of a token's heads that lie next to each
/// other in both tensors go as one.
template <class A, class B, class CopyRow>
void for_each_row(const TokenPermutation& permutation, const TokenView<A>& tokens, const TokenView<B>& permuted,
                  Workers& workers, const CopyRow& copy) {
  const TokenShape& shape = tokens.shape;
  const bool adjacent = tokens.strides.heads == shape.dim && permuted.strides.heads == shape.dim;
  const int64_t rows = adjacent ? 1 : shape.heads;
  const int64_t elements = adjacent ? shape.heads * shape.dim : shape.dim;
  const int64_t step = tokens.strides.layout[2] * permutation.axis(2).dilation;
  const int64_t places = permutation.tokens();
  const int64_t tasks_of_batch = geometry::ceil_div(places, kPlacesPerTask);
  workers.for_each(shape.batch * tasks_of_batch, [&](int64_t task, int) {
    const int64_t b = task / tasks_of_batch;
    int64_t place = task % tasks_of_batch * kPlacesPerTask;
    const int64_t end = std::min(place + kPlacesPerTask, places);
    while (place < end) {
      const auto [first, count] = permutation.run_at(place);
      const int64_t run_end = std::min(place + count, end);
      for (int64_t i = 0; place < run_end; ++i, ++place) {
        A* const token = tokens.row(b, first[0], first[1], first[2], 0) + i * step;
        B* const row = permuted.row(b, 0, 0, place, 0);
        for (int64_t h = 0; h < rows; ++h)
          copy(token + h * tokens.strides.heads, row + h * permuted.strides.heads, elements);
      }
    }
  });
}

}  // namespace

void permute_tokens(const TokenPermutation& permutation, const ConstTensorView& tokens, const TensorView& permuted,
                    Context& context) {
  check(permutation, tokens, permuted);
  with_element_type(tokens.type, [&](auto element) {
    using T = decltype(element);
    for_each_row(permutation, tokens.as<T>(), permuted.as<T>(), context.workers(),
                 [](const T* token, T* row, int64_t n) { std::copy_n(token, n, row); });
  });
}

void unpermute_tokens(const TokenPermutation& permutation, const ConstTensorView& permuted, const TensorView& tokens,
                      Context& context) {
  check(permutation, tokens, permuted);
  with_element_type(tokens.type, [&](auto element) {
    using T = decltype(element);
    for_each_row(permutation, tokens.as<T>(), permuted.as<T>(), context.workers(),
                 [](T* token, const T* row, int64_t n) { std::copy_n(row, n, token); });
  });
}

}  // namespace nalab
