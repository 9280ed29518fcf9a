/* Tensors of CDNA files on CUDA devices: uploading them, and multiplying with them without ever holding a matrix of
 * weights. The C interface of libcdna_cuda.so.
 *
 * Conventions
 *  1 Every function returns CDNA_CUDA_OK or what went wrong; `ret_` outputs are written only with CDNA_CUDA_OK.
 *    `error` is the caller's and may be NULL; it is written whenever something went wrong, and only then.
 *  2 Handles are opaque. Tensors of a model are numbers, 0 to cdna_cuda_tensor_count() - 1, in the order of names.
 *  3 `struct_size` comes first in structs that may grow: the caller sets it to sizeof. Fields only come to be added at
 *    the end; 0 is every field's default.
 *  4 Sizes are bytes unless they are named _rows, _cols, _count, _stride or _begin and _end; strides are elements.
 *    Shapes are [rows, cols], row-major.
 *  5 Pointers called `device` something, x, y, bias, out and workspace are of memory of the model's device. `stream` is
 *    a cudaStream_t of it (NULL: the default stream).
 *  6 A model may be used from any threads at once. Every call leaves the calling thread's current device as it was,
 *    and, unless CUDA itself fails in it, the error that is pending there (cudaGetLastError). Where the current device
 *    is not the model's, a call chooses the model's and then the other again, which initialises that one
 *    (cudaSetDevice, CUDA 12 and later).
 *  7 Nothing is printed, no exception or abort comes out, and no thread outlives a call. Only the functions that say so
 *    allocate device memory or wait for the device.
 *  8 Devices below compute capability 8.0 are refused as CDNA_CUDA_UNSUPPORTED before anything is launched. */
#ifndef CDNA_CUDA_H
#define CDNA_CUDA_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define CDNA_CUDA_API __attribute__((visibility("default")))
#else
#define CDNA_CUDA_API
#endif

/* major << 16 | minor: a library serves callers of its major version with the same or a lower minor one. */
#define CDNA_CUDA_ABI_VERSION 0x00010000u

/* ---- Errors ---- */

typedef int32_t cdna_cuda_code;
enum {
  CDNA_CUDA_OK = 0,
  /* Of files: spec/format.md, section 1. */
  CDNA_CUDA_NOT_CDNA = 1,
  CDNA_CUDA_TRUNCATED = 2,
  CDNA_CUDA_CORRUPT = 3,
  CDNA_CUDA_ROOT_MISMATCH = 4,
  CDNA_CUDA_MALFORMED = 5,
  CDNA_CUDA_UNSUPPORTED = 6, /* Of a file, a tensor, a device or a driver. */
  CDNA_CUDA_LIMIT = 7,       /* Over a limit of the format, or over device_bytes_max. */
  CDNA_CUDA_IO = 32,         /* os_errno */
  CDNA_CUDA_NO_MEMORY = 33,  /* Of the host, or of the device (then with cuda_error). */
  CDNA_CUDA_NOT_FOUND = 35,
  CDNA_CUDA_BAD_ARGUMENT = 36,
  CDNA_CUDA_CANCELLED = 37, /* The progress callback asked for it. */
  CDNA_CUDA_DEVICE = 64     /* A call of the CUDA runtime failed: cuda_error. */
};

#define CDNA_CUDA_NO_OFFSET UINT64_MAX

/* What went wrong, and where. Texts end with 0, are cut where they are too long, and can be printed as they are. */
typedef struct cdna_cuda_error {
  cdna_cuda_code code;
  int32_t os_errno;   /* With CDNA_CUDA_IO, else 0. */
  int32_t cuda_error; /* cudaError_t, else 0. */
  int32_t plane;      /* Of the tensor in the file; -1: of no plane. */
  int64_t block;      /* Of the plane; -1: of no block. */
  uint64_t offset;    /* In the file; CDNA_CUDA_NO_OFFSET: of no byte. */
  char rule[8];       /* Of spec/format.md, "D1"; "": none. */
  char tensor[256];   /* "": none. */
  char message[256];  /* The reason, then the file's path. */
} cdna_cuda_error;

/* "unsupported"; "" for other numbers. Static storage. */
CDNA_CUDA_API const char* cdna_cuda_code_name(cdna_cuda_code code);

/* CDNA_CUDA_ABI_VERSION of the library that is there. */
CDNA_CUDA_API uint32_t cdna_cuda_abi_version(void);

/* Whether device `ordinal` can be used. Errors: UNSUPPORTED (compute capability below 8.0; no driver, or one too old),
 * NOT_FOUND (no such device), DEVICE. */
CDNA_CUDA_API cdna_cuda_code cdna_cuda_device_supported(int32_t ordinal, cdna_cuda_error* error);

/* ---- Upload ---- */

typedef struct cdna_cuda_model cdna_cuda_model;

enum { CDNA_CUDA_TRUST_AUTOMATIC = 0, CDNA_CUDA_TRUST_ZERO_COPY = 1, CDNA_CUDA_TRUST_STRICT = 2 };

/* Called after each block, by one of the threads of the call at a time; anything but 0 cancels. Bytes are those of
 * codes and elements, decoded. Must not call functions of this library. */
typedef int32_t (*cdna_cuda_progress)(void* context, uint64_t bytes_done, uint64_t bytes_total);

typedef struct cdna_cuda_upload_options {
  uint32_t struct_size;
  int32_t device;     /* Ordinal. */
  void* stream;       /* For the kernels that bring codes in order; copies have a stream of the call's own. Not
                         cudaStreamPerThread: it is another stream in each thread of the call (BAD_ARGUMENT). */
  uint64_t row_begin; /* Only rows row_begin to row_end - 1 of each tensor's matrix view; */
  uint64_t row_end;   /* 0: to the last. A tensor with fewer rows is a BAD_ARGUMENT. */
  /* Tensor-parallel slice: of tensors of two dimensions or more, rows rows * index / count to
   * rows * (index + 1) / count - 1; a count of 0: all. Not with row_begin and row_end. */
  uint32_t shard_index;
  uint32_t shard_count;
  uint64_t pinned_bytes; /* Of the ring of pinned buffers, and of a device buffer as large; 0: 64 MiB; 8192 to 2^36. */
  uint64_t device_bytes_max;    /* Most that the call may hold on the device at any time; 0: what there is. */
  uint32_t threads;             /* Of the host, the caller's among them, for the length of the call; 0: one per core. */
  uint32_t trust;               /* CDNA_CUDA_TRUST_: how blocks of a file that may change meanwhile are verified. */
  const uint8_t* expected_root; /* [32], or NULL: the file must have this root. */
  cdna_cuda_progress progress;  /* Or NULL. */
  void* progress_context;
} cdna_cuda_upload_options;

#define CDNA_CUDA_UPLOAD_OPTIONS_INIT \
  { (uint32_t)sizeof(cdna_cuda_upload_options), 0, NULL, 0, 0, 0, 0, 0, 0, 0, 0, NULL, NULL, NULL }

/* Uploads the tensors whose names match `pattern` (fnmatch(3); NULL: all) of the file `path`. Every byte is verified on
 * its way. Codes of up to 8 bits are brought into the order in which kernels multiply (kernels/cuda/layout.h); exact
 * tensors go as they are. An alias is its tensor, which is uploaded once.
 *
 * One allocation holds all of it. Returns when all is there: waits for its own copies and for `stream`. On any error
 * nothing is left on the device, and everything that can be refused is refused before the first byte is copied.
 * options may be NULL: its defaults.
 *
 * Errors: all codes. NOT_FOUND: no file, or no tensor matches. UNSUPPORTED, with the tensor: codes of more than 8 bits,
 * an F32 codebook whose entries are not binary16 numbers, a tensor that may hold infinities or NaN (NONFINITE), sizes
 * beyond those of kernels. LIMIT: over device_bytes_max, with the bytes that are needed. MALFORMED D1: a scale or an
 * outlier that is not finite although the tensor says so. */
CDNA_CUDA_API cdna_cuda_code cdna_cuda_upload(const char* path, const char* pattern,
                                              const cdna_cuda_upload_options* options, cdna_cuda_model** ret_model,
                                              cdna_cuda_error* error);

/* Gives the device memory back, which waits for the device. NULL: nothing. Requires: no call of the model under way. */
CDNA_CUDA_API void cdna_cuda_free(cdna_cuda_model* model);

enum {
  CDNA_CUDA_STAGE_READ = 0,   /* Reading, verifying and decompressing blocks, on the host's threads. */
  CDNA_CUDA_STAGE_FILL = 1,   /* Copying them to pinned buffers, and outliers' differences, on the same threads. */
  CDNA_CUDA_STAGE_COPY = 2,   /* To the device. */
  CDNA_CUDA_STAGE_PERMUTE = 3 /* Bringing codes in order, on the device. */
};

typedef struct cdna_cuda_stage {
  uint64_t bytes;              /* READ: codes and elements as stored in the file; scales and outliers do not count.
                                  Else: as they are written. */
  double seconds;              /* That it worked: of host stages the sum over threads, divided by their number. */
  double gigabytes_per_second; /* bytes / seconds / 1e9; 0 if there is nothing to tell. */
} cdna_cuda_stage;

typedef struct cdna_cuda_upload_report {
  uint32_t struct_size;
  uint32_t bottleneck; /* CDNA_CUDA_STAGE_: host stages share their threads, so they count together. */
  uint32_t threads;
  uint32_t reserved;          /* 0 */
  double seconds;             /* Of the whole call. */
  uint64_t device_bytes;      /* Held by the model. */
  uint64_t device_bytes_peak; /* Held during the call. */
  uint64_t pinned_bytes;      /* Held during the call. */
  cdna_cuda_stage stages[4];  /* By CDNA_CUDA_STAGE_. */
} cdna_cuda_upload_report;

/* What the upload took. Requires: ret_report->struct_size; writes no more than that. Errors: BAD_ARGUMENT. */
CDNA_CUDA_API cdna_cuda_code cdna_cuda_report(const cdna_cuda_model* model, cdna_cuda_upload_report* ret_report,
                                              cdna_cuda_error* error);

/* ---- What a model holds ---- */

/* Aliases included. 0 for NULL. */
CDNA_CUDA_API uint64_t cdna_cuda_tensor_count(const cdna_cuda_model* model);

/* The number of the tensor or alias `name`. Errors: NOT_FOUND. */
CDNA_CUDA_API cdna_cuda_code cdna_cuda_find(const cdna_cuda_model* model, const char* name, uint64_t* ret_tensor,
                                            cdna_cuda_error* error);

enum { CDNA_CUDA_EXACT = 0, CDNA_CUDA_CODEBOOK = 1 };
enum { CDNA_CUDA_CURVE_NONE = 0, CDNA_CUDA_CURVE_PWL = 1, CDNA_CUDA_CURVE_AFFINE = 2 };

typedef struct cdna_cuda_tensor_info {
  uint32_t struct_size;
  uint32_t encoding;     /* CDNA_CUDA_EXACT, _CODEBOOK */
  const char* name;      /* UTF-8, ends with 0; lives as long as the model, as `shape` does. */
  const uint64_t* shape; /* [rank], of the whole tensor. */
  uint64_t rows;         /* That are on the device, of the matrix view. */
  uint64_t cols;
  uint64_t row_begin; /* Of the whole tensor: the first of them. */
  uint64_t device_bytes;
  const void* device_data; /* Exact: elements [rows, cols], little-endian, packed without gaps. Codebook: NULL. */
  uint64_t outlier_count;
  uint32_t rank;
  uint32_t dtype;       /* Of the source: spec/format.md, 7.3. 10 F16, 11 BF16, 12 F32, 13 F64. */
  uint32_t bits;        /* Per element, or per code in the file. */
  uint32_t device_bits; /* Per element, or per code on the device: 4, 5, 6 or 8. */
  uint32_t group;       /* Columns per group scale; 0: none. */
  uint32_t curve;       /* CDNA_CUDA_CURVE_ */
} cdna_cuda_tensor_info;

/* Requires: ret_info->struct_size; writes no more than that. Errors: BAD_ARGUMENT (no such tensor). */
CDNA_CUDA_API cdna_cuda_code cdna_cuda_info(const cdna_cuda_model* model, uint64_t tensor,
                                            cdna_cuda_tensor_info* ret_info, cdna_cuda_error* error);

/* ---- Products ---- */

enum { CDNA_CUDA_F16 = 0, CDNA_CUDA_BF16 = 1, CDNA_CUDA_F32 = 2 };
enum { CDNA_CUDA_LOOP_AUTOMATIC = 0, CDNA_CUDA_LOOP_STREAM = 1, CDNA_CUDA_LOOP_BLOCK = 2, CDNA_CUDA_LOOP_WGMMA = 3 };

/* One of several matrices with equal cols whose rows of y stand side by side (fused q, k, v). */
typedef struct cdna_cuda_segment {
  uint64_t tensor;
  const void* bias;  /* [rows] of y's type, or NULL. */
  uint64_t y_column; /* Of row 0 of the tensor. */
} cdna_cuda_segment;

/* y = x W^T + bias. */
typedef struct cdna_cuda_linear_call {
  uint32_t struct_size;
  uint32_t segment_count;            /* 1 to 8 */
  const cdna_cuda_segment* segments; /* On the host. */
  const void* x;                     /* [m, cols], rows x_stride elements apart. */
  int64_t x_stride;
  void* y; /* Column y_column + r of row i is element i * y_stride + y_column + r. */
  int64_t y_stride;
  uint32_t x_type; /* CDNA_CUDA_F16, _BF16, _F32: the arithmetic, too (kernels/cuda/linear.h). */
  uint32_t y_type;
  uint32_t m;
  uint32_t loop;     /* CDNA_CUDA_LOOP_ */
  uint32_t splits;   /* Of cols, loop stream; 0: as many as seem best. */
  uint32_t reserved; /* 0 */
  void* workspace;   /* Of the plan's size, aligned to 256; its first 4096 bytes 0 at the first call that uses it (every
                        call leaves them 0). Not shared by calls under way. */
  uint64_t workspace_bytes;
  void* stream;
} cdna_cuda_linear_call;

#define CDNA_CUDA_LINEAR_CALL_INIT \
  { (uint32_t)sizeof(cdna_cuda_linear_call), 0, NULL, NULL, 0, NULL, 0, 0, 0, 0, 0, 0, 0, NULL, 0, NULL }

typedef struct cdna_cuda_linear_plan_info {
  uint32_t struct_size;
  uint32_t loop; /* CDNA_CUDA_LOOP_, not AUTOMATIC. */
  uint32_t splits;
  uint32_t reserved;
  uint64_t blocks;
  uint64_t workspace_bytes;
} cdna_cuda_linear_plan_info;

/* What cdna_cuda_linear() would do. Launches nothing; x, y and workspace matter by their alignment only. Requires:
 * ret_plan->struct_size. Errors: UNSUPPORTED, BAD_ARGUMENT. */
CDNA_CUDA_API cdna_cuda_code cdna_cuda_linear_plan(const cdna_cuda_model* model, const cdna_cuda_linear_call* call,
                                                   cdna_cuda_linear_plan_info* ret_plan, cdna_cuda_error* error);

/* Launches the product on call->stream. Does not wait, allocates nothing, may be captured into a graph. Errors:
 * UNSUPPORTED (exact tensors, loops that the device has not), BAD_ARGUMENT, DEVICE. */
CDNA_CUDA_API cdna_cuda_code cdna_cuda_linear(const cdna_cuda_model* model, const cdna_cuda_linear_call* call,
                                              cdna_cuda_error* error);

typedef struct cdna_cuda_host_result {
  uint32_t struct_size;
  uint32_t loop;
  uint32_t splits;
  uint32_t reserved;
  uint64_t blocks;
  uint64_t workspace_bytes;
  uint64_t device_bytes; /* Allocated for x, y and the workspace during the call. */
  double seconds;        /* Of the product on the device, copies apart. The first call with kernels that the process
                            has not used yet includes loading them. */
} cdna_cuda_host_result;

/* The same for x, y and bias in the host's memory: allocates what it needs on the device, copies, multiplies, waits,
 * and gives it back. What can be refused is refused before anything is allocated. call->workspace and call->stream are
 * not used. y is written only on success. ret_result may be NULL. Errors: those of cdna_cuda_linear(), NO_MEMORY. */
CDNA_CUDA_API cdna_cuda_code cdna_cuda_linear_host(const cdna_cuda_model* model, const cdna_cuda_linear_call* call,
                                                   cdna_cuda_host_result* ret_result, cdna_cuda_error* error);

/* Rows [row_begin, row_end) of a codebook tensor as numbers of `type`, out[i, k] at element i * stride + k: the f32
 * values of spec/format.md 13.2, bit for bit, rounded once. Rows count from the first on the device. Launches on
 * `stream`, does not wait, allocates nothing. Errors: UNSUPPORTED (an exact tensor: its elements are device_data),
 * BAD_ARGUMENT, DEVICE. */
CDNA_CUDA_API cdna_cuda_code cdna_cuda_dequantize(const cdna_cuda_model* model, uint64_t tensor, uint64_t row_begin,
                                                  uint64_t row_end, void* out, uint32_t type, int64_t stride,
                                                  void* stream, cdna_cuda_error* error);

#ifdef __cplusplus
}
#endif

#endif
