#pragma once
// A Transformer whose policies were chosen at run time: the one place where types become a virtual call.

#include <memory>
#include <utility>

#include <tessera/comm/communicator.hpp>
#include <tessera/core/model_config.hpp>
#include <tessera/models/request.hpp>
#include <tessera/policies/plan.hpp>

namespace tessera {

/// What programs need of a Transformer, whatever its policies; see there for shapes and errors.
class AnyModel {
 public:
  virtual ~AnyModel() = default;

  [[nodiscard]] virtual const ModelConfig& config() const = 0;
  [[nodiscard]] virtual const Limits& limits() const = 0;
  [[nodiscard]] virtual Communicator& comm() = 0;
  [[nodiscard]] virtual Ranks ranks() const = 0;
  [[nodiscard]] virtual int threads() const = 0;
  [[nodiscard]] virtual index_t length(index_t sequence) const = 0;
  virtual void truncate(index_t sequence, index_t length) = 0;
  virtual Logits step(std::span<const Chunk> chunks) = 0;
  [[nodiscard]] virtual std::size_t activation_bytes() const = 0;
  [[nodiscard]] virtual std::size_t cache_bytes() const = 0;
  [[nodiscard]] virtual std::size_t copied_bytes() const = 0;
};

/// The virtual calls, answered by a Transformer.
template <class Model>
class ModelOf final : public AnyModel {
 public:
  template <class... Arguments>
  explicit ModelOf(Arguments&&... arguments) : model_(std::forward<Arguments>(arguments)...) {}

  [[nodiscard]] const ModelConfig& config() const override { return model_.config(); }
  [[nodiscard]] const Limits& limits() const override { return model_.limits(); }
  [[nodiscard]] Communicator& comm() override { return model_.comm(); }
  [[nodiscard]] Ranks ranks() const override { return model_.ranks(); }
  [[nodiscard]] int threads() const override { return model_.threads(); }
  [[nodiscard]] index_t length(index_t sequence) const override { return model_.length(sequence); }
  void truncate(index_t sequence, index_t length) override { model_.truncate(sequence, length); }
  Logits step(std::span<const Chunk> chunks) override { return model_.step(chunks); }
  [[nodiscard]] std::size_t activation_bytes() const override { return model_.activation_bytes(); }
  [[nodiscard]] std::size_t cache_bytes() const override { return model_.cache_bytes(); }
  [[nodiscard]] std::size_t copied_bytes() const override { return model_.copied_bytes(); }

 private:
  Model model_;
};

}  // namespace tessera
