#pragma once
// New keys and values on their way into a cache.

#include <algorithm>

#include <tessera/parallel/team.hpp>
#include <tessera/policies/kv_cache.hpp>
#include <tessera/policies/step.hpp>

namespace tessera {

/// Copies the new K and V rows of a step into those slots of `cache` that its layout owns. `kv` holds rows
/// [keys of `kv_heads` | values], among them those that the cache stores; the row of step row t is place[t], or t
/// itself where `place` is empty. Rows are shared among the workers; ends with a barrier.
inline void store_rows(Worker& worker, const Step& step, ConstActivations kv, std::span<const index_t> place,
                       Range kv_heads, index_t head_dim, KvCache& cache, index_t layer) {
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
        std::copy_n(keys + (first + h) * head_dim, head_dim, cache.key(layer, s.sequence, h, slot));
        std::copy_n(values + (first + h) * head_dim, head_dim, cache.value(layer, s.sequence, h, slot));
      }
    }
  }
  worker.barrier();
}

}  // namespace tessera
