// Shapes and bytes.
#include "tools/bench/sample_models.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <system_error>

#include "cdna/policy.hpp"

namespace cdna::tools::bench {
namespace {

const Preset kCb8{Preset::Method::codebook, {}};

TensorSpec tensor(std::string name, DType dtype, std::vector<std::uint64_t> shape) {
  TensorSpec spec;
  spec.role = role_of(name, dtype, shape);
  spec.name = std::move(name);
  spec.dtype = dtype;
  spec.shape = std::move(shape);
  return spec;
}

// Noise that costs less than writing it: a linear congruential sequence, as floats of the dtype within about ±0.1.
Result<void> fill_random(DType dtype, std::uint64_t offset, std::span<std::byte> out) {
  const std::uint64_t element_bytes = bits_of(dtype) / 8;
  std::uint64_t state = (offset / element_bytes + 1) * 0x9E3779B97F4A7C15;
  for (std::size_t at = 0; at < out.size(); at += element_bytes) {
    state = state * 6364136223846793005 + 1442695040888963407;
    const float value = (static_cast<float>(state >> 40) / 0x1p24F - 0.5F) * 0.2F;
    std::uint32_t bits = 0;
    std::memcpy(&bits, &value, sizeof bits);
    if (dtype == DType::bf16) bits >>= 16;
    std::memcpy(out.data() + at, &bits, std::min<std::size_t>(element_bytes, out.size() - at));
  }
  return {};
}

ByteReader reader_of(Content content, DType dtype) {
  if (content == Content::random)
    return [dtype](std::uint64_t offset, std::span<std::byte> out) { return fill_random(dtype, offset, out); };
  return [](std::uint64_t, std::span<std::byte> out) -> Result<void> {
    std::fill(out.begin(), out.end(), std::byte{0});
    return {};
  };
}

Error io_error(const std::string& path) {
  Error error;
  error.code = Code::io;
  error.message = "cannot write";
  error.file = path;
  error.os_errno = errno;
  return error;
}

// Leaves holes where zeros are written.
class SparseSink final : public Sink {
 public:
  explicit SparseSink(std::string path)
      : path_(std::move(path)), fd_(::open(path_.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600)) {}
  ~SparseSink() override {
    if (is_open()) ::close(fd_);
  }
  bool is_open() const { return fd_ >= 0; }

  Result<void> write(std::span<const std::byte> bytes) override {
    const bool zeros = std::all_of(bytes.begin(), bytes.end(), [](std::byte byte) { return byte == std::byte{0}; });
    const auto size = static_cast<ssize_t>(bytes.size());
    errno = ENOSPC;  // Of a write that is merely short.
    if (!zeros && ::pwrite(fd_, bytes.data(), bytes.size(), position_) != size) return io_error(path_);
    position_ += size;
    return {};
  }
  Result<void> commit() override {
    if (::ftruncate(fd_, position_) != 0) return io_error(path_);
    return {};
  }

 private:
  std::string path_;
  int fd_;
  off_t position_ = 0;
};

Result<std::unique_ptr<Sink>> sink_for(Content content, const std::string& path) {
  if (content == Content::random) return create_file(path);
  auto sink = std::make_unique<SparseSink>(path);
  if (!sink->is_open()) return io_error(path);
  return std::unique_ptr<Sink>(std::move(sink));
}

}  // namespace

Scratch::Scratch() {
  const char* const folder = std::getenv("TMPDIR");
  std::string pattern = std::string(folder == nullptr || *folder == '\0' ? "/tmp" : folder) + "/cdna-bench-XXXXXX";
  if (::mkdtemp(pattern.data()) == nullptr) throw std::system_error(errno, std::generic_category(), pattern);
  folder_ = pattern;
}

Scratch::~Scratch() {
  std::error_code ignored;
  std::filesystem::remove_all(folder_, ignored);
}

SampleModel minilm_shapes() {
  SampleModel model;
  model.coding = Coding::cb8;
  const auto add = [&model](std::string name, std::vector<std::uint64_t> shape) {
    model.tensors.push_back(tensor(std::move(name), DType::f32, std::move(shape)));
  };
  const auto add_linear = [&add](const std::string& name, std::uint64_t out, std::uint64_t in) {
    add(name + ".weight", {out, in});
    add(name + ".bias", {out});
  };
  const auto add_norm = [&add](const std::string& name) {
    add(name + ".weight", {384});
    add(name + ".bias", {384});
  };
  add("embeddings.word_embeddings.weight", {30522, 384});
  add("embeddings.position_embeddings.weight", {512, 384});
  add("embeddings.token_type_embeddings.weight", {2, 384});
  add_norm("embeddings.LayerNorm");
  for (int layer = 0; layer < 6; ++layer) {
    const std::string prefix = fmt::format("encoder.layer.{}.", layer);
    for (const char* const name : {"query", "key", "value"}) add_linear(prefix + "attention.self." + name, 384, 384);
    add_linear(prefix + "attention.output.dense", 384, 384);
    add_norm(prefix + "attention.output.LayerNorm");
    add_linear(prefix + "intermediate.dense", 1536, 384);
    add_linear(prefix + "output.dense", 384, 1536);
    add_norm(prefix + "output.LayerNorm");
  }
  add_linear("pooler.dense", 384, 384);
  return model;
}

SampleModel four_gib_shapes() {
  SampleModel model;
  model.content = Content::zeros;
  const auto add = [&model](std::string name, std::vector<std::uint64_t> shape) {
    model.tensors.push_back(tensor(std::move(name), DType::bf16, std::move(shape)));
  };
  add("model.embed_tokens.weight", {32000, 2560});
  for (int layer = 0; layer < 24; ++layer) {
    const std::string prefix = fmt::format("model.layers.{}.", layer);
    for (const char* const name : {"q", "k", "v", "o"})
      add(prefix + "self_attn." + name + "_proj.weight", {2560, 2560});
    for (const char* const name : {"gate", "up"}) add(prefix + "mlp." + name + "_proj.weight", {6912, 2560});
    add(prefix + "mlp.down_proj.weight", {2560, 6912});
    for (const char* const name : {"input", "post_attention"}) add(prefix + name + "_layernorm.weight", {2560});
  }
  add("model.norm.weight", {2560});
  add("lm_head.weight", {32000, 2560});
  std::uint64_t bytes = 0;
  for (const TensorSpec& spec : model.tensors) {
    std::uint64_t elements = 2;
    for (const std::uint64_t dim : spec.shape) elements *= dim;
    bytes += elements;
  }
  const std::uint64_t missing = (std::uint64_t{4} << 30) - bytes;
  add("model.rest.weight", {missing / 2 / 2560, 2560});
  return model;
}

SampleModel lora_shapes() {
  SampleModel model;
  model.content = Content::zeros;
  for (int layer = 0; layer < 48; ++layer) {
    for (const char* const name : {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
                                   "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"}) {
      const std::string prefix = fmt::format("base_model.model.model.layers.{}.{}.", layer, name);
      model.tensors.push_back(tensor(prefix + "lora_A.weight", DType::bf16, {16, 4096}));
      model.tensors.push_back(tensor(prefix + "lora_B.weight", DType::bf16, {4096, 16}));
    }
  }
  return model;
}

SampleModel many_tensors(std::uint32_t count, Coding coding) {
  SampleModel model;
  model.coding = coding;
  for (std::uint32_t i = 0; i < count; ++i)
    model.tensors.push_back(
        tensor(fmt::format("model.layers.{}.mlp.experts.{}.down_proj.weight", i / 128, i % 128), DType::f32, {32, 32}));
  return model;
}

SampleModel big_matrices(std::uint32_t count) {
  SampleModel model;
  for (std::uint32_t i = 0; i < count; ++i)
    model.tensors.push_back(tensor(fmt::format("model.layers.{}.mlp.down_proj.weight", i), DType::bf16, {2048, 4096}));
  return model;
}

Result<void> write_sample(const SampleModel& model, const std::string& path, const std::atomic<bool>& stop) {
  auto sink = sink_for(model.content, path);
  if (!sink) return std::move(sink).error();
  WriterOptions options;
  options.threads = 0;
  options.stop = &stop;
  auto writer = Writer::create(*std::move(sink), options);
  if (!writer) return std::move(writer).error();
  for (const TensorSpec& spec : model.tensors) {
    const ByteReader data = reader_of(model.content, spec.dtype);
    const bool coded = model.coding == Coding::codebook ||
                       (model.coding == Coding::cb8 && decide(kCb8, spec.name, spec.dtype, spec.shape).preset == kCb8);
    const auto added = coded ? writer->add_codebook(spec, {}, data) : writer->add_exact(spec, data);
    if (!added) return added.error();
  }
  if (auto root = writer->finish(); !root) return std::move(root).error();
  return {};
}

}  // namespace cdna::tools::bench
