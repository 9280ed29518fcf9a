// JSON documents as the tools print them.
#pragma once

#include <fmt/format.h>

#include <nlohmann/json.hpp>

namespace cdna::tools {

using nlohmann::ordered_json;

// One document on stdout, in ASCII: what could act on a terminal is escaped, and what is not UTF-8 is replaced.
inline void print_json(const ordered_json& document) {
  fmt::print("{}\n", document.dump(2, ' ', true, ordered_json::error_handler_t::replace));
}

}  // namespace cdna::tools
