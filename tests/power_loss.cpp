// Enumerates and samples the outcomes of a power loss.
#include "power_loss.hpp"

#include <algorithm>
#include <cstring>
#include <set>
#include <string_view>

namespace cdna::test {
namespace {

std::uint64_t hash_of(std::span<const std::byte> bytes) {
  return std::hash<std::string_view>{}({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
}

// Boost's hash_combine, for 64 bits.
void combine(std::uint64_t& seed, std::uint64_t value) {
  seed ^= value + 0x9E3779B97F4A7C15U + (seed << 12) + (seed >> 4);
}

std::size_t page_count(std::uint64_t size_bytes) {
  return static_cast<std::size_t>((size_bytes + PowerLoss::kPageBytes - 1) / PowerLoss::kPageBytes);
}

}  // namespace

std::vector<std::byte> PowerLoss::State::bytes(std::size_t file) const {
  if (is_durable(file)) return loss_.synced_.files[file].bytes;
  const FileChoice& choice = files_[file];
  std::vector<std::byte> bytes;
  for (std::size_t page = 0; page < page_count(choice.size_bytes); ++page) {
    const Page& version = loss_.unsynced_[file].pages[page][choice.versions[page]];
    bytes.insert(bytes.end(), version.bytes.begin(), version.bytes.end());
  }
  bytes.resize(choice.size_bytes);
  return bytes;
}

mode_t PowerLoss::State::mode(std::size_t file) const {
  return is_durable(file) ? loss_.synced_.files[file].mode : files_[file].mode;
}

std::uint64_t PowerLoss::State::hash() const {
  std::uint64_t hash = names_.size();
  for (const auto& [name, file] : names_) {
    combine(hash, std::hash<std::string>{}(name));
    combine(hash, mode(file));
    if (is_durable(file)) {
      combine(hash, loss_.synced_hashes_[file]);
      continue;
    }
    const FileChoice& choice = files_[file];
    combine(hash, choice.size_bytes);
    for (std::size_t page = 0; page < page_count(choice.size_bytes); ++page)
      combine(hash, loss_.unsynced_[file].pages[page][choice.versions[page]].hash);
  }
  return hash;
}

Disk PowerLoss::State::disk() const {
  Disk disk;
  for (const auto& [name, file] : names_) disk.put(name, bytes(file), mode(file));
  return disk;
}

PowerLoss::PowerLoss(const Disk& durable, std::span<const Change> changes) : synced_(durable) {
  std::vector<std::vector<const Change*>> file_changes(durable.files.size());
  for (const Change& change : changes) {
    switch (change.kind) {
      case Change::Kind::write:
      case Change::Kind::set_mode:
        file_changes[change.file].push_back(&change);
        break;
      case Change::Kind::sync_file:
        for (const Change* const earlier : file_changes[change.file]) apply(*earlier, synced_);
        file_changes[change.file].clear();
        break;
      case Change::Kind::link:
      case Change::Kind::unlink:
      case Change::Kind::rename:
        name_changes_.push_back(&change);
        break;
      case Change::Kind::sync_folder:
        for (const Change* const earlier : name_changes_) apply(*earlier, synced_);
        name_changes_.clear();
        break;
    }
  }
  for (std::size_t file = 0; file < file_changes.size(); ++file) {
    synced_hashes_.push_back(hash_of(synced_.files[file].bytes));
    unsynced_.push_back(unsynced_of(file, file_changes[file]));
  }
}

PowerLoss::Unsynced PowerLoss::unsynced_of(std::size_t file, const std::vector<const Change*>& changes) const {
  Unsynced unsynced;
  if (changes.empty()) return unsynced;
  Disk disk;
  disk.files.resize(file + 1);
  disk.files[file] = synced_.files[file];
  const std::vector<std::byte>& bytes = disk.files[file].bytes;
  const std::uint64_t old_size = bytes.size();
  const auto add_version = [&](std::size_t page) {
    Page version;
    const std::size_t begin = std::min(bytes.size(), page * kPageBytes);
    const std::size_t size = std::min(bytes.size() - begin, kPageBytes);
    if (size > 0) std::memcpy(version.bytes.data(), bytes.data() + begin, size);
    version.hash = hash_of(version.bytes);
    std::vector<Page>& versions = unsynced.pages[page];
    if (versions.empty() || versions.back().bytes != version.bytes) versions.push_back(version);
  };
  const auto add_pages = [&] {
    while (unsynced.pages.size() < page_count(bytes.size())) {
      unsynced.pages.emplace_back();
      if (unsynced.pages.size() > page_count(old_size)) unsynced.pages.back().emplace_back();  // Zeros.
    }
  };
  add_pages();
  for (std::size_t page = 0; page < unsynced.pages.size(); ++page) add_version(page);
  unsynced.modes.push_back(disk.files[file].mode);
  for (const Change* const change : changes) {
    apply(*change, disk);
    if (change->kind == Change::Kind::set_mode) unsynced.modes.push_back(change->mode);
    if (change->kind != Change::Kind::write || change->bytes.empty()) continue;
    add_pages();
    const std::size_t last = static_cast<std::size_t>((change->offset + change->bytes.size() - 1) / kPageBytes);
    for (std::size_t page = change->offset / kPageBytes; page <= last; ++page) add_version(page);
  }
  std::set<std::uint64_t> sizes{old_size, bytes.size()};
  for (std::uint64_t size = 0; size < bytes.size(); size += kPageBytes) {
    if (size > old_size) sizes.insert(size);
  }
  unsynced.sizes.assign(sizes.begin(), sizes.end());
  return unsynced;
}

std::size_t PowerLoss::pages_to_choose(std::size_t file) const {
  const auto& pages = unsynced_[file].pages;
  return static_cast<std::size_t>(
      std::count_if(pages.begin(), pages.end(), [](const auto& versions) { return versions.size() > 1; }));
}

std::size_t PowerLoss::choice_count() const {
  std::set<std::size_t> visible;
  for (const auto& [name, file] : synced_.names) visible.insert(file);
  for (const Change* const change : name_changes_) {
    if (change->kind != Change::Kind::unlink) visible.insert(change->file);
  }
  std::size_t count = name_changes_.size();
  for (const std::size_t file : visible) count += pages_to_choose(file);
  return count;
}

void PowerLoss::choose_names(State& state, std::uint64_t mask) const {
  Disk disk;
  disk.names = synced_.names;
  for (std::size_t i = 0; i < name_changes_.size(); ++i) {
    if ((mask >> i & 1) != 0) apply(*name_changes_[i], disk);
  }
  state.names_ = std::move(disk.names);
}

void PowerLoss::for_each(const Look& look) const {
  for (std::uint64_t mask = 0; mask < std::uint64_t{1} << name_changes_.size(); ++mask) {
    State state(*this);
    choose_names(state, mask);
    choose_file(state, state.names_.begin(), look);
  }
}

// The file of each name in turn, but of two names of one file only the first.
void PowerLoss::choose_file(State& state, std::map<std::string, std::size_t>::const_iterator name,
                            const Look& look) const {
  if (name == state.names_.end()) return look(state);
  const std::size_t file = name->second;
  const Unsynced& unsynced = unsynced_[file];
  const bool chosen =
      std::any_of(state.names_.cbegin(), name, [&](const auto& earlier) { return earlier.second == file; });
  if (chosen || state.is_durable(file)) return choose_file(state, std::next(name), look);
  for (const std::uint64_t size : unsynced.sizes) {
    for (const mode_t mode : unsynced.modes) {
      state.files_[file].size_bytes = size;
      state.files_[file].mode = mode;
      choose_pages(state, name, look);
    }
  }
}

void PowerLoss::choose_pages(State& state, std::map<std::string, std::size_t>::const_iterator name,
                             const Look& look) const {
  const std::size_t file = name->second;
  const Unsynced& unsynced = unsynced_[file];
  State::FileChoice& choice = state.files_[file];
  choice.versions.assign(unsynced.pages.size(), 0);
  std::vector<std::size_t> pages;  // Those that make a difference.
  for (std::size_t page = 0; page < page_count(choice.size_bytes); ++page) {
    if (unsynced.pages[page].size() > 1) pages.push_back(page);
  }
  for (std::uint64_t mask = 0; mask < std::uint64_t{1} << pages.size(); ++mask) {
    for (std::size_t i = 0; i < pages.size(); ++i)
      choice.versions[pages[i]] = (mask >> i & 1) != 0 ? unsynced.pages[pages[i]].size() - 1 : 0;
    choose_file(state, std::next(name), look);
  }
}

void PowerLoss::sample(Random& random, std::uint64_t count, const Look& look) const {
  for (std::uint64_t i = 0; i < count; ++i) {
    State state(*this);
    choose_names(state, random.below(std::uint64_t{1} << name_changes_.size()));
    for (const auto& [name, file] : state.names_) {
      const Unsynced& unsynced = unsynced_[file];
      if (state.is_durable(file)) continue;
      State::FileChoice& choice = state.files_[file];
      choice.size_bytes = unsynced.sizes[random.below(unsynced.sizes.size())];
      choice.mode = unsynced.modes[random.below(unsynced.modes.size())];
      choice.versions.clear();
      for (const auto& versions : unsynced.pages) choice.versions.push_back(random.below(versions.size()));
    }
    look(state);
  }
}

}  // namespace cdna::test
