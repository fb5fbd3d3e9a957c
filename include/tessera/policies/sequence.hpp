#pragma once
// Sequence: tokens over ranks in prefill (context parallelism), positions over ranks in decode.

#include <tessera/policies/all_gather_kv.hpp>
#include <tessera/policies/helix.hpp>
#include <tessera/policies/mesh.hpp>
#include <tessera/policies/pass_queries.hpp>
#include <tessera/policies/phased.hpp>
#include <tessera/policies/ring_kv.hpp>

namespace tessera {

/// Prefill with tokens over ranks: residual, norms, projections and FFN stay local, keys and values travel as
/// `KvExchange` says. Every rank uses the whole weights. Any number of ranks; some may have no rows.
template <class KvExchange>
class ContextParallel : public Mesh<ZigzagTokens<KvExchange>, WholeModel, TokensOnly> {
 public:
  static constexpr std::string_view name = "context parallel";
  using Mesh<ZigzagTokens<KvExchange>, WholeModel, TokensOnly>::Mesh;
};

/// Context parallel prefill, then Helix decode on the same striped cache. In a later chunk of a prompt queries travel
/// in place of the cached keys where they are less.
template <class KvExchange = AllGatherKv<>>
class Sequence : public Phased<ContextParallel<KeysOrQueries<KvExchange>>, Helix> {
 public:
  using Tokens = ZigzagTokens<KeysOrQueries<KvExchange>>;
  static constexpr std::string_view name = KvExchange::strategy;
  using Phased<ContextParallel<KeysOrQueries<KvExchange>>, Helix>::Phased;
};

static_assert(PhasePolicy<ContextParallel<KeysOrQueries<AllGatherKv<>>>> && ShardingPolicy<Sequence<>>);
static_assert(PhasePolicy<ContextParallel<KeysOrQueries<RingKv>>> && ShardingPolicy<Sequence<RingKv>>);

}  // namespace tessera
