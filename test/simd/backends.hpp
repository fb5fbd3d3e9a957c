#pragma once
// Every backend that this compilation can run: the lists that tests of kernels run over.

#include <tuple>
#include <type_traits>

#include <tessera/simd/backend.hpp>

namespace tessera {

template <class List>
struct BackendsOf;
template <class... Arch>
struct BackendsOf<xsimd::arch_list<Arch...>> {
  using type = std::tuple<ScalarBackend, XsimdBackend<Arch>...>;
};

/// ScalarBackend and one for every architecture that the unit is compiled for.
using AllBackends = BackendsOf<xsimd::supported_architectures>::type;

#if defined(__x86_64__)
template <class Arch>
using IfCompiled = std::conditional_t<Arch::supported(), std::tuple<XsimdBackend<Arch>>, std::tuple<>>;

/// One backend of each width, for what takes long: scalar, 4, 8 without and with fused multiply-add, 16.
using BackendsOfEachWidth =
    decltype(std::tuple_cat(std::tuple<ScalarBackend>(), IfCompiled<xsimd::sse2>(), IfCompiled<xsimd::avx>(),
                            IfCompiled<xsimd::fma3<xsimd::avx2>>(), IfCompiled<xsimd::avx512bw>()));
#else
using BackendsOfEachWidth = std::tuple<ScalarBackend, XsimdBackend<>>;
#endif

}  // namespace tessera
