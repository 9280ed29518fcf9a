/* Opens a file, finds a tensor, prints the first element of each of its rows: embed FILE TENSOR. */
#include <cdna.h>
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  cdna_error error;
  cdna_reader* reader = NULL;
  uint64_t tensor = 0;
  cdna_tensor_info info = {.struct_size = sizeof info};
  cdna_code code = cdna_open(argv[1], NULL, &reader, &error);
  if (code == CDNA_OK) code = cdna_tensor_find(reader, argv[2], &tensor, &error);
  if (code == CDNA_OK) code = cdna_tensor_describe(reader, tensor, &info, &error);
  float* row = calloc(info.cols + 1, sizeof *row);
  for (uint64_t i = 0; row != NULL && code == CDNA_OK && i < info.rows; ++i) {
    code = cdna_read_rows(reader, tensor, i, i + 1, CDNA_F32, row, 0, NULL, &error);
    if (code == CDNA_OK) printf("%llu %.9g\n", (unsigned long long)i, (double)row[0]);
  }
  if (code != CDNA_OK) {
    char text[2048];
    cdna_error_describe(&error, text, sizeof text);
    fprintf(stderr, "%s\n", text);
  }
  free(row);
  cdna_reader_free(reader);
  return code != CDNA_OK;
}
