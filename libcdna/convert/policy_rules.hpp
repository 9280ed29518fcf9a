// Rules of policies as JSON.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "cdna/convert.hpp"

namespace cdna {

nlohmann::ordered_json to_json(const PolicyRule& rule);

// On one line; what is not UTF-8 is replaced.
std::string text_of(const nlohmann::ordered_json& document);

}  // namespace cdna
