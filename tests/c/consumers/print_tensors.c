/* Prints every tensor of a file as f32, and which library did it: what the consumers of an installed libcdna build. */
#include <cdna.h>
#include <stdio.h>
#include <stdlib.h>

static int fail(const cdna_error* error) {
  char text[2048];
  cdna_error_describe(error, text, sizeof text);
  fprintf(stderr, "%s\n", text);
  return 1;
}

static int print_tensor(const cdna_reader* reader, uint64_t tensor) {
  cdna_error error;
  cdna_tensor_info info = {.struct_size = sizeof info};
  if (cdna_tensor_describe(reader, tensor, &info, &error) != CDNA_OK) return fail(&error);
  const size_t count = (size_t)(info.rows * info.cols);
  float* values = calloc(count + 1, sizeof *values);
  if (values == NULL) return 1;
  const int failed = cdna_read_rows(reader, tensor, 0, info.rows, CDNA_F32, values, 0, NULL, &error) != CDNA_OK;
  printf("%s %llu %llu", info.name, (unsigned long long)info.rows, (unsigned long long)info.cols);
  for (size_t i = 0; i < count; ++i) printf(" %a", (double)values[i]);
  printf("\n");
  free(values);
  return failed ? fail(&error) : 0;
}

int main(int argc, char** argv) {
  cdna_error error;
  cdna_reader* reader = NULL;
  int failed = 0;
  if (argc != 2) return 2;
  if (cdna_open(argv[1], NULL, &reader, &error) != CDNA_OK) return fail(&error);
  printf("libcdna %s, %d\n", cdna_version(), cdna_abi_version() == CDNA_ABI_VERSION);
  for (uint64_t i = 0; i < cdna_tensor_count(reader); ++i) failed |= print_tensor(reader, i);
  cdna_reader_free(reader);
  return failed;
}
