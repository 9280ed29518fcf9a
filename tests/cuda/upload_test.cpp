// Uploads to the device, a real or the emulated one: everything that a file can hold arrives as it is, or is refused
// with nothing left.
#include <catch2/catch.hpp>
#include <cmath>
#include <cstdio>
#include <cstring>

#include "cdna/encode.hpp"
#include "cdna/matmul.hpp"
#include "fresh_device.hpp"
#include "libcdna_cuda/model.hpp"
#include "tests/matmul_reference.hpp"
#include "tests/tensor_file.hpp"

using namespace cdna;
using namespace cdna::test;

TEST_CASE_METHOD(FreshDevice, "upload: tensors of every preset and codec arrive bit for bit") {
  for (const Codec codec : {Codec::raw, Codec::zstd, Codec::brotli}) {
    const SavedFile file(model_bytes(codec));
    for (const std::uint64_t pinned : {std::uint64_t{8192}, std::uint64_t{1} << 20}) {
      for (const std::uint32_t threads : {1U, 3U}) {
        CAPTURE(static_cast<int>(codec), pinned, threads);
        const ModelHandle model = uploaded(file, upload_options(pinned, threads));
        CHECK(cdna_cuda_tensor_count(model.get()) == file.reader().tensor_count());
        CHECK(differences(file, model) == "");
      }
    }
  }
  CHECK(device_faults() == "");
}

TEST_CASE_METHOD(SampleModel, "upload: curves are used where they hold and kernels can use them") {
  const ModelHandle model = uploaded(file);
  const auto curve = [&](const char* name) { return info_of(model, number_of(model, name)).curve; };
  CHECK(curve("other.cb8,class=pwl16") == CDNA_CUDA_CURVE_PWL);
  CHECK(curve("other.cb5g32,class=pwl16") == CDNA_CUDA_CURVE_PWL);
  CHECK(curve("other.cb8,class=affine") == CDNA_CUDA_CURVE_AFFINE);
  CHECK(curve("layer.cb8") == CDNA_CUDA_CURVE_NONE);
  for (const char* const name : {"other.cb8,class=pwl16", "other.cb5g32,class=pwl16", "other.cb8,class=affine"}) {
    CAPTURE(name);
    const cdna::cuda::Model& inside = model->model;
    const cdna_cuda::Weights& w = inside.tensors[inside.names[number_of(model, name)].tensor].weights;
    const bool pwl = w.curve == cdna_cuda::Curve::pwl;
    const std::size_t count = std::size_t{1} << w.bits;
    const auto entries = DeviceArray<std::uint16_t>::copy_of(w.codebook, count);
    const auto lines = DeviceArray<std::uint16_t>::copy_of(w.lines, pwl ? 32 : 2);
    const std::size_t segment = pwl ? count / 16 : count;
    for (std::size_t i = 0; i < count; ++i) {
      const double base = value_of_f16(lines[i / segment * 2]);
      const double step = value_of_f16(lines[i / segment * 2 + 1]);
      CHECK(std::abs(value_of_f16(entries[i]) - (base + static_cast<double>(i % segment) * step)) <=
            0x1p-11 * std::abs(value_of_f16(entries[i])) + 0x1p-25);
    }
  }
}

TEST_CASE_METHOD(FreshDevice, "upload: codes of every width, scales of every type, and small blocks") {
  std::uint64_t seed = 0;
  for (std::uint32_t bits = 1; bits <= 8; ++bits) {
    for (const auto& [group, group_dtype] :
         {std::pair{0U, DType::u8}, {32U, DType::u8}, {64U, DType::f16}, {128U, DType::bf16}, {32U, DType::f32}}) {
      for (const DType outliers : {DType::none, DType::f16, DType::bf16, DType::f32, DType::f64}) {
        CodebookShape shape;
        shape.rows = 21 + bits;
        shape.cols = 130 + 37 * (seed % 7);
        shape.bits = bits;
        shape.codebook_dtype = seed % 3 == 0 ? DType::f32 : DType::f16;
        shape.row_scales = seed % 4 != 0;
        shape.group = group;
        shape.group_dtype = group_dtype;
        shape.outlier_dtype = outliers;
        CodebookPlanes planes = random_planes(shape, ++seed);
        if (shape.codebook_dtype == DType::f32) {
          for (double& entry : planes.codebook) entry = value_of_f16(f16_of(entry));
        }
        BlockLayout layout;
        layout.rows_per_block = static_cast<std::uint32_t>(1 + seed % 13);
        layout.side_factor = static_cast<std::uint32_t>(1 + seed % 2);
        layout.coding = seed % 2 == 0 ? Codec::zstd : Codec::raw;
        const SavedFile file(file_of(planes, layout));
        CAPTURE(bits, group, static_cast<int>(outliers), shape.cols, layout.rows_per_block);
        const ModelHandle model = uploaded(file, upload_options(8192, 2));
        CHECK(differences(file, model) == "");
        CHECK(info_of(model, 0).outlier_count == planes.outliers.size());
      }
    }
  }
  CHECK(device_faults() == "");
}

TEST_CASE_METHOD(FreshDevice, "upload: rows that are cut") {
  CodebookShape shape;
  shape.rows = 2;
  shape.cols = (1 << 20) + 333;
  shape.bits = 5;
  shape.group = 128;
  shape.outlier_dtype = DType::f16;
  shape.elements_per_outlier = 5000;
  BlockLayout layout;
  layout.rows_per_block = 0;
  const SavedFile file(file_of(random_planes(shape, 5), layout));
  CHECK(differences(file, uploaded(file, upload_options(1 << 16, 2))) == "");
  cdna_cuda_upload_options options = upload_options(0, 2);
  options.row_begin = 1;
  CHECK(differences(file, uploaded(file, options)) == "");
  CHECK(device_faults() == "");
}

TEST_CASE_METHOD(FreshDevice, "upload: exact tensors of every dtype") {
  TensorFile out;
  for (std::uint8_t id = 1; id <= kDTypeLast; ++id) {
    const auto dtype = static_cast<DType>(id);
    Random random(id);
    Bytes elements = random.bytes((20 * bits_of(dtype) + 7) / 8 * 9);
    if (dtype == DType::boolean) {
      for (std::byte& each : elements) each &= std::byte{1};
    }
    out.add_exact("t" + std::to_string(id), dtype, 9, 20, elements, {4, 1, Codec::raw});
  }
  const SavedFile file(out.finish());
  const ModelHandle model = uploaded(file, upload_options(8192, 2));
  CHECK(cdna_cuda_tensor_count(model.get()) == kDTypeLast);
  CHECK(differences(file, model) == "");
}

TEST_CASE_METHOD(FreshDevice, "upload: slices are the rows that were asked for, and shards make up the whole") {
  const SavedFile file(model_bytes(Codec::zstd));
  cdna_cuda_upload_options options = upload_options();
  for (const auto& [begin, end] : {std::pair{0U, 1U}, {5U, 37U}, {17U, 33U}, {36U, 37U}, {30U, 0U}}) {
    CAPTURE(begin, end);
    options.row_begin = begin;
    options.row_end = end;
    const ModelHandle model = uploaded(file, options, "layer.*");
    CHECK(differences(file, model) == "");
    CHECK(info_of(model, 0).row_begin == begin);
    CHECK(info_of(model, 0).rows == (end == 0 ? 37 : end) - begin);
  }
  options.row_end = 38;
  const cdna_cuda_error error = refused(file, options, "layer.cb8");
  CHECK(error.code == CDNA_CUDA_BAD_ARGUMENT);
  CHECK(std::string(error.tensor) == "layer.cb8");

  std::uint64_t next = 0;
  options = upload_options();
  options.shard_count = 5;
  for (; options.shard_index < 5; ++options.shard_index) {
    const ModelHandle model = uploaded(file, options);
    CHECK(differences(file, model) == "");
    const cdna_cuda_tensor_info matrix = info_of(model, number_of(model, "layer.cb8"));
    CHECK(matrix.row_begin == next);
    next += matrix.rows;
    CHECK(info_of(model, number_of(model, "bias")).rows * info_of(model, number_of(model, "bias")).cols == 300);
  }
  CHECK(next == 37);
  CHECK(refused(file, options).code == CDNA_CUDA_BAD_ARGUMENT);
  CHECK(device_faults() == "");
}

TEST_CASE_METHOD(SampleModel, "upload: patterns choose by name, and an alias is its tensor") {
  {
    const ModelHandle model = uploaded(file, upload_options(), "layer.cb?");
    CHECK(cdna_cuda_tensor_count(model.get()) == 1);
    CHECK(std::string(info_of(model, 0).name) == "layer.cb8");
    CHECK(cdna_cuda_find(model.get(), "tied", nullptr, nullptr) == CDNA_CUDA_BAD_ARGUMENT);
    std::uint64_t number = 77;
    cdna_cuda_error error{};
    CHECK(cdna_cuda_find(model.get(), "tied", &number, &error) == CDNA_CUDA_NOT_FOUND);
    CHECK(std::string(error.tensor) == "tied");
    CHECK(number == 77);
  }
  const ModelHandle alone = uploaded(file, upload_options(), "tied");
  CHECK(differences(file, alone) == "");
  const ModelHandle both = uploaded(file, upload_options(), "*e*");
  CHECK(info_of(both, number_of(both, "tied")).device_data ==
        info_of(both, number_of(both, "layer.exact")).device_data);
  CHECK(refused(file, upload_options(), "nothing*").code == CDNA_CUDA_NOT_FOUND);
}

TEST_CASE_METHOD(FreshDevice,
                 "upload: outliers lie by tile, column and row, with their difference to what is decoded") {
  CodebookShape shape;
  shape.rows = 40;
  shape.cols = 300;
  shape.bits = 4;
  shape.group = 32;
  shape.outlier_dtype = DType::bf16;
  shape.elements_per_outlier = 10;
  const CodebookPlanes planes = random_planes(shape, 3);
  const SavedFile file(file_of(planes, {7, 1, Codec::raw}));
  CodebookPlanes bare = planes;
  bare.outlier_dtype = DType::none;
  bare.outliers.clear();
  const SavedFile bare_file(file_of(bare));
  std::vector<float> decoded(shape.rows * shape.cols);
  must_do(
      bare_file.reader().find("w")->read_rows(0, shape.rows, DType::f32, std::as_writable_bytes(std::span(decoded))));
  std::vector<float> values(decoded.size());
  must_do(file.reader().find("w")->read_rows(0, shape.rows, DType::f32, std::as_writable_bytes(std::span(values))));
  cdna_cuda_upload_options options = upload_options(8192, 3);
  options.row_begin = 3;
  const ModelHandle model = uploaded(file, options);
  const cdna_cuda::Weights& w = model->model.tensors[0].weights;
  const std::size_t tiles = cdna_cuda::tiles_of_rows(w.rows) * cdna_cuda::tiles_of_columns(w.cols);
  const auto begin = DeviceArray<std::uint32_t>::copy_of(w.outlier_begin, tiles + 1);
  REQUIRE(begin.front() == 0);
  REQUIRE(begin.back() == info_of(model, 0).outlier_count);
  const auto places = DeviceArray<std::uint32_t>::copy_of(w.outlier_places, begin.back());
  const auto kept = DeviceArray<float>::copy_of(w.outlier_values, begin.back());
  const auto deltas = DeviceArray<float>::copy_of(w.outlier_deltas, begin.back());
  std::uint64_t expected = 0;
  for (const auto& [element, value] : planes.outliers) expected += element / shape.cols >= 3 ? 1 : 0;
  CHECK(begin.back() == expected);
  for (std::size_t tile = 0; tile < tiles; ++tile) {
    REQUIRE(begin[tile] <= begin[tile + 1]);
    for (std::uint32_t i = begin[tile]; i < begin[tile + 1]; ++i) {
      if (i > begin[tile]) REQUIRE(places[i - 1] < places[i]);
      const std::uint32_t column = places[i] >> 4;
      const std::uint64_t row = tile / cdna_cuda::tiles_of_columns(w.cols) * 16 + places[i] % 16 + 3;
      REQUIRE(column / 128 == tile % cdna_cuda::tiles_of_columns(w.cols));
      const std::size_t element = row * shape.cols + column;
      REQUIRE(planes.outliers.count(element) == 1);
      CHECK(kept[i] == values[element]);
      CHECK(deltas[i] == values[element] - decoded[element]);
    }
  }
}

TEST_CASE_METHOD(FreshDevice,
                 "upload: outliers whose distance from what their codes decode to is beyond f32 are refused") {
  CodebookShape shape;
  shape.rows = 40;
  shape.cols = 64;
  CodebookPlanes planes = random_planes(shape, 1);
  planes.outlier_dtype = DType::f32;
  planes.row_scales[20] = static_cast<float>(3.75e38 / planes.codebook.back());
  const std::uint64_t element = 20 * planes.cols + 5;
  planes.codes[element] = 255;
  planes.outliers[element] = 3.2e38;  // Decoded: an infinity. Their distance: -5.5e37.
  {
    const SavedFile file(file_of(planes));
    cdna_cuda_upload_options options = upload_options(0, 1);
    cdna_cuda_model* model = nullptr;
    CHECK(cdna_cuda_upload(file.path().c_str(), nullptr, &options, &model, nullptr) == CDNA_CUDA_OK);
    cdna_cuda_free(model);
  }
  planes.outliers[element] = -3.2e38;
  const cdna_cuda_error error = refused(SavedFile(file_of(planes)), upload_options(0, 1));
  CHECK(error.code == CDNA_CUDA_UNSUPPORTED);
  CHECK(std::string(error.tensor) == "w");
  CHECK(device_faults() == "");
}

TEST_CASE_METHOD(FreshDevice,
                 "upload: numbers that are not finite although the tensor says so are damage, with their place") {
  CodebookShape shape;
  shape.rows = 40;
  shape.cols = 64;
  shape.group = 32;
  shape.group_dtype = DType::f16;
  shape.outlier_dtype = DType::f32;
  const CodebookPlanes good = random_planes(shape, 1);
  const double infinite = std::numeric_limits<double>::infinity();
  const auto error_of = [](const CodebookPlanes& planes) {
    const cdna_cuda_error error = refused(SavedFile(file_of(planes)), upload_options(0, 1));
    CHECK(error.code == CDNA_CUDA_MALFORMED);
    CHECK(std::string(error.rule) == "D1");
    CHECK(std::string(error.tensor) == "w");
    CHECK(device_faults() == "");
    return error;
  };
  CodebookPlanes planes = good;
  planes.row_scales[20] = static_cast<float>(infinite);
  CHECK(error_of(planes).block == 1);
  planes = good;
  planes.group_scales[2 * 35 + 1] = infinite;
  CHECK(error_of(planes).block == 2);
  planes = good;
  planes.outliers[39 * 64] = infinite;
  CHECK(error_of(planes).block == 2);
  planes = good;
  planes.codebook.back() = infinite;
  CHECK(error_of(planes).code == CDNA_CUDA_MALFORMED);
}

TEST_CASE_METHOD(FreshDevice, "upload: what kernels do not know of a codebook is refused, and named") {
  const std::vector<std::byte> codes(4 * 64);
  std::vector<float> codebook(1024);
  for (std::size_t i = 0; i < codebook.size(); ++i) codebook[i] = static_cast<float>(i);
  const std::vector<float> ones(4 * 64, 1.0F);
  const std::span<const float> all(ones);
  const auto error_of = [&](EncodedPlanes planes) {
    planes.bits = 8;
    planes.codebook = std::span<const float>(codebook).first(std::size_t{256} * planes.vector);
    planes.codes = std::span(codes).first(codes.size() / planes.vector);
    const auto bytes = write_file({}, [&](Writer& writer) {
      must(writer.add_encoded({"w", DType::f32, {4, 64}}, planes));
    });
    const cdna_cuda_error error = refused(SavedFile(bytes), upload_options(0, 1));
    CHECK(error.code == CDNA_CUDA_UNSUPPORTED);
    CHECK(std::string(error.tensor) == "w");
    CHECK(device_faults() == "");
    return std::string(error.message);
  };
  const auto says = [](const std::string& message, const char* what) {
    return message.find(what) != std::string::npos;
  };
  EncodedPlanes planes;
  planes.vector = 2;
  CHECK(says(error_of(planes), "codes for 2 elements"));
  planes = {};
  planes.group = 16;
  planes.group_factors = all.first(16);
  CHECK(says(error_of(planes), "groups of 16"));
  planes.group = 32;
  planes.group_factors = planes.group_offsets = all.first(8);
  CHECK(says(error_of(planes), "group offsets"));
  planes = {};
  planes.column_scales = all.first(64);
  CHECK(says(error_of(planes), "column scales"));
  planes = {};
  planes.low_rank_left = all.first(4);
  planes.low_rank_factors = all.first(1);
  planes.low_rank_right = all.first(64);
  CHECK(says(error_of(planes), "low rank"));
}

TEST_CASE("upload: names of codes are those of the header") {
  for (std::int32_t code = 0; code <= 70; ++code) {
    CAPTURE(code);
    const bool is_known = code <= CDNA_CUDA_LIMIT || code == CDNA_CUDA_IO || code == CDNA_CUDA_NO_MEMORY ||
                          (code >= CDNA_CUDA_NOT_FOUND && code <= CDNA_CUDA_CANCELLED) || code == CDNA_CUDA_DEVICE;
    CHECK((std::string(cdna_cuda_code_name(code)) != "") == is_known);
  }
}

TEST_CASE_METHOD(SmallModel, "upload: devices that are not there are refused with the reason") {
  int devices = 0;
  REQUIRE(cudaGetDeviceCount(&devices) == cudaSuccess);
  CHECK(cdna_cuda_device_supported(0, nullptr) == CDNA_CUDA_OK);
  for (const int ordinal : {devices, -1}) {
    CAPTURE(ordinal);
    const cdna_cuda_error error = error_of_device(file, ordinal);
    CHECK(error.code == CDNA_CUDA_NOT_FOUND);
    CHECK(std::string(error.message) != "");
  }
}

TEST_CASE_METHOD(SampleModel, "upload: a budget is enough, or told what it would have to be") {
  cdna_cuda_upload_report report{};
  report.struct_size = sizeof report;
  cdna_cuda_upload_options options = upload_options(1 << 16, 2);
  REQUIRE(cdna_cuda_report(uploaded(file, options).get(), &report, nullptr) == CDNA_CUDA_OK);
  CHECK(report.device_bytes + report.pinned_bytes == report.device_bytes_peak);
  options.device_bytes_max = report.device_bytes_peak;
  CHECK(differences(file, uploaded(file, options)) == "");
  options.device_bytes_max = (1 << 16) - 1;  // Not even the buffer.
  CHECK(refused(file, options).code == CDNA_CUDA_LIMIT);
  options.device_bytes_max = report.device_bytes_peak - 1;
  const cdna_cuda_error error = refused(file, options);
  CHECK(error.code == CDNA_CUDA_LIMIT);
  CHECK(std::string(error.message).find(std::to_string(report.device_bytes_peak)) != std::string::npos);
  CHECK(device_faults() == "");
}

TEST_CASE_METHOD(FreshDevice, "upload: the report tells what every stage did") {
  const SavedFile file(model_bytes(Codec::zstd));
  const ModelHandle model = uploaded(file);
  cdna_cuda_upload_report report{};
  report.struct_size = sizeof report;
  REQUIRE(cdna_cuda_report(model.get(), &report, nullptr) == CDNA_CUDA_OK);
  CHECK(report.threads == 2);
  CHECK(report.bottleneck <= CDNA_CUDA_STAGE_PERMUTE);
  CHECK(report.seconds > 0);
  CHECK(report.stages[CDNA_CUDA_STAGE_FILL].bytes == report.stages[CDNA_CUDA_STAGE_COPY].bytes);
  CHECK(report.stages[CDNA_CUDA_STAGE_PERMUTE].bytes < report.stages[CDNA_CUDA_STAGE_COPY].bytes);
  std::uint64_t stored = 0;
  const Reader reader = file.reader();
  for (std::uint32_t i = 0; i < reader.item_count(); ++i) {
    if (reader.item(i).kind() == ItemKind::tensor) stored += reader.item(i).plane(0).stored_bytes;
  }
  CHECK(report.stages[CDNA_CUDA_STAGE_READ].bytes == stored);
  std::uint64_t bytes = 0;
  for (std::uint64_t i = 0; i < cdna_cuda_tensor_count(model.get()); ++i) {
    if (std::string(info_of(model, i).name) != "tied") bytes += info_of(model, i).device_bytes;
  }
  CHECK(bytes <= report.device_bytes);
  CHECK(report.device_bytes < bytes + 256 * 11 * cdna_cuda_tensor_count(model.get()));
  // A caller of an older version has less of it.
  report = {};
  report.struct_size = 12;
  REQUIRE(cdna_cuda_report(model.get(), &report, nullptr) == CDNA_CUDA_OK);
  CHECK(report.struct_size == 12);
  CHECK(report.threads == 2);
  CHECK(report.seconds == 0);
  report.struct_size = 0;
  CHECK(cdna_cuda_report(model.get(), &report, nullptr) == CDNA_CUDA_BAD_ARGUMENT);
}

namespace {

struct Progress {
  std::uint64_t calls = 0;
  std::uint64_t last = 0;
  std::uint64_t total = 0;
  std::uint64_t cancel_at = 0;  // The number of a call; 0: never.
  bool ascends = true;
};

std::int32_t note_progress(void* context, std::uint64_t done, std::uint64_t total) {
  auto& progress = *static_cast<Progress*>(context);
  progress.ascends = progress.ascends && done >= progress.last && done <= total;
  progress.last = done;
  progress.total = total;
  return ++progress.calls == progress.cancel_at ? 1 : 0;
}

}  // namespace

TEST_CASE_METHOD(SampleModel, "upload: progress ascends to the end, and any call of it can cancel") {
  cdna_cuda_upload_options options = upload_options(8192, 3);
  Progress all;
  options.progress = note_progress;
  options.progress_context = &all;
  uploaded(file, options);
  CHECK(all.ascends);
  CHECK(all.last == all.total);
  REQUIRE(all.calls > 3);
  for (std::uint64_t n = 1; n <= all.calls; ++n) {
    Progress progress;
    progress.cancel_at = n;
    options.progress_context = &progress;
    CHECK(refused(file, options).code == CDNA_CUDA_CANCELLED);
    CHECK(progress.calls == n);
  }
  CHECK(device_faults() == "");
}

TEST_CASE_METHOD(FreshDevice, "upload: a damaged block is told with tensor, block and place, and nothing is left") {
  CodebookShape shape;
  shape.rows = 40;
  shape.cols = 100;
  shape.outlier_dtype = DType::f16;
  const Bytes good = file_of(random_planes(shape, 9), {10, 1, Codec::raw});
  Random random(4);
  std::printf("seed 4\n");
  std::uint64_t damaged_blocks = 0;
  for (const Region& region : regions_of(good)) {
    if (region.part != Part::block) continue;
    Bytes bytes = good;
    bytes[region.begin + random.below(region.end - region.begin)] ^= std::byte{0x10};
    const cdna_cuda_error error = refused(SavedFile(bytes), upload_options(8192, 2));
    CHECK(error.code == CDNA_CUDA_CORRUPT);
    CHECK(std::string(error.tensor) == "w");
    CHECK(error.plane >= 0);
    CHECK(error.block >= 0);
    CHECK(error.offset == region.begin);
    ++damaged_blocks;
    CHECK(device_faults() == "");
  }
  CHECK(damaged_blocks > 4);
}

TEST_CASE_METHOD(SampleModel, "upload: the root that is expected, and files that are not there") {
  Digest root = file.reader().root();
  cdna_cuda_upload_options options = upload_options();
  options.expected_root = reinterpret_cast<const std::uint8_t*>(root.data());
  CHECK(differences(file, uploaded(file, options)) == "");
  root[5] ^= std::remove_reference_t<decltype(root[5])>{1};
  CHECK(refused(file, options).code == CDNA_CUDA_ROOT_MISMATCH);
  cdna_cuda_model* model = nullptr;
  cdna_cuda_error error{};
  CHECK(cdna_cuda_upload("/nowhere/x.cdna", nullptr, nullptr, &model, &error) == CDNA_CUDA_NOT_FOUND);
  const std::string reason(error.message, std::string(error.message).find(": /nowhere/x.cdna"));
  CHECK(!reason.empty());
  std::string long_path = "/nowhere";
  while (long_path.size() < 1000) long_path += "/folder";
  CHECK(cdna_cuda_upload(long_path.c_str(), nullptr, nullptr, &model, &error) == CDNA_CUDA_NOT_FOUND);
  CHECK(std::string(error.message) == (reason + ": " + long_path).substr(0, sizeof error.message - 1));
  CHECK(cdna_cuda_upload(nullptr, nullptr, nullptr, &model, &error) == CDNA_CUDA_BAD_ARGUMENT);
  for (const std::uint64_t pinned : {std::uint64_t{8191}, (std::uint64_t{1} << 36) + 1, ~std::uint64_t{0}}) {
    options = upload_options(pinned);
    CHECK(refused(file, options).code == CDNA_CUDA_BAD_ARGUMENT);
    options.device_bytes_max = 1 << 20;
    CHECK(refused(file, options).code == CDNA_CUDA_BAD_ARGUMENT);
  }
  options = upload_options();
  options.stream = cudaStreamPerThread;
  const cdna_cuda_error per_thread = refused(file, options);
  CHECK(per_thread.code == CDNA_CUDA_BAD_ARGUMENT);
  CHECK(std::string(per_thread.message).find("cudaStreamPerThread") != std::string::npos);
  options = upload_options();
  options.trust = 3;
  CHECK(refused(file, options).code == CDNA_CUDA_BAD_ARGUMENT);
  options = upload_options();
  options.struct_size = 3;
  CHECK(refused(file, options).code == CDNA_CUDA_BAD_ARGUMENT);
}

TEST_CASE_METHOD(SampleModel, "upload: options of later and earlier versions") {
  struct Later {
    cdna_cuda_upload_options known = upload_options();
    std::uint64_t unknown = 0;
  } later;
  later.known.struct_size = sizeof later;
  cdna_cuda_model* model = nullptr;
  REQUIRE(cdna_cuda_upload(file.path().c_str(), nullptr, &later.known, &model, nullptr) == CDNA_CUDA_OK);
  cdna_cuda_free(model);
  later.unknown = 1;
  CHECK(cdna_cuda_upload(file.path().c_str(), nullptr, &later.known, &model, nullptr) == CDNA_CUDA_BAD_ARGUMENT);
  cdna_cuda_upload_options earlier = upload_options();
  earlier.struct_size = offsetof(cdna_cuda_upload_options, threads);
  earlier.trust = 77;  // Is not looked at.
  REQUIRE(cdna_cuda_upload(file.path().c_str(), nullptr, &earlier, &model, nullptr) == CDNA_CUDA_OK);
  cdna_cuda_free(model);
  cdna_cuda_free(nullptr);
  CHECK(device_faults() == "");
}

TEST_CASE_METHOD(FreshDevice, "upload: memory of the device is given back by models, refusals and cancelling") {
  constexpr std::uint64_t kBytes = 8 << 20;
  const SavedFile file(write_file({}, [](Writer& writer) {
    TensorSpec spec;
    spec.name = "w";
    spec.dtype = DType::u8;
    spec.shape = {1024, kBytes / 1024};
    const Bytes zeros(kBytes);
    must(writer.add_exact(spec, reader_of(zeros)));
  }));
  const auto free_bytes = [] {
    std::size_t free = 0;
    std::size_t all = 0;
    REQUIRE(cudaMemGetInfo(&free, &all) == cudaSuccess);
    return free;
  };
  Progress progress;
  progress.cancel_at = 2;
  cdna_cuda_upload_options cancelled = upload_options(1 << 20);
  cancelled.progress = note_progress;
  cancelled.progress_context = &progress;
  uploaded(file, upload_options(1 << 20)).reset();  // What CUDA itself keeps is there after the first.
  const std::size_t before = free_bytes();
  const ModelHandle model = uploaded(file, upload_options(1 << 20));
  CHECK(free_bytes() <= before - kBytes);
  for (int round = 0; round < 4; ++round) {
    uploaded(file, upload_options(1 << 20)).reset();
    progress.calls = 0;
    CHECK(refused(file, cancelled).code == CDNA_CUDA_CANCELLED);
  }
  CHECK(before - free_bytes() < 2 * kBytes);  // The model, and less than another.
}

// ---- Products ----

TEST_CASE_METHOD(SampleModel, "upload: products from the device are those of the library") {
  const Reader reader = file.reader();
  ModelHandle model = uploaded(file);
  for (const char* const name : {"layer.cb8", "layer.cb4g32", "layer.cb6g64", "other.cb8,outliers=0.05"}) {
    for (const std::uint32_t m : {1U, 5U}) {
      CAPTURE(name, m);
      const Tensor tensor = *reader.find(name);
      const Operand x = random_operand(m, tensor.cols(), m);
      const Product expected = product_of(weights_of(reader, tensor), x, Orientation::linear, Math::f32);
      std::vector<float> y(m * (tensor.rows() + 3), -1.0F);
      const std::vector<cdna_cuda_segment> segments{{number_of(model, name), nullptr, 2}};
      const cdna_cuda_linear_call call =
          linear_call(segments, x.values, m, y, static_cast<std::int64_t>(tensor.rows() + 3));
      cdna_cuda_host_result result{};
      result.struct_size = sizeof result;
      cdna_cuda_error error{};
      const cdna_cuda_code code = cdna_cuda_linear_host(model.get(), &call, &result, &error);
      CAPTURE(error.message);
      REQUIRE(code == CDNA_CUDA_OK);
      CHECK(result.loop >= CDNA_CUDA_LOOP_STREAM);
      cdna_cuda_linear_plan_info plan{};
      plan.struct_size = sizeof plan;
      REQUIRE(cdna_cuda_linear_plan(model.get(), &call, &plan, nullptr) == CDNA_CUDA_OK);
      CHECK(plan.loop == result.loop);
      for (std::uint64_t i = 0; i < m; ++i) {
        const float* const row = y.data() + i * (tensor.rows() + 3);
        CHECK(row[0] == -1.0F);
        CHECK(row[1] == -1.0F);
        CHECK(row[tensor.rows() + 2] == -1.0F);
        double x_max = 0;
        for (std::uint64_t k = 0; k < x.cols; ++k)
          x_max = std::max(x_max, std::abs(static_cast<double>(x.values[i * x.cols + k])));
        for (std::uint64_t r = 0; r < tensor.rows(); ++r) {
          const std::size_t at = i * tensor.rows() + r;
          // linear.h, x f32: two f16 numbers for each x, beside what any order of sums in f32 may lose.
          const double sum = expected.bounds[at] / 0x1p-24;
          CHECK(std::abs(static_cast<double>(row[2 + r]) - expected.values[at]) <=
                2 * expected.bounds[at] + 0x1p-21 * sum + 0x1p-38 * x_max * sum);
        }
      }
    }
  }
  model.reset();
  CHECK(device_faults() == "");
}

TEST_CASE_METHOD(SampleModel, "upload: products that cannot be are refused, and leave y alone") {
  const ModelHandle model = uploaded(file);
  const std::vector<float> x(300, 1.0F);
  std::vector<float> y(37, -1.0F);
  std::vector<cdna_cuda_segment> segments{{number_of(model, "layer.exact"), nullptr, 0}};
  cdna_cuda_linear_call call = linear_call(segments, x, 1, y, 37);
  cdna_cuda_error error{};
  CHECK(cdna_cuda_linear_host(model.get(), &call, nullptr, &error) == CDNA_CUDA_UNSUPPORTED);
  CHECK(std::string(error.tensor) == "layer.exact");
  CHECK(cdna_cuda_linear(model.get(), &call, &error) == CDNA_CUDA_UNSUPPORTED);
  segments[0].tensor = 1000;
  CHECK(cdna_cuda_linear(model.get(), &call, &error) == CDNA_CUDA_BAD_ARGUMENT);
  segments[0].tensor = number_of(model, "layer.cb8");
  call.x_type = 3;
  CHECK(cdna_cuda_linear(model.get(), &call, &error) == CDNA_CUDA_BAD_ARGUMENT);
  call.x_type = CDNA_CUDA_F32;
  call.loop = 9;
  CHECK(cdna_cuda_linear(model.get(), &call, &error) == CDNA_CUDA_BAD_ARGUMENT);
  call.loop = CDNA_CUDA_LOOP_AUTOMATIC;
  call.segment_count = 9;
  CHECK(cdna_cuda_linear(model.get(), &call, &error) == CDNA_CUDA_BAD_ARGUMENT);
  call.segment_count = 1;
  CHECK(cdna_cuda_dequantize(model.get(), segments[0].tensor, 0, 38, nullptr, CDNA_CUDA_F32, 300, nullptr, &error) ==
        CDNA_CUDA_BAD_ARGUMENT);
  CHECK(cdna_cuda_dequantize(model.get(), number_of(model, "bias"), 0, 1, nullptr, CDNA_CUDA_F32, 300, nullptr,
                             &error) == CDNA_CUDA_UNSUPPORTED);
  CHECK(y == std::vector<float>(37, -1.0F));
}
