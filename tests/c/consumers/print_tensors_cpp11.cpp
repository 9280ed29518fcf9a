// The same as print_tensors.c in C++11, by cdna.h.
#include <cdna.h>

#include <cstdio>
#include <vector>

static int fail(const cdna_error& error) {
  char text[2048];
  cdna_error_describe(&error, text, sizeof text);
  std::fprintf(stderr, "%s\n", text);
  return 1;
}

int main(int argc, char** argv) {
  cdna_error error;
  cdna_reader* reader = nullptr;
  cdna_open_options options = CDNA_OPEN_OPTIONS_INIT;
  if (argc != 2) return 2;
  if (cdna_open(argv[1], &options, &reader, &error) != CDNA_OK) return fail(error);
  std::printf("libcdna %s, %d\n", cdna_version(), cdna_abi_version() == CDNA_ABI_VERSION);
  for (uint64_t i = 0; i < cdna_tensor_count(reader); ++i) {
    cdna_tensor_info info = cdna_tensor_info();
    info.struct_size = sizeof info;
    if (cdna_tensor_describe(reader, i, &info, &error) != CDNA_OK) return fail(error);
    std::vector<float> values(static_cast<std::size_t>(info.rows * info.cols) + 1);
    if (cdna_read_rows(reader, i, 0, info.rows, CDNA_F32, values.data(), 0, nullptr, &error) != CDNA_OK)
      return fail(error);
    values.pop_back();
    std::printf("%s %llu %llu", info.name, static_cast<unsigned long long>(info.rows),
                static_cast<unsigned long long>(info.cols));
    for (float value : values) std::printf(" %a", static_cast<double>(value));
    std::printf("\n");
  }
  cdna_reader_free(reader);
  return 0;
}
