// The other half of native_instances.cpp.
#define TESSERA_INSTANCES_OF ScalarBackend
#include <tessera/instances.cpp>
