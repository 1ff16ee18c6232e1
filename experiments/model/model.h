// Models as experiments see them: asked for by name, their cost known before they are made, and called through one
// interface whatever they compute.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/parallel.h"
#include "core/problem.h"
#include "core/simd/isa.h"

namespace nalab::model {

/// A model and what is done with it.
struct Request {
  std::string name;
  std::string definitions_file = {};            ///< empty: the models that are compiled in
  std::optional<std::string> definitions = {};  ///< what that file has in it; unset: it cannot be read
  int64_t size = 0;           ///< side of the images; 0: that of the definition, the only one of a generator
  int64_t batch = 1;          ///< images of a call
  bool relative_bias = true;  ///< false: attention without its tables
  bool training = false;      ///< true: forward, backward and an update of the weights; false: forward
  ElementType type = ElementType::f32;
};

/// A problem of attention, and how often a forward pass computes it.
struct RepeatedProblem {
  Problem problem;
  int64_t times = 1;
};

/// What is known of a model before it is made.
struct Facts {
  int64_t size = 0;                        ///< side of the images
  int64_t result_elements = 0;             ///< logits of an image, or numbers of one that is generated
  int64_t parameters = 0;                  ///< numbers
  int64_t multiply_adds = 0;               ///< of the forward pass of one image
  int64_t attention_multiply_adds = 0;     ///< of those, within attention
  int64_t weight_bytes = 0;                ///< as they are given and as layers hold them; gradients and moments
  int64_t value_bytes = 0;                 ///< what layers write, and its gradients; a call's images and results
  std::vector<RepeatedProblem> attention;  ///< of the whole batch
};

/// Throws Error, a sentence without the model's name, if there is no such model, or none with such images, or if it
/// cannot be trained. A build without models knows none.
Facts facts(const Request& request);

/// Why this build knows no models; empty if it does.
std::string why_not_built();

/// What a call gives, by name: logits or images of the whole batch; of training the gradient of each parameter.
using Results = std::map<std::string, std::vector<float>>;

/// A model ready to be called. Only attention differs between the variants: everything else is the same code on the
/// same memory.
class Session {
 public:
  virtual ~Session() = default;
  /// Forward or, for training, forward and backward, with one of the variants. Returns the seconds within attention.
  virtual double compute(std::size_t variant) = 0;
  /// What a call does not compute is no number then.
  virtual void forget() = 0;
  /// Training: changes the weights by the gradients. Otherwise nothing.
  virtual void update() = 0;
  /// Of the last call.
  virtual Results results() const = 0;
};

/// How a session computes attention.
struct AttentionOptions {
  std::vector<std::string> variants;
  Isa isa = Isa::baseline;      ///< limit on the instructions used, oneDNN's too
  std::string arithmetic = {};  ///< used wherever it fits; empty: NALAB_ARITHMETIC, else by preference
};

/// Seeded weights and images: neither depends on batch, type, variants or the number of workers, which must outlive the
/// session. Classifiers get weights for which attention matters, generators those of before training. Throws Error as
/// facts() does, or if oneDNN lacks the type on this CPU.
std::unique_ptr<Session> make_session(const Request& request, const AttentionOptions& attention, uint64_t seed,
                                      Workers& workers);

}  // namespace nalab::model
