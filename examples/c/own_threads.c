/* Multiplies with a tensor on the caller's own threads, and compares with one thread: own_threads FILE TENSOR. */
#define _POSIX_C_SOURCE 200809L
#include <cdna.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { kThreads = 4, kRowsOfX = 3 };

/* A pool: threads that wait for a loop, and take its iterations one by one. */
typedef struct pool {
  pthread_mutex_t mutex;
  pthread_cond_t work, done;
  pthread_t threads[kThreads];
  void (*body)(void* body_context, uint64_t i);
  void* body_context;
  uint64_t next, count, unfinished;
  int stop;
} pool;

static void* run_thread(void* argument) {
  pool* p = argument;
  pthread_mutex_lock(&p->mutex);
  while (!p->stop) {
    if (p->next == p->count) {
      pthread_cond_wait(&p->work, &p->mutex);
      continue;
    }
    const uint64_t i = p->next++;
    pthread_mutex_unlock(&p->mutex);
    p->body(p->body_context, i);
    pthread_mutex_lock(&p->mutex);
    if (--p->unfinished == 0) pthread_cond_signal(&p->done);
  }
  pthread_mutex_unlock(&p->mutex);
  return NULL;
}

/* A cdna_parallel_for: returns when all iterations have. */
static void run_loop(void* context, uint64_t count, void (*body)(void* body_context, uint64_t i), void* body_context) {
  pool* p = context;
  pthread_mutex_lock(&p->mutex);
  p->body = body;
  p->body_context = body_context;
  p->next = 0;
  p->count = p->unfinished = count;
  pthread_cond_broadcast(&p->work);
  while (p->unfinished != 0) pthread_cond_wait(&p->done, &p->mutex);
  pthread_mutex_unlock(&p->mutex);
}

static int start(pool* p) {
  memset(p, 0, sizeof *p);
  pthread_mutex_init(&p->mutex, NULL);
  pthread_cond_init(&p->work, NULL);
  pthread_cond_init(&p->done, NULL);
  for (int i = 0; i < kThreads; ++i) {
    if (pthread_create(&p->threads[i], NULL, run_thread, p) != 0) return 0;
  }
  return 1;
}

static void stop(pool* p) {
  pthread_mutex_lock(&p->mutex);
  p->stop = 1;
  pthread_cond_broadcast(&p->work);
  pthread_mutex_unlock(&p->mutex);
  for (int i = 0; i < kThreads; ++i) pthread_join(p->threads[i], NULL);
  pthread_cond_destroy(&p->done);
  pthread_cond_destroy(&p->work);
  pthread_mutex_destroy(&p->mutex);
}

/* A row-major F32 matrix. */
static cdna_matrix matrix(float* data, uint64_t rows, uint64_t cols) {
  const cdna_matrix m = {data, CDNA_F32, 0, rows, cols, (int64_t)cols, 1};
  return m;
}

/* y [kRowsOfX, rows] = x [kRowsOfX, cols] times the transposed tensor: on the pool, or on this thread alone. */
static cdna_code multiply(const cdna_rows* weights, const cdna_matrix* x, const cdna_matrix* y, pool* p,
                          cdna_error* error) {
  cdna_matmul_options options = CDNA_MATMUL_OPTIONS_INIT;
  if (p != NULL) {
    const cdna_code code = cdna_workers_create_with(kThreads, run_loop, p, &options.workers, error);
    if (code != CDNA_OK) return code;
  }
  const cdna_code code = cdna_matmul(weights, 1, x, y, &options, error);
  cdna_workers_free(options.workers);
  return code;
}

/* Multiplies in both ways, and prints whether the results have the same bits. */
static cdna_code compare(const cdna_reader* reader, uint64_t tensor, pool* p, int* same, cdna_error* error) {
  const cdna_rows weights = {reader, tensor, 0, CDNA_ALL_ROWS, {0, 0}};
  cdna_tensor_info info = {.struct_size = sizeof info};
  cdna_code code = cdna_tensor_describe(reader, tensor, &info, error);
  if (code != CDNA_OK) return code;
  const size_t y_count = kRowsOfX * info.rows;
  float* x = calloc(kRowsOfX * info.cols + 1, sizeof *x);
  float* y = calloc(2 * y_count + 1, sizeof *y); /* Twice. */
  if (x == NULL || y == NULL) abort();
  for (uint64_t i = 0; i < kRowsOfX * info.cols; ++i) x[i] = (float)(i % 17) - 8.0F;
  const cdna_matrix x_matrix = matrix(x, kRowsOfX, info.cols);
  const cdna_matrix y_matrix = matrix(y, kRowsOfX, info.rows);
  const cdna_matrix y_alone = matrix(y + y_count, kRowsOfX, info.rows);
  code = multiply(&weights, &x_matrix, &y_matrix, p, error);
  if (code == CDNA_OK) code = multiply(&weights, &x_matrix, &y_alone, NULL, error);
  if (code == CDNA_OK) {
    *same = memcmp(y, y + y_count, y_count * sizeof *y) == 0;
    printf("y[0][0] = %.6g, %s bits on %d threads as on one\n", (double)y[0], *same ? "the same" : "other", kThreads);
  }
  free(y);
  free(x);
  return code;
}

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  int same = 0;
  pool p;
  cdna_error error;
  cdna_reader* reader = NULL;
  uint64_t tensor = 0;
  if (!start(&p)) return 3;
  cdna_code code = cdna_open(argv[1], NULL, &reader, &error);
  if (code == CDNA_OK) code = cdna_tensor_find(reader, argv[2], &tensor, &error);
  if (code == CDNA_OK) code = compare(reader, tensor, &p, &same, &error);
  if (code != CDNA_OK) {
    char text[2048];
    cdna_error_describe(&error, text, sizeof text);
    fprintf(stderr, "%s\n", text);
  }
  cdna_reader_free(reader);
  stop(&p);
  return !same;
}
