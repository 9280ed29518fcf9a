// What may be on a disk after a power loss: every legal outcome of the changes that were not yet durable.
//
// The model promises no more than POSIX does (Pillai et al., "All File Systems Are Not Created Equal", OSDI 2014):
//   - Of a file that was not synced each 4 KiB page is as it was (zeros, where the file was shorter) or as some write
//     since left it, whatever became of the others; its size is the old one, the new one, or any page boundary between
//     them; its mode is the old one or any that was set since.
//   - Of the names that came and went since the folder was synced each change is there or not, whatever became of the
//     others, but a rename is there as a whole or not at all.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "recording_file_system.hpp"
#include "sample_file.hpp"

namespace cdna::test {

class PowerLoss {
 public:
  static constexpr std::size_t kPageBytes = 4096;

  // One legal outcome. Valid while the function that it is given to runs.
  class State {
   public:
    const std::map<std::string, std::size_t>& names() const { return names_; }
    // Of a file that has a name.
    std::vector<std::byte> bytes(std::size_t file) const;
    mode_t mode(std::size_t file) const;
    // Nothing of the file was lost, nor could it be.
    bool is_durable(std::size_t file) const { return loss_.unsynced_[file].sizes.empty(); }
    // Of all that can be seen: names, sizes, bytes and modes.
    std::uint64_t hash() const;
    Disk disk() const;

   private:
    friend class PowerLoss;
    struct FileChoice {
      std::uint64_t size_bytes = 0;
      std::vector<std::size_t> versions;  // Per page.
      mode_t mode = 0;
    };
    explicit State(const PowerLoss& loss) : loss_(loss), files_(loss.unsynced_.size()) {}

    const PowerLoss& loss_;
    std::map<std::string, std::size_t> names_;
    std::vector<FileChoice> files_;
  };
  using Look = std::function<void(const State&)>;

  // The power goes after these changes of `durable`.
  PowerLoss(const Disk& durable, std::span<const Change> changes);

  // Unsynced changes of names, and unsynced pages of files that could be seen.
  std::size_t choice_count() const;
  // Every state in which each page is the old one or the last one. Files without a name are no part of a state.
  void for_each(const Look& look) const;
  // Random states, also with pages as they were between two writes.
  void sample(Random& random, std::uint64_t count, const Look& look) const;

 private:
  struct Page {
    std::array<std::byte, kPageBytes> bytes{};
    std::uint64_t hash = 0;
  };
  // Empty for a file without unsynced changes.
  struct Unsynced {
    std::vector<std::uint64_t> sizes;
    std::vector<std::vector<Page>> pages;  // Versions of each page, the durable one first, the last one last.
    std::vector<mode_t> modes;
  };

  Unsynced unsynced_of(std::size_t file, const std::vector<const Change*>& changes) const;
  void choose_names(State& state, std::uint64_t mask) const;
  void choose_file(State& state, std::map<std::string, std::size_t>::const_iterator name, const Look& look) const;
  void choose_pages(State& state, std::map<std::string, std::size_t>::const_iterator name, const Look& look) const;
  std::size_t pages_to_choose(std::size_t file) const;

  Disk synced_;
  std::vector<std::uint64_t> synced_hashes_;  // Per file.
  std::vector<Unsynced> unsynced_;            // Per file.
  std::vector<const Change*> name_changes_;   // Unsynced, in order.
};

}  // namespace cdna::test
