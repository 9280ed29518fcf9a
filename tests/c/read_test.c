/* The C interface from C99: opens a file and does with it what a program would. Prints nothing where all is right. */
#include <cdna.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int failures = 0;

static void expect(int right, const char* what, int line) {
  if (right) return;
  fprintf(stderr, "line %d: not so: %s\n", line, what);
  ++failures;
}
#define EXPECT(condition) expect((condition) ? 1 : 0, #condition, __LINE__)

static void expect_ok(cdna_code code, const cdna_error* error, int line) {
  char text[1024];
  if (code == CDNA_OK) return;
  cdna_error_describe(error, text, sizeof text);
  fprintf(stderr, "line %d: %s\n", line, text);
  ++failures;
}
#define OK(call) expect_ok((call), &error, __LINE__)

/* Reads from a FILE, as a source of the caller's. */
static int32_t read_file(void* context, uint64_t offset, void* out, uint64_t size) {
  FILE* const file = context;
  if (fseek(file, (long)offset, SEEK_SET) != 0) return 5;
  return fread(out, 1, (size_t)size, file) == size ? 0 : 5;
}

static void close_file(void* context) { fclose((FILE*)context); }

static void run_all(void* context, uint64_t count, void (*body)(void*, uint64_t), void* body_context) {
  uint64_t i;
  *(int*)context += 1;
  for (i = 0; i < count; ++i) body(body_context, i);
}

static int32_t count_progress(void* context, uint64_t done, uint64_t total) {
  EXPECT(done <= total);
  *(int*)context += 1;
  return 0;
}

/* Every block, row after row of codes or elements, adds up to the rows of the tensor. */
static void walk_blocks(const cdna_reader* reader, uint64_t tensor, const cdna_tensor_info* info) {
  cdna_error error = {0};
  cdna_blocks* blocks = NULL;
  cdna_block block = CDNA_BLOCK_INIT;
  cdna_block held = CDNA_BLOCK_INIT;
  uint64_t elements = 0;
  cdna_code code;
  OK(cdna_blocks_open(reader, tensor, 0, info->rows, &blocks, &error));
  while ((code = cdna_blocks_next(blocks, &block, &error)) == CDNA_OK) {
    elements += block.row_count * block.col_count;
    OK(cdna_block_acquire(reader, tensor, block.number, &held, &error));
    EXPECT(held.data_size == block.data_size && memcmp(held.data, block.data, (size_t)held.data_size) == 0);
    cdna_block_release(&held);
    EXPECT(held.data == NULL);
  }
  EXPECT(code == CDNA_END);
  EXPECT(elements == info->element_count);
  cdna_blocks_free(blocks);
}

/* Multiplying with the rows of the identity gives the tensor's columns: y = I W^T. */
static void multiply(const cdna_reader* reader, uint64_t tensor, const cdna_tensor_info* info, const float* values) {
  cdna_error error = {0};
  const uint64_t n = info->cols;
  float* const x = calloc((size_t)(n * n), sizeof *x);
  float* const y = calloc((size_t)(n * info->rows), sizeof *y);
  cdna_rows part = {NULL, 0, 0, CDNA_ALL_ROWS, {0, 0}};
  cdna_matrix from = {NULL, CDNA_F32, 0, 0, 0, 0, 1};
  cdna_matrix to = {NULL, CDNA_F32, 0, 0, 0, 0, 1};
  cdna_matmul_options options = CDNA_MATMUL_OPTIONS_INIT;
  int calls = 0;
  uint64_t i, j;
  if (x == NULL || y == NULL) exit(2);
  for (i = 0; i < n; ++i) x[i * n + i] = 1;
  part.reader = reader;
  part.tensor = tensor;
  from.data = x;
  from.rows = from.cols = n;
  from.row_stride = (int64_t)n;
  to.data = y;
  to.rows = n;
  to.cols = info->rows;
  to.row_stride = (int64_t)info->rows;
  OK(cdna_workers_create_with(2, run_all, &calls, &options.workers, &error));
  OK(cdna_matmul(&part, 1, &from, &to, &options, &error));
  EXPECT(calls > 0);
  for (i = 0; i < info->rows; ++i) {
    for (j = 0; j < n; ++j) EXPECT(y[j * info->rows + i] == values[i * n + j]);
  }
  cdna_workers_free(options.workers);
  free(x);
  free(y);
}

static void look_at(const cdna_reader* reader, uint64_t tensor) {
  cdna_error error = {0};
  cdna_tensor_info info = {(uint32_t)sizeof(cdna_tensor_info)};
  uint64_t found = 0;
  float* values;
  OK(cdna_tensor_describe(reader, tensor, &info, &error));
  OK(cdna_tensor_find(reader, info.name, &found, &error));
  EXPECT(found == tensor);
  walk_blocks(reader, tensor, &info);
  if (strcmp(info.encoding, "cdna.codebook") != 0 || info.element_count > 65536) return;
  values = malloc((size_t)(info.element_count * sizeof *values));
  if (values == NULL) exit(2);
  OK(cdna_read_rows(reader, tensor, 0, info.rows, CDNA_F32, values, 0, NULL, &error));
  multiply(reader, tensor, &info, values);
  free(values);
}

int main(int argc, char** argv) {
  cdna_error error = {0};
  cdna_source source = CDNA_SOURCE_INIT;
  cdna_verify_options options = CDNA_VERIFY_OPTIONS_INIT;
  cdna_reader* reader = NULL;
  cdna_reader* again = NULL;
  cdna_reader_info info = {(uint32_t)sizeof(cdna_reader_info)};
  int progress = 0;
  uint64_t i;
  if (argc != 2) return 2;
  EXPECT(cdna_open("there is no such file", NULL, &reader, &error) == CDNA_NOT_FOUND);
  EXPECT(strcmp(cdna_code_name(error.code), "not_found") == 0);
  OK(cdna_open(argv[1], NULL, &reader, &error));
  if (reader == NULL) return 1;
  OK(cdna_reader_describe(reader, &info, &error));
  for (i = 0; i < cdna_tensor_count(reader); ++i) look_at(reader, i);
  options.progress = count_progress;
  options.progress_context = &progress;
  OK(cdna_verify(reader, &options, NULL, &error));
  EXPECT(progress > 0);
  cdna_reader_free(reader);

  source.context = fopen(argv[1], "rb");
  if (source.context == NULL || fseek((FILE*)source.context, 0, SEEK_END) != 0) return 2;
  source.size_bytes = (uint64_t)ftell((FILE*)source.context);
  source.read_at = read_file;
  source.close = close_file;
  OK(cdna_open_source(&source, NULL, &again, &error));
  for (i = 0; i < cdna_tensor_count(again); ++i) OK(cdna_tensor_verify(again, i, &error));
  cdna_reader_free(again);
  return failures == 0 ? 0 : 1;
}
