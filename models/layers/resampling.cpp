// Means, merging and upsampling of tokens, and positions.
#include <algorithm>
#include <cmath>

#include "models/layers/layers.h"

namespace nalab::models {

namespace {

/// Calls body(batch entry, row) for each row of tokens of a buffer.
template <class Body>
void for_each_row(Workers& workers, const Buffer& buffer, const Body& body) {
  const int64_t rows = buffer.extent.rows;
  workers.for_each(buffer.batch * rows, [&](int64_t task, int) { body(task / rows, task % rows); });
}

template <class T>
void merge_patches(Workers& workers, const Buffer& x, const Buffer& out) {
  const int64_t channels = x.extent.channels;
  for_each_row(workers, out, [&](int64_t b, int64_t row) {
    T* target = out.as<T>() + (b * out.extent.rows + row) * out.extent.columns * out.extent.channels;
    for (int64_t column = 0; column < out.extent.columns; ++column) {
      for (int64_t part = 0; part < 4; ++part, target += channels) {
        const int64_t r = 2 * row + part % 2, c = 2 * column + part / 2;
        const T* source = x.as<T>() + ((b * x.extent.rows + r) * x.extent.columns + c) * channels;
        const bool inside = r < x.extent.rows && c < x.extent.columns;
        for (int64_t i = 0; i < channels; ++i) target[i] = inside ? source[i] : T{};
      }
    }
  });
}

/// positions x channels / 2: alpha times the sines, then the cosines, of positions counted from 1.
std::vector<float> position_table(int64_t positions, int64_t channels, double alpha) {
  const int64_t waves = channels / 4;
  std::vector<float> table(static_cast<std::size_t>(positions * 2 * waves));
  for (int64_t p = 0; p < positions; ++p) {
    for (int64_t i = 0; i < waves; ++i) {
      const double angle = static_cast<double>(p + 1) *
                           std::exp(-std::log(10000.0) * static_cast<double>(i) / static_cast<double>(waves - 1));
      float* row = table.data() + p * 2 * waves;
      row[i] = static_cast<float>(alpha * std::sin(angle));
      row[waves + i] = static_cast<float>(alpha * std::cos(angle));
    }
  }
  return table;
}

template <class T>
void add_positions(Workers& workers, const Buffer& x, const Buffer& out, const std::vector<float>& of_columns,
                   const std::vector<float>& of_rows) {
  const int64_t half = out.extent.channels / 2;
  for_each_row(workers, out, [&](int64_t b, int64_t row) {
    const int64_t start = (b * out.extent.rows + row) * out.extent.columns * 2 * half;
    const T* source = x.as<T>() + start;
    T* target = out.as<T>() + start;
    const float* of_row = of_rows.data() + row * half;
    for (int64_t column = 0; column < out.extent.columns; ++column, source += 2 * half, target += 2 * half) {
      const float* of_column = of_columns.data() + column * half;
      for (int64_t c = 0; c < half; ++c) target[c] = from_float<T>(to_float(source[c]) + of_column[c]);
      for (int64_t c = 0; c < half; ++c) target[half + c] = from_float<T>(to_float(source[half + c]) + of_row[c]);
    }
  });
}

/// What lies beyond the edge of an image that is upsampled.
enum class Edge { repeated, zero };

/// The two inputs of one output along an axis, with weights 3/4 and 1/4: out[2 i] of x[i] and x[i - 1], out[2 i + 1] of
/// x[i] and x[i + 1].
struct Taps {
  Taps(int64_t target, int64_t size, Edge edge) : near(target / 2), far(target % 2 == 0 ? near - 1 : near + 1) {
    const bool inside = far >= 0 && far < size;
    if (!inside) far = near;
    far_weight = inside || edge == Edge::repeated ? 0.25F : 0;
  }
  int64_t near, far;
  float near_weight = 0.75F, far_weight;
};

template <class T>
void upsample(Workers& workers, const Buffer& x, const Buffer& out, Edge edge) {
  const int64_t channels = x.extent.channels;
  for_each_row(workers, out, [&](int64_t b, int64_t row) {
    const Taps r(row, x.extent.rows, edge);
    const T* near = x.as<T>() + (b * x.extent.rows + r.near) * x.extent.columns * channels;
    const T* far = x.as<T>() + (b * x.extent.rows + r.far) * x.extent.columns * channels;
    T* target = out.as<T>() + (b * out.extent.rows + row) * out.extent.columns * channels;
    for (int64_t column = 0; column < out.extent.columns; ++column, target += channels) {
      const Taps c(column, x.extent.columns, edge);
      const auto along_row = [&](const T* line, int64_t k) {
        return c.near_weight * to_float(line[c.near * channels + k]) +
               c.far_weight * to_float(line[c.far * channels + k]);
      };
      for (int64_t k = 0; k < channels; ++k) {
        target[k] = from_float<T>(r.near_weight * along_row(near, k) + r.far_weight * along_row(far, k));
      }
    }
  });
}

template <class T>
void mean(const Buffer& x, const Buffer& out, int64_t b) {
  const int64_t channels = x.extent.channels, tokens = x.extent.tokens();
  std::vector<double> sum(static_cast<std::size_t>(channels));
  const T* token = x.as<T>() + b * tokens * channels;
  for (int64_t t = 0; t < tokens; ++t, token += channels) {
    for (int64_t c = 0; c < channels; ++c) sum[static_cast<std::size_t>(c)] += static_cast<double>(to_float(token[c]));
  }
  for (int64_t c = 0; c < channels; ++c) {
    out.as<T>()[b * channels + c] =
        from_float<T>(static_cast<float>(sum[static_cast<std::size_t>(c)] / static_cast<double>(tokens)));
  }
}

}  // namespace

Step make_step(const Input&, const Site&) {
  return [] {};  // the program puts it into its place
}

Step make_step(const Constant& constant, const Site& site) {
  // Stored channels first. Written again in each call, since its memory is shared with later values.
  const Extent& e = site.output.extent;
  const memory::dims dims{1, e.channels, e.rows, e.columns};
  const memory image = site.constants.add([name = constant.state](const Weights& w) { return w.at(name); },
                                          {dims, memory::data_type::f32, memory::format_tag::nchw},
                                          {dims, dnnl_type(site.output.type), memory::format_tag::nhwc});
  return [image, out = site.output] {
    const auto* source = static_cast<const std::byte*>(image.get_data_handle());
    for (int64_t b = 0; b < out.batch; ++b) {
      std::copy_n(source, out.extent.elements() * size_of(out.type), out.at(b * out.extent.elements()));
    }
  };
}

Step make_step(const Mean&, const Site& site) {
  return for_type(site.output, [&](auto element) -> Step {
    return [&workers = site.backend.workers, x = site.x(), out = site.output] {
      workers.for_each(out.batch, [&](int64_t b, int) { mean<decltype(element)>(x, out, b); });
    };
  });
}

Step make_step(const Upsample&, const Site& site) {
  return for_type(site.output, [&](auto element) -> Step {
    return [&workers = site.backend.workers, x = site.x(), out = site.output] {
      upsample<decltype(element)>(workers, x, out, Edge::repeated);
    };
  });
}

Step make_step(const MergePatches&, const Site& site) {
  return for_type(site.output, [&](auto element) -> Step {
    return [&workers = site.backend.workers, x = site.x(), out = site.output] {
      merge_patches<decltype(element)>(workers, x, out);
    };
  });
}

Step make_step(const AddPositions& positions, const Site& site) {
  const Extent& e = site.output.extent;
  const double alpha = site.parameter(positions.state).front();
  return for_type(site.output, [&](auto element) -> Step {
    return [&workers = site.backend.workers, x = site.x(), out = site.output,
            of_columns = position_table(e.columns, e.channels, alpha),
            of_rows = position_table(e.rows, e.channels, alpha)] {
      add_positions<decltype(element)>(workers, x, out, of_columns, of_rows);
    };
  });
}

Step make_step(const UpsampleByFilter&, const Site& site) {
  return [&workers = site.backend.workers, x = site.x(), out = site.output] {
    upsample<float>(workers, x, out, Edge::zero);
  };
}

}  // namespace nalab::models
