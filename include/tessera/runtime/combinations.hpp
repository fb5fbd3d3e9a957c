#pragma once
// The shipped policies, by name, and the table of their combinations. A new policy is one entry in one of these lists.

#include <vector>

#include <tessera/models/transformer.hpp>
#include <tessera/runtime/combination.hpp>

namespace tessera {

template <class... Types>
struct TypeList {};

/// The first of a name is the one that is meant where no decode strategy is named.
using Shardings = TypeList<HeadWise, HeadWiseScattered, Sequence<>, Sequence<RingKv>, Ulysses, HeadWiseThenHelix,
                           HeadWiseScatteredThenHelix, UlyssesThenHelix, SequenceThenHeadWise, SequenceOfHeadWise,
                           SequenceOfHeadWiseScattered, RingOfHeadWise>;
using Softmaxes = TypeList<OnlineSoftmax, StandardSoftmax>;

/// A backend and what it is called on the command line.
template <class B>
struct BackendChoice;
template <>
struct BackendChoice<XsimdBackend<>> {
  static constexpr std::string_view name = "native";
};
template <>
struct BackendChoice<ScalarBackend> {
  static constexpr std::string_view name = "scalar";
};
using Backends = TypeList<XsimdBackend<>, ScalarBackend>;

namespace detail {

template <class Sharding, class Softmax, class Backend>
[[nodiscard]] std::unique_ptr<AnyModel> make_model(Communicator comm, ModelConfig config, ModelWeights weights,
                                                   TransformerOptions options) {
  return std::make_unique<ModelOf<Transformer<Sharding, Softmax, Backend>>>(std::move(comm), std::move(config),
                                                                            std::move(weights), std::move(options));
}

template <class Sharding, class Softmax, class... B>
void add_backends(std::vector<Combination>& table, TypeList<B...>) {
  (table.push_back({Sharding::name, Sharding::decode_name, Softmax::name, BackendChoice<B>::name, &Sharding::check,
                    &Sharding::traffic, &Sharding::selection_traffic, &make_model<Sharding, Softmax, B>}),
   ...);
}

template <class Sharding, class... Softmax>
void add_softmaxes(std::vector<Combination>& table, TypeList<Softmax...>) {
  (add_backends<Sharding, Softmax>(table, Backends{}), ...);
}

template <class... Sharding>
void add_shardings(std::vector<Combination>& table, TypeList<Sharding...>) {
  (add_softmaxes<Sharding>(table, Softmaxes{}), ...);
}

}  // namespace detail

/// Every combination of the lists above.
[[nodiscard]] inline std::vector<Combination> all_combinations() {
  std::vector<Combination> table;
  detail::add_shardings(table, Shardings{});
  return table;
}

}  // namespace tessera
