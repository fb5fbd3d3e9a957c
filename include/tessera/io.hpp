#pragma once
// Checkpoints on disk: everything under io/, and a model's weights from them. Needs nlohmann-json.

#include <tessera/io/atomic_file.hpp>
#include <tessera/io/bus_error.hpp>
#include <tessera/io/checkpoint.hpp>
#include <tessera/io/generation_config.hpp>
#include <tessera/io/hf_config.hpp>
#include <tessera/io/safetensors.hpp>
#include <tessera/io/safetensors_writer.hpp>
#include <tessera/runtime/load_weights.hpp>
