// Rows of tensors, chosen to be compared.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "core/kernels/reference/reference.h"
#include "core/problem.h"
#include "core/tensor/tensor.h"

namespace nalab::verification {

/// A row of a tensor: a batch entry, a token in the embedded layout, a head or kv head.
struct TensorRow {
  int64_t batch = 0;
  std::array<int64_t, 3> token{0, 0, 0};
  int64_t head = 0;
};

/// `count` queries spread over the tensor out in its order: the corner tokens in the first and in the last head and
/// batch entry, and one random query of each of `count` equal stretches; at most count + 16. All queries if count is
/// at least the total. The same for the same problem and seed.
std::vector<reference::Query> choose_queries(const Problem& problem, int64_t count, int64_t seed);

/// As choose_queries, of the tensor k.
std::vector<reference::Key> choose_keys(const Problem& problem, int64_t count, int64_t seed);

/// As choose_queries, of the tensor extra_k; none for a count of 0.
std::vector<reference::Key> choose_extra_tokens(const Problem& problem, int64_t count, int64_t seed);

/// As choose_queries, entries of the tensor rpb; none for a count of 0.
std::vector<reference::Offset> choose_offsets(const Problem& problem, int64_t count, int64_t seed);

/// Where the results of queries, keys or entries of rpb are in their tensors.
std::vector<TensorRow> rows_of(const std::vector<reference::Query>& queries);
std::vector<TensorRow> rows_of(const std::vector<reference::Key>& keys);
std::vector<TensorRow> rows_of(const std::vector<reference::Offset>& offsets);

/// The elements of those rows, one row after the other, as float.
std::vector<float> gather(const Tensor& tensor, const std::vector<TensorRow>& rows);

}  // namespace nalab::verification
