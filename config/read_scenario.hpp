// Scenarios of `egret simulate` (docs/simulate.md): YAML, checked against the configuration that they are run with.
#pragma once

#include <string>
#include <string_view>

#include "config/config.hpp"
#include "config/problem.hpp"
#include "routing/simulation.hpp"

namespace egret::config {

/// What the simulator needs of a configuration. It refers to `config`, which must outlive it.
routing::SimulationSetup simulation_setup(const Config& config);

/// Reads a scenario. Every problem is reported with its place in `file`; the scenario can be used when there is none.
routing::Scenario read_scenario(std::string_view text, const std::string& file, const Config& config, Problems& problems);

}  // namespace egret::config
