// Tied tensors are found exactly, and finding them reads each byte of the model at most once, whatever the model.
#include "libcdna/convert/tied_tensors.hpp"

#include <algorithm>
#include <catch2/catch.hpp>
#include <map>
#include <random>

namespace {

using Bytes = std::vector<std::byte>;
using Aliases = std::vector<std::optional<std::size_t>>;

// Tensors in memory, and how much of them has been read.
class CountingModel final : public cdna::Model {
 public:
  void add(Bytes bytes, cdna::DType dtype = cdna::DType::u8) {
    const std::uint64_t size = bytes.size();
    tensors_.push_back({"t" + std::to_string(tensors_.size()), dtype, {size * 8 / cdna::bits_of(dtype)}, size});
    contents_.push_back(std::move(bytes));
  }

  std::span<const cdna::ModelTensor> tensors() const override { return tensors_; }
  cdna::Result<void> read(std::size_t tensor, std::uint64_t offset, std::span<std::byte> out) const override {
    read_bytes += out.size();
    if (read_bytes > stop_after_bytes) stop->store(true);
    std::copy_n(contents_[tensor].begin() + static_cast<std::ptrdiff_t>(offset), out.size(), out.begin());
    return {};
  }
  const cdna::Metadata& metadata() const override { return metadata_; }
  std::span<const cdna::ModelAsset> assets() const override { return {}; }
  cdna::Result<void> read_asset(std::size_t, std::uint64_t, std::span<std::byte>) const override { return {}; }
  std::span<const std::string> notes() const override { return {}; }

  const Bytes& content(std::size_t tensor) const { return contents_[tensor]; }
  std::uint64_t all_bytes() const {
    std::uint64_t sum = 0;
    for (const Bytes& content : contents_) sum += content.size();
    return sum;
  }

  mutable std::uint64_t read_bytes = 0;
  std::uint64_t stop_after_bytes = ~std::uint64_t{0};
  std::atomic<bool>* stop = nullptr;

 private:
  std::vector<cdna::ModelTensor> tensors_;
  std::vector<Bytes> contents_;
  cdna::Metadata metadata_;
};

std::vector<cdna::Role> embeddings(const CountingModel& model) {
  return std::vector<cdna::Role>(model.tensors().size(), cdna::Role::embedding);
}

Bytes zeros_but(std::size_t size, std::size_t at, unsigned value) {
  Bytes bytes(size);
  bytes[at] = static_cast<std::byte>(value);
  return bytes;
}

// By comparison of all with all.
Aliases expected_aliases(const CountingModel& model) {
  Aliases out(model.tensors().size());
  for (std::size_t i = 0; i < out.size(); ++i) {
    for (std::size_t j = 0; j < i && !out[i]; ++j) {
      const bool equal = model.tensors()[i].dtype == model.tensors()[j].dtype &&
                         model.tensors()[i].shape == model.tensors()[j].shape && model.content(i) == model.content(j);
      if (equal && !out[j] && !model.content(i).empty()) out[i] = j;
    }
  }
  return out;
}

}  // namespace

TEST_CASE("tied tensors: a model whose embeddings differ in their last byte only is read once") {
  CountingModel model;
  for (unsigned i = 0; i < 200; ++i) model.add(zeros_but(20'000, 19'999, i));
  const std::atomic<bool> stop{false};
  const auto aliases = cdna::find_tied_tensors(model, embeddings(model), &stop);
  REQUIRE(aliases);
  CHECK(*aliases == Aliases(200));
  CHECK(model.read_bytes <= model.all_bytes());
  CHECK(model.read_bytes >= model.all_bytes() - 200);  // They are equal up to the end: all had to be read.
}

TEST_CASE("tied tensors: the bytes read grow as the model does") {
  std::vector<std::uint64_t> read;
  for (const unsigned count : {25U, 50U, 100U}) {
    CountingModel model;
    for (unsigned i = 0; i < count; ++i) model.add(zeros_but(100'000, i % 2 == 0 ? 4096 : 99'999, i));
    const std::atomic<bool> stop{false};
    REQUIRE(cdna::find_tied_tensors(model, embeddings(model), &stop));
    CHECK(model.read_bytes <= model.all_bytes());
    read.push_back(model.read_bytes);
  }
  CHECK(read[1] <= read[0] * 21 / 10);
  CHECK(read[2] <= read[1] * 21 / 10);
}

TEST_CASE("tied tensors: embeddings that begin differently cost one small read each") {
  CountingModel model;
  for (unsigned i = 0; i < 100; ++i) model.add(zeros_but(1'000'000, i, 1));
  const std::atomic<bool> stop{false};
  REQUIRE(cdna::find_tied_tensors(model, embeddings(model), &stop));
  CHECK(model.read_bytes == 100 * 4096);
}

TEST_CASE("tied tensors: what is found is what comparing all with all finds") {
  constexpr unsigned kSeed = 11;
  CAPTURE(kSeed);
  std::mt19937 random(kSeed);
  std::size_t tied = 0;
  for (int round = 0; round < 100; ++round) {
    CountingModel model;
    for (int i = 0; i < 12; ++i) {
      const std::size_t size = std::array<std::size_t, 6>{0, 4, 4096, 4100, 9000, 300'000}[random() % 6];
      const std::size_t at = random() % 2 == 0 ? 0 : size - 1;
      model.add(size == 0 ? Bytes() : zeros_but(size, at, random() % 2),
                random() % 4 == 0 ? cdna::DType::f32 : cdna::DType::i32);
    }
    const std::atomic<bool> stop{false};
    const auto aliases = cdna::find_tied_tensors(model, embeddings(model), &stop);
    REQUIRE(aliases);
    CHECK(*aliases == expected_aliases(model));
    CHECK(model.read_bytes <= model.all_bytes());
    tied += static_cast<std::size_t>(std::count_if(aliases->begin(), aliases->end(), [](auto a) { return a; }));
  }
  CHECK(tied > 100);
}

TEST_CASE("tied tensors: a tensor of another role is not read") {
  CountingModel model;
  model.add(Bytes(5000));
  model.add(Bytes(5000));
  const std::atomic<bool> stop{false};
  const auto aliases = cdna::find_tied_tensors(model, {cdna::Role::output_head, cdna::Role::matrix}, &stop);
  REQUIRE(aliases);
  CHECK(*aliases == Aliases(2));
  CHECK(model.read_bytes == 0);  // Nothing to compare with.
}

TEST_CASE("tied tensors: the stop flag ends the search") {
  CountingModel model;
  for (unsigned i = 0; i < 50; ++i) model.add(zeros_but(100'000, 99'999, i));
  std::atomic<bool> stop{false};
  model.stop = &stop;
  model.stop_after_bytes = 300'000;
  const auto aliases = cdna::find_tied_tensors(model, embeddings(model), &stop);
  REQUIRE_FALSE(aliases);
  CHECK(aliases.error().code == cdna::Code::cancelled);
  CHECK(model.read_bytes < 600'000);
}
