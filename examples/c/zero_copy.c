/* Uses an exact F32 tensor in place, as a pointer into the mapped file, and prints its sum: zero_copy FILE TENSOR. */
#include <cdna.h>
#include <stdio.h>

/* Prints the sum of all elements, straight from the mapping. */
static int print_sum(const cdna_tensor_info* info, const void* data, uint64_t size) {
  const float* elements = data;
  double sum = 0;
  if (info->dtype != CDNA_F32 || size != info->element_count * sizeof *elements) {
    fprintf(stderr, "no exact F32 tensor\n");
    return 1;
  }
  for (uint64_t i = 0; i < info->element_count; ++i) sum += (double)elements[i];
  printf("%llu x %llu, sum %.12g\n", (unsigned long long)info->rows, (unsigned long long)info->cols, sum);
  return 0;
}

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  cdna_error error;
  cdna_reader* reader = NULL;
  uint64_t tensor = 0, size = 0;
  const void* data = NULL;
  cdna_tensor_info info = {.struct_size = sizeof info};
  cdna_open_options options = CDNA_OPEN_OPTIONS_INIT;
  options.io = CDNA_IO_MMAP;
  options.trust = CDNA_TRUST_ZERO_COPY; /* See there for what this asks of whoever else can write to the file. */
  cdna_code code = cdna_open(argv[1], &options, &reader, &error);
  if (code == CDNA_OK) code = cdna_tensor_find(reader, argv[2], &tensor, &error);
  if (code == CDNA_OK) code = cdna_tensor_describe(reader, tensor, &info, &error);
  /* The first call hashes the plane; from then on it is memory like any other, until the reader is freed. */
  if (code == CDNA_OK) code = cdna_plane_data(reader, tensor, 0, &data, &size, &error);
  int status = 1;
  if (code == CDNA_OK) {
    status = print_sum(&info, data, size);
  } else {
    char text[2048];
    cdna_error_describe(&error, text, sizeof text);
    fprintf(stderr, "%s\n", text);
  }
  cdna_reader_free(reader);
  return status;
}
