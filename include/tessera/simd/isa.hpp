#pragma once
// The name of the instruction set that a translation unit is compiled for. Backends live in an inline namespace of that
// name, so two units with different -march share no symbol that is a template on a backend.

#include <string_view>

#if defined(__AVX512F__)
#define TESSERA_ISA_BASE avx512
#elif defined(__AVX2__) && defined(__FMA__)
#define TESSERA_ISA_BASE avx2_fma
#elif defined(__AVX2__)
#define TESSERA_ISA_BASE avx2
#elif defined(__AVX__)
#define TESSERA_ISA_BASE avx
#elif defined(__SSE4_2__)
#define TESSERA_ISA_BASE sse4_2
#elif defined(__SSE2__)
#define TESSERA_ISA_BASE sse2
#elif defined(__ARM_FEATURE_SVE)
#define TESSERA_ISA_BASE sve
#elif defined(__ARM_NEON)
#define TESSERA_ISA_BASE neon
#else
#define TESSERA_ISA_BASE generic
#endif

#if defined(__AVX512BF16__)
#define TESSERA_ISA_BF16 _bf16
#else
#define TESSERA_ISA_BF16
#endif

// Compilers use half-precision and AMX instructions where the flag allows: code with them must not be shared either.
#if defined(__AVX512FP16__)
#define TESSERA_ISA_FP16 _fp16
#elif defined(__F16C__)
#define TESSERA_ISA_FP16 _f16c
#else
#define TESSERA_ISA_FP16
#endif

#if defined(__AVX512VNNI__) || defined(__AVXVNNI__)
#define TESSERA_ISA_BYTES _vnni
#elif defined(__ARM_FEATURE_DOTPROD)
#define TESSERA_ISA_BYTES _dotprod
#else
#define TESSERA_ISA_BYTES
#endif

#define TESSERA_ISA_PASTE(a, b, c, d, e) a##b##c##d##e
#define TESSERA_ISA_EXPAND(a, b, c, d, e) TESSERA_ISA_PASTE(a, b, c, d, e)
#define TESSERA_ISA TESSERA_ISA_EXPAND(isa_, TESSERA_ISA_BASE, TESSERA_ISA_BF16, TESSERA_ISA_FP16, TESSERA_ISA_BYTES)
#define TESSERA_ISA_QUOTE(text) #text
#define TESSERA_ISA_TEXT(name) TESSERA_ISA_QUOTE(name)

namespace tessera {
inline namespace TESSERA_ISA {

/// The instruction set that this translation unit is compiled for, e.g. "avx512_bf16_fp16_vnni".
[[nodiscard]] constexpr std::string_view compiled_isa() {
  constexpr std::string_view prefix = "isa_";
  return std::string_view(TESSERA_ISA_TEXT(TESSERA_ISA)).substr(prefix.size());
}

}  // namespace TESSERA_ISA
}  // namespace tessera
