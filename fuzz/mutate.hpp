// Changes to CDNA files that know their structure.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <random>
#include <span>
#include <vector>

namespace cdna::fuzz {

// Changes `bytes` in place, keeping their number: libFuzzer's own mutation, or another one.
using ByteMutator = std::function<void(std::span<std::byte> bytes)>;

// Flips, sets, copies and swaps some bytes.
ByteMutator byte_mutator(std::mt19937_64& random);

// One change to a part of `file`: a field of a structure gets an interesting value, a structure is copied over another
// or swapped with it, bytes of a block or text are mutated, or a block is filled anew. Does not repair anything.
void mutate(std::span<std::byte> file, std::mt19937_64& random, const ByteMutator& mutate_bytes);

// Copies a part of `other` over one of the same kind in `file`, as much as fits.
void splice(std::span<std::byte> file, std::span<const std::byte> other, std::mt19937_64& random);

}  // namespace cdna::fuzz
