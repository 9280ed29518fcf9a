// Runs another program and reads what it prints.
#pragma once

#include <string>
#include <vector>

namespace cdna::tools::bench {

// What a program prints, its own stderr being ours. arguments[0] is its path; no shell is between. `setting`,
// "NAME=VALUE", is added to this process's environment. Throws: std::runtime_error (it cannot be started, or does not
// exit with 0).
std::string output_of(const std::vector<std::string>& arguments, const std::string& setting);

}  // namespace cdna::tools::bench
