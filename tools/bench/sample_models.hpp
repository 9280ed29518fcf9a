// Files for benchmarks: shapes of real models with synthetic weights, and a folder that goes away with them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cdna/error.hpp"
#include "cdna/writer.hpp"

namespace cdna::tools::bench {

// A new folder under TMPDIR, removed with what is in it. Throws std::system_error.
class Scratch {
 public:
  Scratch();
  ~Scratch();
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  std::string path(const std::string& name) const { return folder_ + "/" + name; }

 private:
  std::string folder_;
};

enum class Content {
  random,  // Cheap noise.
  zeros,   // The file has holes where its planes are, and takes no room on the disk.
};

enum class Coding {
  exact,
  cb8,       // Wherever `cdna convert --encoding cb8` would.
  codebook,  // Every tensor, however small.
};

struct SampleModel {
  std::vector<TensorSpec> tensors;
  Coding coding = Coding::exact;
  Content content = Content::random;
};

// all-MiniLM-L6-v2: 103 tensors of F32, 90.9 MB.
SampleModel minilm_shapes();
// A Llama-like model of 4 GiB of BF16, all zero: 24 layers, 220 tensors.
SampleModel four_gib_shapes();
// A LoRA adapter of rank 16 on 48 layers of a 4096-wide model: 672 tensors of BF16.
SampleModel lora_shapes();
// `count` small tensors of a name's usual length.
SampleModel many_tensors(std::uint32_t count, Coding coding);
// BF16 matrices of 16 MiB.
SampleModel big_matrices(std::uint32_t count);

Result<void> write_sample(const SampleModel& model, const std::string& path, const std::atomic<bool>& stop);

}  // namespace cdna::tools::bench
