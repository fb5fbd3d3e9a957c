// One of two translation units that include everything and are compiled for different instruction sets.
#include "everything.hpp"
#include "unit.hpp"

Unit first_unit() {
  return {tessera::compiled_isa(), tessera::rms_norm_row<tessera::XsimdBackend<>>,
          tessera::rms_norm_row<tessera::ScalarBackend>};
}
