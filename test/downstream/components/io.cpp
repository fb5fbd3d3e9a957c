// A program that reads checkpoints and nothing else.
#include <cstdio>

#include <tessera/io.hpp>

int main() {
  try {
    tessera::MappedFile("/nowhere/model.safetensors");
  } catch (const tessera::Error& error) {
    std::puts(error.what());
  }
}
