#pragma once
// A checkpoint of random weights that is there as long as a program runs.

#include <string>

#include <tessera/core/types.hpp>

namespace tessera::program {

/// Made by `tessera make-model`, the program beside this one, in a temporary folder (TMPDIR), which is removed again.
class RandomModel {
 public:
  /// `layers` of 0 are as many as published. Throws Error where the program or the disk fails.
  RandomModel(const std::string& preset, index_t layers);
  RandomModel(const RandomModel&) = delete;
  RandomModel& operator=(const RandomModel&) = delete;
  ~RandomModel();

  [[nodiscard]] const std::string& folder() const { return folder_; }

 private:
  std::string folder_;
};

/// The folder in which this program lies, and its siblings.
[[nodiscard]] std::string program_folder();

}  // namespace tessera::program
