#pragma once
// Does this processor have the instructions that the program was compiled for?

#include <string>

namespace tessera::program {

/// What the including file was compiled for; the check itself is compiled for the plainest processor.
struct CompiledFor {
#if defined(__AVX512F__)
  bool avx512f = true;
#else
  bool avx512f = false;
#endif
#if defined(__AVX512BF16__)
  bool avx512bf16 = true;
#else
  bool avx512bf16 = false;
#endif
#if defined(__AVX512FP16__)
  bool avx512fp16 = true;
#else
  bool avx512fp16 = false;
#endif
#if defined(__AVX512VNNI__)
  bool avx512vnni = true;
#else
  bool avx512vnni = false;
#endif
#if defined(__F16C__)
  bool f16c = true;
#else
  bool f16c = false;
#endif
#if defined(__AVX2__)
  bool avx2 = true;
#else
  bool avx2 = false;
#endif
#if defined(__FMA__)
  bool fma = true;
#else
  bool fma = false;
#endif
#if defined(__SSE4_2__)
  bool sse4_2 = true;
#else
  bool sse4_2 = false;
#endif
};

/// Ends the process with status 1 and one sentence; one of several ranks, which is before MPI_Init, ends the job.
[[noreturn]] void refuse_processor(const char* program, const char* missing);

/// Refuses the processor when an instruction set is missing; warns, on standard error, when it has a better one than
/// was compiled for.
void check_cpu(const char* program, const CompiledFor& compiled);

/// The best instruction set of this processor, spelt as compiled_isa() spells it: "avx2_fma_f16c". Empty where nothing
/// is known.
[[nodiscard]] std::string best_isa();

inline void require_compiled_instruction_set(const char* program) { check_cpu(program, CompiledFor{}); }

}  // namespace tessera::program
