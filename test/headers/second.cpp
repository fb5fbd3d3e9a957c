// The other translation unit that includes everything, and the program that both are linked into.
#include "everything.hpp"

#include <cstdio>

const char* first_unit();

int main() {
  std::printf("compiled for %s and %s\n", first_unit(), TESSERA_TEST_ARCH);
  return 0;
}
