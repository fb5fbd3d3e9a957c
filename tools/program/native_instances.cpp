// The longest work of a build, in two units so that two compilers share it: the other is scalar_instances.cpp.
#define TESSERA_INSTANCES_OF XsimdBackend<>
#include <tessera/instances.cpp>
