// A program that tokenizes and nothing else.
#include <cstdio>

#include <tessera/text.hpp>

int main() {
  try {
    static_cast<void>(tessera::Tokenizer::load("/nowhere"));
  } catch (const tessera::Error& error) {
    std::puts(error.what());
  }
}
