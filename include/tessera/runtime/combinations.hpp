#pragma once
// The table of all combinations of the shipped policies, which runtime/instances.hpp lists, by name.

#include <vector>

#include <tessera/runtime/combination.hpp>
#include <tessera/runtime/instances.hpp>

namespace tessera {

template <class... Types>
struct TypeList {};

namespace detail {

/// Without the first, which is there so that each of the others may follow a comma.
template <class First, class... Types>
struct Rest {
  using type = TypeList<Types...>;
};

}  // namespace detail

#define TESSERA_AFTER_COMMA(type) , type
/// The lists of runtime/instances.hpp as types.
using Shardings = detail::Rest<void TESSERA_EACH_SHARDING(TESSERA_AFTER_COMMA)>::type;
/// As above.
using Softmaxes = detail::Rest<void TESSERA_EACH_SOFTMAX(TESSERA_AFTER_COMMA)>::type;
/// As above.
using Backends = detail::Rest<void TESSERA_EACH_BACKEND(TESSERA_AFTER_COMMA)>::type;
#undef TESSERA_AFTER_COMMA

/// A backend and what it is called on the command line.
template <class B>
struct BackendChoice;
/// The vectors of the instruction set that the program is compiled for.
template <>
struct BackendChoice<XsimdBackend<>> {
  static constexpr std::string_view name = "native";
};
/// The reference.
template <>
struct BackendChoice<ScalarBackend> {
  static constexpr std::string_view name = "scalar";
};

namespace detail {

template <class Sharding, class Softmax, class Backend>
[[nodiscard]] std::unique_ptr<AnyModel> make_model(Communicator comm, ModelConfig config, ModelWeights weights,
                                                   TransformerOptions options) {
  return std::make_unique<ModelOf<Transformer<Sharding, Softmax, Backend>>>(std::move(comm), std::move(config),
                                                                            std::move(weights), std::move(options));
}

template <class Sharding, class Softmax, class... B>
void add_backends(std::vector<Combination>& table, TypeList<B...>) {
  (table.push_back({Sharding::name, Sharding::decode_name, Softmax::name, BackendChoice<B>::name,
                    arithmetic_of<Sharding>, &make_model<Sharding, Softmax, B>, MergeableSoftmax<Softmax>}),
   ...);
}

template <class Sharding, class... Softmax, class BackendList>
void add_softmaxes(std::vector<Combination>& table, TypeList<Softmax...>, BackendList backends) {
  (add_backends<Sharding, Softmax>(table, backends), ...);
}

}  // namespace detail

/// Some shardings with every softmax on every backend, or with those given.
template <class... Sharding, class SoftmaxList = Softmaxes, class BackendList = Backends>
[[nodiscard]] std::vector<Combination> combinations_of(TypeList<Sharding...>, SoftmaxList softmaxes = {},
                                                       BackendList backends = {}) {
  std::vector<Combination> table;
  (detail::add_softmaxes<Sharding>(table, softmaxes, backends), ...);
  return table;
}

/// Every combination of the shipped policies. Compiling them takes minutes: see runtime/instances.hpp.
[[nodiscard]] inline std::vector<Combination> all_combinations() { return combinations_of(Shardings{}); }

}  // namespace tessera
