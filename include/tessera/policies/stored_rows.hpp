#pragma once
// New keys and values on their way into a cache.

#include <algorithm>

#include <tessera/parallel/team.hpp>
#include <tessera/policies/kv_cache.hpp>
#include <tessera/policies/step.hpp>
#include <tessera/simd/backend.hpp>

namespace tessera {

/// Rounds rows of heads, [keys | values], to what a cache of this format gives back. A step does so with its new heads
/// before they go anywhere: then every rank attends to what is stored, in this step as in later ones, and whether it
/// finds a head in a cache, in a staging cache of floats or in what another rank has sent. Rows are shared among the
/// workers; ends with a barrier, where there is something to round.
template <SimdBackend B>
void round_as_stored(Worker& worker, Activations kv, index_t head_dim, CacheType type) {
  if (type == CacheType::f32) return;
  auto* head = worker.scratch<std::byte>(bytes_of_head(type, head_dim));
  const Range mine = worker.share(kv.rows);
  with_cache_format(type, [&]<class F>(F) {
    for (index_t t = mine.begin; t < mine.end; ++t)
      for (float* x = kv.row(t); x < kv.row(t) + kv.cols; x += head_dim) {
        F::encode(x, head_dim, head);
        F::decode(head, head_dim, x);
      }
  });
  worker.barrier();
}

/// Copies the new K and V rows of a step into those slots of `cache` that its layout owns. `kv` holds rows
/// [keys of `kv_heads` | values], among them those that the cache stores; the row of step row t is place[t], or t
/// itself where `place` is empty. Rows are shared among the workers; ends with a barrier.
template <SimdBackend B>
void store_rows(Worker& worker, const Step& step, ConstActivations kv, std::span<const index_t> place, Range kv_heads,
                index_t head_dim, KvCache& cache, index_t layer) {
  const index_t heads = cache.layout().kv_heads.size();
  const index_t first = cache.layout().kv_heads.begin - kv_heads.begin;
  const Range mine = worker.share(step.rows);
  for (const Segment& s : step.segments) {
    const Range rows = intersect(mine, {s.row, s.row + s.count});
    for (index_t t = rows.begin; t < rows.end; ++t) {
      const index_t position = s.position + (t - s.row);
      if (!cache.layout().owns(s.sequence, position)) continue;
      const index_t slot = cache.layout().slot(position);
      const float* keys = kv.row(place.empty() ? t : place[static_cast<std::size_t>(t)]);
      const float* values = keys + kv_heads.size() * head_dim;
      for (index_t h = 0; h < heads; ++h) {
        cache.store_key(layer, s.sequence, h, slot, keys + (first + h) * head_dim);
        cache.store_value(layer, s.sequence, h, slot, values + (first + h) * head_dim);
      }
    }
  }
  worker.barrier();
}

/// One key or value out of a cache as floats, or into it; returns what follows. What a policy packs and unpacks with:
/// one thread calls them.
template <SimdBackend B>
float* load_key(const KvCache& cache, index_t layer, index_t sequence, index_t head, index_t slot, float* to) {
  return cache.load_key(layer, sequence, head, slot, to);
}
template <SimdBackend B>
float* load_value(const KvCache& cache, index_t layer, index_t sequence, index_t head, index_t slot, float* to) {
  return cache.load_value(layer, sequence, head, slot, to);
}
template <SimdBackend B>
const float* store_key(const KvCache& cache, index_t layer, index_t sequence, index_t head, index_t slot,
                       const float* from) {
  return cache.store_key(layer, sequence, head, slot, from);
}
template <SimdBackend B>
const float* store_value(const KvCache& cache, index_t layer, index_t sequence, index_t head, index_t slot,
                         const float* from) {
  return cache.store_value(layer, sequence, head, slot, from);
}

}  // namespace tessera
