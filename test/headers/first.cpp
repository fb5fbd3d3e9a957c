// One of two translation units that include everything and are compiled for different instruction sets.
#include "everything.hpp"

const char* first_unit() { return TESSERA_TEST_ARCH; }
