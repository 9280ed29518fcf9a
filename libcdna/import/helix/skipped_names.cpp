// Patterns against names.
#include "libcdna/import/helix/skipped_names.hpp"

#include "cdna/glob.hpp"
#include "libcdna/import/json.hpp"
#include "libcdna/try.hpp"

namespace cdna {

bool SkippedNames::has(std::string_view name) {
  bool found = false;
  for (std::size_t i = 0; i < globs_.size(); ++i) {
    if (!matches_glob(globs_[i], name)) continue;
    used_[i] = true;
    found = true;
  }
  return found;
}

Result<void> SkippedNames::check_used() const {
  for (std::size_t i = 0; i < globs_.size(); ++i)
    CDNA_CHECK(used_[i], Code::bad_argument, "", "skip: " + escape(quote(globs_[i])) + " fits no tensor");
  return {};
}

}  // namespace cdna
