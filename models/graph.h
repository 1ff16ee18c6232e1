// A network as data: a list of operations in the order of their computation, each on the results of earlier ones.
//
// Everything about a model follows from its graph: its parameters with their names, what it costs, and the program that
// computes it. Values are those of one image; the batch comes with the program.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

namespace nalab::models {

/// What one image is at a point of the network: rows x columns tokens of channels, channels last. Vectors have one
/// token.
struct Extent {
  int64_t rows = 1, columns = 1, channels = 0;

  int64_t tokens() const { return rows * columns; }
  int64_t elements() const { return tokens() * channels; }
  bool operator==(const Extent&) const = default;
};

/// Index of a value: of the node that computes it.
using Value = int32_t;

/// The element type of a value: that of the model (f32 or bf16), or float32 whatever the model's.
enum class Precision : uint8_t { model, full };

enum class Activation : uint8_t {
  none,
  gelu,        ///< exact, by erf
  leaky_relu,  ///< slope 0.2 below zero, then times sqrt(2) (StyleGAN)
};

/// Images or latents that a caller gives.
struct Input {};
/// kernel x kernel, the same stride on both axes; zeros around. Parameters: weight [out, in, kernel, kernel], bias
/// [out].
struct Convolution {
  std::string state;
  int64_t kernel = 3, stride = 2;
  int64_t before = 1;                  ///< zeros above and to the left
  std::array<int64_t, 2> after{1, 1};  ///< below and to the right
  bool bias = true;
};
/// residual + activation(gamma * (x (weight_factor W)^T + bias_factor b + b2)). Inputs: x, and the residual if there is
/// one. Parameters: weight [out, in] or, of a 1 x 1 convolution, [out, in, 1, 1], bias [out].
struct Linear {
  std::string state;
  bool bias = true;
  Activation activation = Activation::none;
  std::string gamma = {};  ///< name of a factor for each channel [out] (layer scale); empty: none
  double gamma_initial = 1;
  std::string second_bias = {};  ///< name of b2 [1, out, 1, 1]; empty: none
  bool is_convolution = false;   ///< the weight has the shape of a 1 x 1 convolution
  double weight_factor = 1, bias_factor = 1;
  double deviation = 0.02;  ///< of the weight's initial values
};
/// Exact, by erf, by itself: training needs what it is computed of.
struct Gelu {};
/// Over the channels of each token, with scale and shift; eps 1e-5. Parameters: weight, bias [channels].
struct LayerNorm {
  std::string state;
};
/// Heads that have one dilation and a table of their own.
struct HeadGroup {
  std::string rpb;  ///< name of the table [heads, 2 window - 1, 2 window - 1]; empty: without a bias
  int64_t heads = 0;
  int64_t dilation = 1;
};
/// Neighborhood attention of x = [3][heads][head_dim] channels: queries, keys, values. Each group takes the next heads.
struct Attention {
  int64_t window = 7;
  std::vector<HeadGroup> groups;

  int64_t heads() const;
};
/// The tokens (0,0), (1,0), (0,1), (1,1) (row, column) of each 2 x 2 block side by side; zeros beyond odd extents
/// (Swin).
struct MergePatches {};
/// Over the tokens.
struct Mean {};
/// A learned image [1, channels, rows, columns], the same for all of the batch.
struct Constant {
  std::string state;
};
/// x / sqrt(mean over channels of x^2 + 1e-8).
struct PixelNorm {};
/// gamma * (x - mean) / sqrt(variance + 1e-5) + beta with mean and biased variance of each channel over the tokens.
/// Inputs: x, and the vector (gamma, beta) of 2 channels.
struct InstanceNorm {};
/// Twice the extents, bilinear with half-pixel centres; the edge is repeated.
struct Upsample {};
/// x + alpha * positions: half of the channels tell the column, half the row, each by sines and cosines.
/// Parameter: alpha [1].
struct AddPositions {
  std::string state;
};
/// Twice the extents: zeros between, then [1, 3, 3, 1] / 4 along each axis, zeros outside (StyleGAN's upfirdn).
struct UpsampleByFilter {};

using Operation = std::variant<Input, Convolution, Linear, Gelu, LayerNorm, Attention, MergePatches, Mean, Constant,
                               PixelNorm, InstanceNorm, Upsample, AddPositions, UpsampleByFilter>;

struct Node {
  Operation operation;
  std::vector<Value> inputs;
  Extent extent;
  Precision precision = Precision::model;
};

/// Nodes in the order of their computation. Each method adds one and gives its value.
class Graph {
 public:
  Value input(const Extent& extent, Precision precision = Precision::model);
  Value convolution(Value x, const Convolution& convolution, int64_t channels);
  Value linear(Value x, const Linear& linear, int64_t channels, std::optional<Value> residual = {},
               Precision precision = Precision::model);
  Value gelu(Value x);
  Value layer_norm(Value x, const std::string& state);
  /// Throws Error that names x's extents if window * dilation exceeds them.
  Value attention(Value x, const Attention& attention);
  Value merge_patches(Value x);
  Value mean(Value x);
  Value constant(const std::string& state, const Extent& extent);
  Value pixel_norm(Value x);
  Value instance_norm(Value x, Value style);
  Value upsample(Value x);
  Value add_positions(Value x, const std::string& state);
  Value upsample_by_filter(Value x);

  const std::vector<Node>& nodes() const { return nodes_; }
  const Node& node(Value value) const { return nodes_[static_cast<std::size_t>(value)]; }
  /// The last value: what the network gives.
  Value output() const { return static_cast<Value>(nodes_.size()) - 1; }

 private:
  Value add(Operation operation, std::vector<Value> inputs, const Extent& extent,
            Precision precision = Precision::model);

  std::vector<Node> nodes_;
};

}  // namespace nalab::models
