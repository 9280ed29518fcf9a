// memory.MEGABYTES: how little private memory a multiplication takes beside the dense matrix.
#pragma once

#include <cstdint>
#include <string>

#include "tools/bench/matmul_cases.hpp"

namespace cdna::tools::bench {

// Adds the rows of memory.64, .256 and .1024. Throws Failure; std::runtime_error where a child process fails.
void run_memory(const MatmulRun& run);

// What the child process does: multiplies 8 rows with the matrix of a file, one thread, zero-copy, and prints the
// growth of its private memory, and of its file-backed memory, in bytes. With `data_bytes_max` other than 0 under an
// RLIMIT_DATA that leaves so much above what it has. Throws Failure.
void print_memory(const std::string& file, std::uint64_t data_bytes_max);

}  // namespace cdna::tools::bench
