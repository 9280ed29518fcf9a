// ModelOptions::skip: which tensors are left out, and whether every pattern fitted one.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "cdna/error.hpp"

namespace cdna {

class SkippedNames {
 public:
  explicit SkippedNames(std::vector<std::string> globs) : globs_(std::move(globs)), used_(globs_.size()) {}
  // Marks every pattern that fits.
  bool has(std::string_view name);
  // Errors: bad_argument (a pattern that fitted nothing).
  Result<void> check_used() const;

 private:
  std::vector<std::string> globs_;
  std::vector<bool> used_;
};

}  // namespace cdna
