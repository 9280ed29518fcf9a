// Which build of the library this is, and what it uses on this machine.
#pragma once

#include <string>

#include "cdna/error.hpp"

namespace cdna {

struct BuildInfo {
  std::string compiler;      // "gcc 12.2.0"
  std::string architecture;  // "x86_64", "aarch64"
  std::string isa;           // In use by the kernels (cdna/cpu.hpp): "avx512bf16".
  std::string isas;          // All that this machine has, with spaces between: "baseline avx2 avx512".
  std::string sha256;        // In use for hashing (cdna/digest.hpp): "shani".
  std::string libraries;     // "zstd 1.5.4, brotli 1.0.9, OpenSSL 3.0.17": as loaded now.
};

// Errors: bad_argument (CDNA_CPU or CDNA_SHA256 name nothing that this machine has), no_memory.
Result<BuildInfo> build_info();

}  // namespace cdna
