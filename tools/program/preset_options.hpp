#pragma once
// --model DIR, or --preset NAME with --layers N: what a program that needs no trained weights takes the shape of.

#include <string>

#include <tessera/core/types.hpp>

#include "program/cli.hpp"

namespace tessera::program {

/// Adds --preset and --layers beside --model, which then need not be given. `text` says what is made of a preset.
inline CLI::Option* add_preset_options(CLI::App& app, std::string& preset, index_t& layers, const std::string& text) {
  CLI::Option* model = app.get_option("--model")->required(false);
  CLI::Option* option = app.add_option("--preset", preset, text)->type_name("NAME")->excludes(model);
  app.add_option("--layers", layers, "So many decoder layers of the preset")
      ->check(CLI::Range(1, 65536))
      ->type_name("N")
      ->needs(option);
  return option;
}

/// Throws where neither was given; for a callback of `app`.
inline void require_shape(const CLI::App& app) {
  if (app.count("--model") + app.count("--preset") == 0) throw CLI::RequiredError("--model DIR or --preset NAME");
}

}  // namespace tessera::program
