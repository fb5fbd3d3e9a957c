// The other translation unit that includes everything, and the program that both are linked into.
#include <cstdio>

#include "everything.hpp"
#include "unit.hpp"

Unit first_unit();

int main() {
  const Unit first = first_unit();
  const Unit second = {tessera::compiled_isa(), tessera::rms_norm_row<tessera::XsimdBackend<>>,
                       tessera::rms_norm_row<tessera::ScalarBackend>};
  std::printf("compiled for %s and %s\n", std::string(first.isa).c_str(), std::string(second.isa).c_str());
  if (first.isa == second.isa) return 77;  // skipped: this machine and this build leave only one instruction set
  // A shared symbol would be one unit's code run by the other, with instructions that the machine may not have.
  if (first.simd == second.simd || first.scalar == second.scalar) {
    std::puts("the units share a kernel");
    return 1;
  }
  return 0;
}
