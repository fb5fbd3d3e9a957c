// The micro-kernels of the GEMM and those of decode with weights in blocks as they are used, and nothing else: compiled
// for several instruction sets, disassembled by a test.
#include <tessera/kernels/gemm_shape.hpp>
#include <tessera/kernels/gemm_tile.hpp>
#include <tessera/kernels/quantised_groups.hpp>

namespace tessera {

using B = XsimdBackend<>;
constexpr index_t stride = PanelShape<B>::row_stride;

template void multiply_tile<B, TileShape<B>::rows, TileShape<B>::vectors, stride>(const float*, const float*, index_t,
                                                                                  float*, bool, PrefetchPace);
template void multiply_tile<B, TileShape<B>::rows, 1, stride>(const float*, const float*, index_t, float*, bool,
                                                              PrefetchPace);

namespace detail {

template void multiply_group<B, Int8Blocks, 1>(const std::uint8_t*, const f16_t*, const QuantisedActivations&, float*,
                                               index_t);
template void multiply_group<B, Int4Blocks, 1>(const std::uint8_t*, const f16_t*, const QuantisedActivations&, float*,
                                               index_t);

}  // namespace detail
}  // namespace tessera
