// Fuzz target: any bytes as the files of a tensor folder of helix-substrate's v3. An input is a list of files, each a
// byte for its name, a length (u16, little-endian) and its content; the last one may be cut off.
#include <algorithm>
#include <array>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "fuzz/codes.hpp"
#include "fuzz/open_file.hpp"
#include "libcdna/import/helix/v3_folder.hpp"

namespace {

using namespace cdna;

constexpr std::array<const char*, 10> kNames{"meta.json",  "codebook.npy",      "indices.bin", "sidecar.npz",
                                             "svd_U.npy",  "svd_s.npy",         "svd_Vt.npy",  "channel_scales.npy",
                                             "stats.json", "morpho_config.json"};

class MemoryFiles final : public TensorFiles {
 public:
  explicit MemoryFiles(std::span<const std::byte> input) {
    while (input.size() >= 3) {
      const char* const name = kNames[std::to_integer<std::size_t>(input[0]) % kNames.size()];
      const std::size_t stated = std::to_integer<std::size_t>(input[1]) | std::to_integer<std::size_t>(input[2]) << 8;
      const std::size_t size = std::min(stated, input.size() - 3);
      files_[name] = input.subspan(3, size);
      input = input.subspan(3 + size);
    }
  }
  bool has(std::string_view name) const override { return files_.find(std::string(name)) != files_.end(); }
  Result<std::unique_ptr<Source>> open(const std::string& name) const override {
    const auto found = files_.find(name);
    Error missing;
    missing.code = Code::malformed;
    missing.message = "it is not there";
    if (found == files_.end()) return missing;
    return memory_source(found->second, false);
  }
  std::string path_of(const std::string& name) const override { return name; }

 private:
  std::map<std::string, std::span<const std::byte>> files_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto model = open_v3_files(std::make_shared<MemoryFiles>(std::as_bytes(std::span(data, size))));
  if (!model) {
    fuzz::require(model.error().code < Code::io, "a refusal is a property of the file");
    fuzz::require(!model.error().describe().empty(), "a refusal says what is wrong");
    return 0;
  }
  fuzz::check_codes(**model, size);
  return 0;
}
