// The files that tests upload.
#include "sample_model.hpp"

#include <utility>

#include "cdna/preset.hpp"
#include "tests/tensor_file.hpp"

namespace cdna::test {
namespace {

void add_tensor(Writer& writer, const std::string& name, const std::string& preset, std::vector<std::uint64_t> shape,
                DType dtype, Codec codec, std::uint64_t seed) {
  std::uint64_t count = 1;
  for (const std::uint64_t each : shape) count *= each;
  const Bytes bytes = bytes_of(dtype, heavy_values(seed, count));
  const Preset how = must(parse_preset(preset));
  TensorSpec spec;
  spec.name = name;
  spec.dtype = dtype;
  spec.shape = std::move(shape);
  spec.codec = codec;
  if (how.method == Preset::Method::exact_z) {
    spec.codec = Codec::zstd;
    spec.filter = Filter::byte_planes;
  }
  if (how.method == Preset::Method::codebook) {
    must(writer.add_codebook(spec, how.codebook, reader_of(bytes)));
  } else {
    must(writer.add_exact(spec, reader_of(bytes)));
  }
}

}  // namespace

std::vector<std::byte> model_bytes(Codec codec) {
  return write_file({}, [codec](Writer& writer) {
    std::uint64_t seed = 1;
    for (const std::string_view preset : preset_names())
      add_tensor(writer, "layer." + std::string(preset), std::string(preset), {37, 300}, DType::f32, codec, seed++);
    for (const char* const preset : {"cb8,class=pwl16", "cb8,class=affine", "cb5g32,class=pwl16", "cb8,k=100",
                                     "cb4g32,k=5", "cb8,outliers=0.05", "cb6g64,outliers=0"})
      add_tensor(writer, std::string("other.") + preset, preset, {50, 3, 70}, DType::bf16, codec, seed++);
    add_tensor(writer, "bias", "exact", {300}, DType::f16, codec, seed++);
    add_tensor(writer, "empty", "exact", {0, 5}, DType::f16, codec, seed++);
    must(writer.add_alias("tied", 0));
  });
}

std::vector<std::byte> small_model_bytes() {
  CodebookShape shape;
  shape.rows = 20;
  shape.cols = 200;
  shape.bits = 4;
  shape.group = 64;
  shape.outlier_dtype = DType::f16;
  return file_of(random_planes(shape, 2), {8, 1, Codec::raw});
}

cdna_cuda_linear_call linear_call(const std::vector<cdna_cuda_segment>& segments, const std::vector<float>& x,
                                  std::uint32_t m, std::vector<float>& y, std::int64_t y_stride) {
  cdna_cuda_linear_call call = CDNA_CUDA_LINEAR_CALL_INIT;
  call.segments = segments.data();
  call.segment_count = static_cast<std::uint32_t>(segments.size());
  call.x = x.data();
  call.x_stride = static_cast<std::int64_t>(x.size() / m);
  call.x_type = CDNA_CUDA_F32;
  call.m = m;
  call.y = y.data();
  call.y_stride = y_stride;
  call.y_type = CDNA_CUDA_F32;
  return call;
}

}  // namespace cdna::test
