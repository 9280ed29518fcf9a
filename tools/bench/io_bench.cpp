// The cases of `cdna bench io`.
#include "tools/bench/io_bench.hpp"

#include <fmt/format.h>
#include <openssl/evp.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <filesystem>
#include <thread>

#include "cdna/reader.hpp"
#include "tools/bench/convert_memory.hpp"
#include "tools/bench/measure.hpp"
#include "tools/bench/sample_models.hpp"
#include "tools/interrupt.hpp"
#include "tools/parallel.hpp"

namespace cdna::tools::bench {
namespace {

constexpr double kGiga = 1e9;
constexpr std::uint32_t kBigMatrices = 32;  // 512 MiB: more than a last-level cache.

using Bytes = std::span<const std::byte>;

Reader open_or_throw(const std::string& path) { return require(Reader::open(path)); }

// One SHA-256 as OpenSSL does it, without the allocations of a context per call.
class OpensslDigest {
 public:
  OpensslDigest() : context_(EVP_MD_CTX_new()), algorithm_(EVP_MD_fetch(nullptr, "SHA256", nullptr)) {}
  ~OpensslDigest() {
    EVP_MD_CTX_free(context_);
    EVP_MD_free(algorithm_);
  }
  OpensslDigest(const OpensslDigest&) = delete;
  OpensslDigest& operator=(const OpensslDigest&) = delete;

  void hash(Bytes bytes) {
    std::array<unsigned char, 32> digest;
    const bool done = EVP_DigestInit_ex2(context_, algorithm_, nullptr) == 1 &&
                      EVP_DigestUpdate(context_, bytes.data(), bytes.size()) == 1 &&
                      EVP_DigestFinal_ex(context_, digest.data(), nullptr) == 1;
    if (!done) throw std::runtime_error("OpenSSL cannot compute a SHA-256");
    keep(digest[0]);
  }

 private:
  EVP_MD_CTX* context_;
  EVP_MD* algorithm_;
};

std::vector<Tensor> tensors_of(const Reader& reader) {
  std::vector<Tensor> tensors;
  for (std::uint32_t i = 0; i < reader.tensor_count(); ++i) {
    const Item item = reader.tensor_item(i);
    if (item.kind() == ItemKind::tensor) tensors.push_back(reader.resolve(item));
  }
  return tensors;
}

// The stored bytes of a tensor's planes, cut as its blocks are (compressed blocks: into parts of about equal length).
std::vector<Bytes> blocks_of(const Reader& reader, const Tensor& tensor) {
  std::vector<Bytes> blocks;
  for (std::uint32_t i = 0; i < tensor.plane_count(); ++i) {
    const PlaneInfo plane = tensor.plane(i);
    if (plane.block_count == 0) continue;
    const Bytes all = reader.source().mapping().subspan(plane.offset, plane.stored_bytes);
    const std::uint64_t row_bytes = (plane.row_entries * plane.bits + 7) / 8;
    const bool whole_rows = plane.rows_per_block != 0 && plane.rows * row_bytes == all.size();
    const std::uint64_t each = whole_rows ? plane.rows_per_block * row_bytes : all.size() / plane.block_count + 1;
    for (std::uint64_t at = 0; at < all.size(); at += each)
      blocks.push_back(all.subspan(at, std::min<std::uint64_t>(each, all.size() - at)));
  }
  return blocks;
}

std::uint64_t sum_words(Bytes bytes) {
  std::uint64_t sum = 0;
  for (std::size_t i = 0; i < bytes.size() / 8; ++i) {
    std::uint64_t word = 0;
    std::memcpy(&word, bytes.data() + 8 * i, sizeof word);
    sum += word;
  }
  return sum;
}

class IoBench {
 public:
  IoBench(const IoOptions& options, Report& report, const std::atomic<bool>& stop)
      : options_(options), report_(report), stop_(stop) {}

  Result<void> run() {
    const bool own = options_.file.empty();
    const std::vector<std::function<Result<void>()>> cases{
        [&] { return own ? open_many(10000, Coding::codebook) : open_file(); },
        [&] { return own ? open_many(140000, options_.full ? Coding::codebook : Coding::exact) : Result<void>(); },
        [&] { return own ? write_sample(big_matrices(kBigMatrices), scratch_.path("big"), stop_) : Result<void>(); },
        [&] { return first_touch(1); },
        [&] {
          return std::thread::hardware_concurrency() > 1 ? first_touch(std::thread::hardware_concurrency())
                                                         : Result<void>();
        },
        [&] { return walk(); },
        [&] { return own ? overheads() : overhead("file", options_.file, std::nullopt); },
        [&] { return own && options_.full ? convert_memory() : Result<void>(); },
    };
    for (const auto& run_case : cases) {
      if (stop_.load()) return stopped();
      if (auto result = run_case(); !result) return result;
    }
    return {};
  }

 private:
  std::string big_file() const { return options_.file.empty() ? scratch_.path("big") : options_.file; }

  Result<void> open_many(std::uint32_t count, Coding coding) {
    const std::string path = scratch_.path("many");
    if (auto result = write_sample(many_tensors(count, coding), path, stop_); !result) return result;
    const double limit_ms = count == 10000 ? 10 : 150;
    open_rows(path, {{"tensors", count}, {"encoding", coding == Coding::codebook ? "codebook" : "exact"}}, limit_ms);
    std::filesystem::remove(path);
    return {};
  }

  Result<void> open_file() {
    open_rows(options_.file, {{"file", options_.file}}, std::nullopt);
    return {};
  }

  void open_rows(const std::string& path, nlohmann::ordered_json params, std::optional<double> limit_ms) {
    const Reader reader = open_or_throw(path);
    const std::uint64_t footer_bytes = reader.footer_bytes();
    params["footer_bytes"] = footer_bytes;
    const std::vector<std::byte> footer(footer_bytes, std::byte{1});
    OpensslDigest openssl;
    const auto hash_footer = [&] { return 1e3 * seconds_of([&] { openssl.hash(footer); }); };
    const auto open = [&] { return 1e3 * seconds_of([&] { keep(open_or_throw(path).tensor_count()); }); };
    const Pair times = interleaved(hash_footer, open);
    Row row{"open_10000",           params, times.ours, "ms", "SHA-256 of the footer's bytes alone, by OpenSSL",
            times.reference.median, {}};
    if (limit_ms) row.goal = Goal{Goal::Of::value, Goal::Bound::max, *limit_ms};
    report_.add(std::move(row));
    add_lookup(reader, std::move(params));
  }

  void add_lookup(const Reader& reader, nlohmann::ordered_json params) {
    if (reader.tensor_count() == 0) return;
    std::vector<std::string> names;
    for (std::uint32_t i = 0; i < reader.tensor_count(); ++i) names.emplace_back(reader.tensor_item(i).name());
    // Not in their order: as a program asks that has names of its own.
    for (std::size_t i = 0; i < names.size(); ++i) std::swap(names[i], names[i * 7919 % names.size()]);
    const auto look_up_all = [&] {
      const double seconds = seconds_of([&] {
        for (const std::string& name : names) keep(reader.find(name).has_value());
      });
      return 1e9 * seconds / static_cast<double>(names.size());
    };
    report_.add({"lookup", std::move(params), repeated(look_up_all), "ns", "", 0,
                 Goal{Goal::Of::value, Goal::Bound::max, 1000}});
  }

  Result<void> first_touch(unsigned threads) {
    const Reader faulted = open_or_throw(big_file());
    if (faulted.source().mapping().empty()) return {};  // Nothing to compare a map with.
    std::vector<std::vector<Bytes>> tensors;            // The blocks of each.
    std::uint64_t bytes = 0;
    std::uint64_t block_count = 0;
    for (const Tensor& tensor : tensors_of(faulted)) {
      tensors.push_back(blocks_of(faulted, tensor));
      block_count += tensors.back().size();
      for (const Bytes block : tensors.back()) {
        keep(sum_words(block));  // Faults the pages in.
        bytes += block.size();
      }
    }
    if (bytes == 0) return {};
    const auto reference = [&] {
      const double seconds = seconds_of([&] {
        for_each_index(tensors.size(), threads, [&](std::size_t i) {
          thread_local OpensslDigest openssl;
          for (const Bytes block : tensors[i]) openssl.hash(block);
        });
      });
      return static_cast<double>(bytes) / seconds / kGiga;
    };
    const auto ours = [&] {
      const Reader reader = open_or_throw(big_file());  // A new map, with no page in it.
      const std::vector<Tensor> unverified = tensors_of(reader);
      const double seconds = seconds_of(
          [&] { for_each_index(unverified.size(), threads, [&](std::size_t i) { require(unverified[i].verify()); }); });
      return static_cast<double>(bytes) / seconds / kGiga;
    };
    const Pair rates = interleaved(reference, ours);
    const bool has_sha_unit = sha256_implementation() == "shani";
    report_.add({"first_touch",
                 {{"threads", threads}, {"bytes", bytes}, {"blocks", block_count}},
                 rates.ours,
                 "GB/s",
                 "OpenSSL SHA-256 of the same blocks in a map whose pages are there",
                 rates.reference.median,
                 Goal{Goal::Of::ratio, Goal::Bound::min, has_sha_unit ? 2.5 : 1.0}});
    return {};
  }

  // Verified blocks again: first the step alone, then every byte.
  Result<void> walk() {
    const Reader reader = open_or_throw(big_file());
    std::vector<Tensor> raw;
    std::vector<Bytes> contents;
    for (const Tensor& tensor : tensors_of(reader)) {
      if (auto bytes = tensor.contiguous(); bytes && !bytes->empty()) {
        raw.push_back(tensor);
        contents.push_back(*bytes);
      }
    }
    if (raw.empty()) return {};
    add_second_touch(reader, raw);
    const auto reference = [&] {
      std::uint64_t bytes = 0;
      const double seconds = seconds_of([&] {
        for (const Bytes content : contents) {
          keep(sum_words(content));
          bytes += content.size();
        }
      });
      return static_cast<double>(bytes) / seconds / kGiga;
    };
    const auto ours = [&] {
      std::uint64_t bytes = 0;
      const double seconds = seconds_of([&] {
        for_each_block(raw, [&](const Block& block) {
          keep(sum_words(block.data));
          bytes += block.data.size();
        });
      });
      return static_cast<double>(bytes) / seconds / kGiga;
    };
    const Pair rates = interleaved(reference, ours);
    report_.add({"raw_iteration",
                 {{"tensors", raw.size()}},
                 rates.ours,
                 "GB/s",
                 "adding up the words of the same map",
                 rates.reference.median,
                 Goal{Goal::Of::ratio, Goal::Bound::min, 0.9}});
    return {};
  }

  void add_second_touch(const Reader& reader, const std::vector<Tensor>& raw) {
    constexpr int kPasses = 50;
    const std::uint64_t hashed = reader.statistics().bytes_hashed;
    std::uint64_t blocks = 0;
    const auto step = [&] {
      blocks = 0;
      const double seconds = seconds_of([&] {
        for (int pass = 0; pass < kPasses; ++pass) {
          for_each_block(raw, [&](const Block& block) {
            keep(block.data.data());
            ++blocks;
          });
        }
      });
      return 1e9 * seconds / static_cast<double>(blocks);
    };
    const Samples time = repeated(step);
    report_.add({"second_touch",
                 {{"blocks", blocks / kPasses}, {"bytes_hashed", reader.statistics().bytes_hashed - hashed}},
                 time,
                 "ns",
                 "",
                 0,
                 Goal{Goal::Of::value, Goal::Bound::max, 50}});
  }

  static void for_each_block(const std::vector<Tensor>& tensors, const std::function<void(const Block&)>& use) {
    for (const Tensor& tensor : tensors) {
      auto range = tensor.blocks();
      if (!range) throw Failure(range.error());
      for (const Result<Block>& block : *range) {
        if (!block) throw Failure(block.error());
        use(*block);
      }
    }
  }

  Result<void> overheads() {
    struct Sample {
      const char* name;
      SampleModel model;
      double limit_percent;
    };
    const Sample samples[] = {{"MiniLM cb8", minilm_shapes(), 0.3},
                              {"4 GiB exact", four_gib_shapes(), 0.02},
                              {"LoRA rank 16 exact", lora_shapes(), 1}};
    for (const Sample& sample : samples) {
      const std::string path = scratch_.path("model");
      if (auto result = write_sample(sample.model, path, stop_); !result) return result;
      if (auto result = overhead(sample.name, path, sample.limit_percent); !result) return result;
      std::filesystem::remove(path);
    }
    return {};
  }

  // Index, footer and records (with head and tail), in percent of the file. Gaps of alignment stand beside.
  Result<void> overhead(const std::string& name, const std::string& path, std::optional<double> limit_percent) {
    const Reader reader = open_or_throw(path);
    std::uint64_t data = 0;
    std::uint64_t index = 0;
    std::uint64_t records = 0;
    for (std::uint32_t i = 0; i < reader.item_count(); ++i) {
      const Item item = reader.item(i);
      for (std::uint32_t plane = 0; plane < item.plane_count(); ++plane) data += item.plane(plane).stored_bytes;
      index += 64 * item.block_count();
      records += item.record_bytes();
    }
    constexpr std::uint64_t kHeadAndTail = 64 + 256;  // spec/format.md, section 5.
    const std::uint64_t structure = index + records + reader.footer_bytes() + kHeadAndTail;
    const auto file = static_cast<double>(reader.file_bytes());
    const double percent = 100 * static_cast<double>(structure) / file;
    Row row{"overhead",
            {{"model", name},
             {"file_bytes", reader.file_bytes()},
             {"index", index},
             {"footer", reader.footer_bytes()},
             {"records", records},
             {"gaps", reader.file_bytes() - data - structure}},
            {percent, percent, percent},
            "%",
            "",
            0,
            {}};
    if (limit_percent) row.goal = Goal{Goal::Of::value, Goal::Bound::max, *limit_percent};
    report_.add(std::move(row));
    return {};
  }

  Result<void> convert_memory() {
    auto peak = peak_memory_of_convert(options_.program, scratch_, stop_);
    if (!peak) return std::move(peak).error();
    report_.add({"convert_memory",
                 {{"source_bytes", peak->source_bytes},
                  {"limit_mib", kConvertLimitMebibytes},
                  {"completed", peak->completed},
                  {"seconds", peak->seconds}},
                 {peak->mebibytes, peak->mebibytes, peak->mebibytes},
                 "MiB",
                 "",
                 0,
                 Goal{Goal::Of::value, Goal::Bound::max, kConvertLimitMebibytes}});
    return {};
  }

  const IoOptions& options_;
  Report& report_;
  const std::atomic<bool>& stop_;
  Scratch scratch_;
};

}  // namespace

Result<void> run_io(const IoOptions& options, Report& report, const std::atomic<bool>& stop) {
  return IoBench(options, report, stop).run();
}

}  // namespace cdna::tools::bench
