// Arrays as tensors; what cannot be read in pieces is kept until another is asked for.
#include "libcdna/import/numpy/numpy_model.hpp"

#include <algorithm>
#include <cassert>
#include <utility>
#include <vector>

#include "libcdna/import/numpy/npy.hpp"
#include "libcdna/import/numpy/open_array.hpp"
#include "libcdna/import/numpy/zip.hpp"
#include "libcdna/import/source_integrity.hpp"
#include "libcdna/no_throw.hpp"
#include "libcdna/try.hpp"

namespace cdna {
namespace {

constexpr std::string_view kEnding = ".npy";

// What arrays are read through: the last one that was opened stays open.
class ArrayModel : public Model {
 public:
  std::span<const ModelTensor> tensors() const override { return tensors_; }
  const Metadata& metadata() const override { return metadata_; }
  std::span<const ModelAsset> assets() const override { return {}; }
  std::span<const std::string> notes() const override { return notes_; }

  Result<void> read(std::size_t tensor, std::uint64_t offset, std::span<std::byte> out) const override {
    assert(tensor < tensors_.size() && offset <= tensors_[tensor].size_bytes);
    assert(out.size() <= tensors_[tensor].size_bytes - offset);
    if (out.empty()) return {};
    return no_throw([&]() -> Result<void> {
      auto result = last_.read(
          tensor, [this](std::size_t number) { return open_array(number); }, offset, out);
      if (!result) result.error().item = tensors_[tensor].name;
      return result;
    });
  }

  Result<void> read_asset(std::size_t, std::uint64_t, std::span<std::byte>) const override {
    return no_throw([]() -> Result<void> { return fail(Code::bad_argument, "", "arrays have no assets"); });
  }

 protected:
  virtual Result<OpenArray> open_array(std::size_t tensor) const = 0;

  std::vector<ModelTensor> tensors_;
  std::vector<NpyHeader> headers_;
  Metadata metadata_;
  std::vector<std::string> notes_;

 private:
  LastArray last_;
};

class NpyModel final : public ArrayModel {
 public:
  NpyModel(std::unique_ptr<Source> source, NpyHeader header, std::string tensor) : source_(std::move(source)) {
    tensors_.push_back(array_tensor(std::move(tensor), header));
    headers_.push_back(std::move(header));
    state_integrity("none", "a .npy file has no checksum", metadata_, notes_);
  }

 private:
  Result<OpenArray> open_array(std::size_t tensor) const override { return OpenArray::open(source_, headers_[tensor]); }

  std::shared_ptr<const Source> source_;
};

class NpzModel final : public ArrayModel {
 public:
  explicit NpzModel(ZipArchive archive) : archive_(std::move(archive)) {
    state_integrity("checksums", "a .npz file has a CRC-32 of each array", metadata_, notes_);
  }

  // Reads the headers of all arrays.
  Result<void> add_members() {
    for (std::size_t i = 0; i < archive_.members().size(); ++i) {
      const ZipMember& member = archive_.members()[i];
      if (member.name.ends_with(kEnding)) {
        CDNA_TRY(add(i));
      } else {
        notes_.push_back(escape(member.name) + ": not an array");
      }
    }
    sort_tensors();
    return {};
  }

 private:
  Result<void> add(std::size_t number) {
    const ZipMember& member = archive_.members()[number];
    const std::vector<std::byte> head = CDNA_TRY(archive_.read_head(number, kNpyHeaderBytesMax));
    auto header = parse_npy_header(head, member.size_bytes);
    const std::string name = member.name.substr(0, member.name.size() - kEnding.size());
    if (!header) {
      Error& error = header.error();
      error.item = name;
      if (error.offset != kNoOffset) error.offset = member.is_deflated ? kNoOffset : member.data_begin + error.offset;
      return error;
    }
    tensors_.push_back(array_tensor(name, *header));
    headers_.push_back(*std::move(header));
    members_.push_back(number);
    return {};
  }

  // Members are in the order of their names with the ending, "a.b.npy" before "a.npy".
  void sort_tensors() {
    std::vector<std::size_t> order(tensors_.size());
    for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
    std::sort(order.begin(), order.end(),
              [&](std::size_t a, std::size_t b) { return tensors_[a].name < tensors_[b].name; });
    std::vector<ModelTensor> tensors;
    std::vector<NpyHeader> headers;
    std::vector<std::size_t> members;
    for (const std::size_t i : order) {
      tensors.push_back(std::move(tensors_[i]));
      headers.push_back(std::move(headers_[i]));
      members.push_back(members_[i]);
    }
    tensors_ = std::move(tensors);
    headers_ = std::move(headers);
    members_ = std::move(members);
  }

  // A member's checksum is checked whenever it becomes the last that was opened.
  Result<OpenArray> open_array(std::size_t tensor) const override {
    std::shared_ptr<const Source> member = CDNA_TRY(archive_.open_member(members_[tensor]));
    return OpenArray::open(std::move(member), headers_[tensor]);
  }

  ZipArchive archive_;
  std::vector<std::size_t> members_;  // Of each tensor.
};

bool is_pickle(const ZipMember& member) { return member.name == "data.pkl" || member.name.ends_with("/data.pkl"); }

Result<std::unique_ptr<Model>> open_npz(std::shared_ptr<const Source> source) {
  ZipArchive archive = CDNA_TRY(ZipArchive::open(std::move(source)));
  const auto members = archive.members();
  CDNA_CHECK(std::none_of(members.begin(), members.end(), is_pickle), Code::unsupported, "",
             "an archive of torch.save, whose pickle could run any code when it is loaded, so it is not read; save it "
             "as safetensors");
  auto model = std::make_unique<NpzModel>(std::move(archive));
  CDNA_TRY(model->add_members());
  CDNA_CHECK(!model->tensors().empty(), Code::unsupported, "", "a zip archive without arrays (NAME.npy)");
  return std::unique_ptr<Model>(std::move(model));
}

Result<std::unique_ptr<Model>> with_file(Result<std::unique_ptr<Model>> result, const std::string& file) {
  if (!result && result.error().file.empty()) result.error().file = file;
  return result;
}

}  // namespace

Result<std::unique_ptr<Model>> open_npy_model(std::unique_ptr<Source> source, std::string tensor) {
  assert(source != nullptr);
  return no_throw([&]() -> Result<std::unique_ptr<Model>> {
    NpyHeader header = CDNA_TRY(read_npy_header(*source));
    return std::unique_ptr<Model>(std::make_unique<NpyModel>(std::move(source), std::move(header), std::move(tensor)));
  });
}

Result<std::unique_ptr<Model>> open_npz_model(std::unique_ptr<Source> source) {
  assert(source != nullptr);
  return no_throw([&] {
    const std::string name(source->name());
    return with_file(open_npz(std::move(source)), name);
  });
}

}  // namespace cdna
