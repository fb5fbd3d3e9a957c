#pragma once
// Models of machines as files: tools/simulated/machines, tools/simulated/kernels.

#include <filesystem>
#include <fstream>
#include <string>

#include <tessera/io/json.hpp>
#include <tessera/simulate/machine_model.hpp>

namespace tessera::simulated {

/// A machine model out of JSON; what kernels reach of it is in a file of its own, which it names
/// (../kernels/NAME.json). Errors: a file cannot be read; a field is missing, of the wrong type, or no number above 0.
[[nodiscard]] inline MachineModel read_machine(const std::string& file) {
  const auto parsed = [](const std::string& name) {
    std::ifstream stream(name);
    require(stream.is_open(), name, ": cannot be read; expected a model of a machine or of its kernels");
    return Json::parse(stream);
  };
  try {
    const Json json = parsed(file);
    const auto folder = std::filesystem::path(file).parent_path().parent_path();
    const Json kernels = parsed((folder / "kernels" / (json.at("kernels").get<std::string>() + ".json")).string());
    MachineModel m;
    const auto number = [&](const char* name, const Json& part) {
      const double value = part.at(name).get<double>();
      require(value > 0, file, ": ", name, ": expected a number above 0, found ", value);
      return value;
    };
    const auto share = [&](const char* name) {
      return Share(kernels.at(name).get<std::vector<std::pair<double, double>>>());
    };
    m.name = json.at("name").get<std::string>();
    m.threads = static_cast<int>(number("threads", json));
    m.flops = number("flops", json), m.memory = number("memory", json);
    m.copy = number("copy", json);
    m.cached_copy = json.contains("cached_copy") ? number("cached_copy", json) : m.copy;
    m.start = json.contains("start") ? number("start", json) : number("start_of_thread", kernels) * m.threads;
    m.products = share("products"), m.attention = share("attention");
    m.reading = number("reading", kernels), m.reading_keys = number("reading_keys", kernels);
    return m;
  } catch (const Json::exception& error) {
    fail(file, ": ", error.what());
  }
}

}  // namespace tessera::simulated
