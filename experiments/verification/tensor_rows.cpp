#include "experiments/verification/tensor_rows.h"

#include <algorithm>
#include <random>

#include "core/tensors.h"

namespace nalab::verification {

namespace {

/// Position of a row in its tensor, counted in rows.
int64_t flat(const TokenShape& s, const TensorRow& row) {
  const auto& [x1, x2, x3] = row.token;
  return (((row.batch * s.layout[0] + x1) * s.layout[1] + x2) * s.layout[2] + x3) * s.heads + row.head;
}

TensorRow row_at(const TokenShape& s, int64_t position) {
  TensorRow row;
  row.head = position % s.heads;
  position /= s.heads;
  for (int axis = 2; axis >= 0; --axis) {
    row.token[axis] = position % s.layout[axis];
    position /= s.layout[axis];
  }
  row.batch = position;
  return row;
}

/// `count` rows spread over a tensor: see choose_queries.
std::vector<TensorRow> choose_rows(const TokenShape& shape, int64_t count, int64_t seed) {
  const int64_t total = shape.batch * shape.tokens() * shape.heads;
  std::vector<int64_t> positions;
  if (count >= total) {
    for (int64_t position = 0; position < total; ++position) positions.push_back(position);
  } else {
    for (int corner = 0; corner < 8; ++corner) {
      std::array<int64_t, 3> token;
      for (int axis = 0; axis < 3; ++axis) token[axis] = (corner >> axis & 1) != 0 ? shape.layout[axis] - 1 : 0;
      positions.push_back(flat(shape, {0, token, 0}));
      positions.push_back(flat(shape, {shape.batch - 1, token, shape.heads - 1}));
    }
    std::mt19937_64 random(static_cast<uint64_t>(seed));
    const double stretch = static_cast<double>(total) / static_cast<double>(count);
    for (int64_t i = 0; i < count; ++i) {
      const auto begin = static_cast<int64_t>(static_cast<double>(i) * stretch);
      const auto end = std::min(total, static_cast<int64_t>(static_cast<double>(i + 1) * stretch));
      const int64_t size = std::max<int64_t>(end - begin, 1);
      positions.push_back(begin + static_cast<int64_t>(random() % static_cast<uint64_t>(size)));
    }
    std::sort(positions.begin(), positions.end());
    positions.erase(std::unique(positions.begin(), positions.end()), positions.end());
  }
  std::vector<TensorRow> rows;
  for (const int64_t position : positions) rows.push_back(row_at(shape, position));
  return rows;
}

}  // namespace

std::vector<reference::Query> choose_queries(const Problem& problem, int64_t count, int64_t seed) {
  std::vector<reference::Query> queries;
  for (const auto& [b, x, h] : choose_rows(out_shape(problem), count, seed)) queries.push_back({b, x, h});
  return queries;
}

std::vector<reference::Key> choose_keys(const Problem& problem, int64_t count, int64_t seed) {
  std::vector<reference::Key> keys;
  for (const auto& [b, x, h] : choose_rows(k_shape(problem), count, seed)) keys.push_back({b, x, h});
  return keys;
}

std::vector<reference::Key> choose_extra_tokens(const Problem& problem, int64_t count, int64_t seed) {
  std::vector<reference::Key> keys;
  if (count == 0) return keys;
  for (const auto& [b, x, h] : choose_rows(extra_k_shape(problem), count, seed)) keys.push_back({b, x, h, true});
  return keys;
}

std::vector<reference::Offset> choose_offsets(const Problem& problem, int64_t count, int64_t seed) {
  std::vector<reference::Offset> offsets;
  if (count == 0) return offsets;
  // The table of a head stands where other tensors have a batch entry.
  for (const auto& [head, index, only] : choose_rows(rpb_shape(problem), count, seed)) offsets.push_back({head, index});
  return offsets;
}

std::vector<TensorRow> rows_of(const std::vector<reference::Query>& queries) {
  std::vector<TensorRow> rows;
  for (const reference::Query& query : queries) rows.push_back({query.batch, query.token, query.head});
  return rows;
}

std::vector<TensorRow> rows_of(const std::vector<reference::Key>& keys) {
  std::vector<TensorRow> rows;
  for (const reference::Key& key : keys) rows.push_back({key.batch, key.token, key.head_kv});
  return rows;
}

std::vector<TensorRow> rows_of(const std::vector<reference::Offset>& offsets) {
  std::vector<TensorRow> rows;
  for (const reference::Offset& offset : offsets) rows.push_back({offset.head, offset.index, 0});
  return rows;
}

std::vector<float> gather(const Tensor& tensor, const std::vector<TensorRow>& rows) {
  return with_element_type(tensor.type(), [&](auto element) {
    const auto view = tensor.view().as<decltype(element)>();
    std::vector<float> values;
    values.reserve(rows.size() * static_cast<std::size_t>(view.shape.dim));
    for (const auto& [b, x, h] : rows) {
      const auto* row = view.row(b, x[0], x[1], x[2], h);
      for (int64_t c = 0; c < view.shape.dim; ++c) values.push_back(to_float(row[c]));
    }
    return values;
  });
}

}  // namespace nalab::verification
