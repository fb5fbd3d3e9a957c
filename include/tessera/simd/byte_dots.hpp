#pragma once
// Dot products of 8-bit integers in the instructions of each backend, or in plain loops where it has none.

#include <tessera/simd/byte_dots_avx2.hpp>
#include <tessera/simd/byte_dots_avx512.hpp>
#include <tessera/simd/byte_dots_neon.hpp>
#include <tessera/simd/byte_dots_plain.hpp>

namespace tessera {

static_assert(DotsBytes<ByteDots<ScalarBackend>> && DotsBytes<ByteDots<XsimdBackend<>>>);

}  // namespace tessera
