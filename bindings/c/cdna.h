/* CDNA v3 files of neural-network weights: reading, verifying, multiplying straight from the file, compressing, writing.
 * The C interface of libcdna.so. C99 and C++.
 *
 * Conventions
 *  1 Calls that can fail return a cdna_code: CDNA_OK, or what went wrong. Outputs are called `ret_` something, come last
 *    before `error`, and are written only with CDNA_OK. `error` is the caller's and may be NULL; it is written whenever
 *    something went wrong, and only then.
 *  2 Handles are opaque. Tensors, assets, metadata and blocks are numbers, counted from 0, not handles.
 *  3 `struct_size` comes first in structs that may grow; the caller sets it to sizeof (the _INIT macros do). Fields only
 *    come to be added at the end, 0 is every field's default, and a library reads and writes no more than the size says.
 *    A struct_size of 0 is a BAD_ARGUMENT; of what a call reads also one over 4096 or no multiple of 8. Pointers to
 *    options may be NULL: all defaults. `reserved` fields are 0 where the library fills a struct, and have to be where
 *    the caller does: anything else is a BAD_ARGUMENT.
 *  4 Sizes are bytes unless they are named _rows, _cols, _count, _stride or _begin and _end. Shapes are row-major; the
 *    matrix view of a tensor is [rows, cols] (spec/format.md, 7.1). All numbers in files and planes are little-endian.
 *  5 Strings are UTF-8 and end with 0. Names come from files: cdna_escape() makes them fit to print. Names and
 *    types may not contain 0 (N3, N4), so none is ever cut.
 *  6 Borrowed pointers say until when they live. Nothing else that a call gives out has to be freed, but handles.
 *  7 A const handle may be used from any threads at once; any other one from one at a time.
 *  8 Nothing is printed, no exception or abort comes out, no signal handler is set, and no thread is started but where a
 *    function says so; over 1024 of them are a LIMIT. Callbacks must return, not throw or longjmp, and not call into the
 *    handle that they serve. fork() needs that no call is under way in another thread. NULL for a handle, an output or a
 *    name that is asked for is a BAD_ARGUMENT; cdna_..._free(NULL) does nothing. pthread_cancel() of a thread in a call,
 *    or in a callback from it, takes effect when the call has returned.
 *  9 A file that shrinks while it is mapped, and one rewritten in place: CDNA_TRUST_ says what happens. */
#ifndef CDNA_H
#define CDNA_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(CDNA_STATIC)
#define CDNA_API
#elif defined(__GNUC__)
#define CDNA_API __attribute__((visibility("default")))
#else
#define CDNA_API
#endif

/* ---- Versions ---- */

/* major << 16 | minor: a library serves callers of its major version with the same or a lower minor one. */
#define CDNA_ABI_VERSION 0x00010000u

/* CDNA_ABI_VERSION of the library that is there. */
CDNA_API uint32_t cdna_abi_version(void);
/* Of the library: "0.1.0". Static storage. */
CDNA_API const char* cdna_version(void);

typedef struct cdna_build_info {
  uint32_t struct_size;
  uint32_t format_version;   /* Of the files that are written: 3. */
  const char* compiler;      /* "gcc 12.2.0"; this and the following in static storage. */
  const char* architecture;  /* "x86_64" */
  const char* isa;           /* Instruction set of the kernels in use: "avx512bf16" (CDNA_CPU chooses). */
  const char* isas;          /* All that this machine has, with spaces between: "baseline avx2 avx512". */
  const char* sha256;        /* What hashes in use: "shani" (CDNA_SHA256 chooses). */
  const char* libraries;     /* "zstd 1.5.4, brotli 1.0.9, OpenSSL 3.0.17": as loaded now. */
} cdna_build_info;

/* ---- Errors ---- */

typedef int32_t cdna_code;
enum {
  CDNA_OK = 0,
  CDNA_END = -1, /* Of cdna_blocks_next() only: no more; not an error. */
  /* Properties of files: spec/format.md, section 1. */
  CDNA_NOT_CDNA = 1,
  CDNA_TRUNCATED = 2,
  CDNA_CORRUPT = 3,
  CDNA_ROOT_MISMATCH = 4,
  CDNA_MALFORMED = 5,
  CDNA_UNSUPPORTED = 6,
  CDNA_LIMIT = 7,
  /* Others. */
  CDNA_IO = 32, /* os_errno */
  CDNA_NO_MEMORY = 33,
  CDNA_EXISTS = 34,
  CDNA_NOT_FOUND = 35,
  CDNA_BAD_ARGUMENT = 36,
  CDNA_CANCELLED = 37
};

#define CDNA_NO_OFFSET 0xFFFFFFFFFFFFFFFFu

/* What went wrong, and where. Never grows. Texts end with 0, are cut where they are too long (tensor, file and message
 * at a whole character), and can be printed as they are: escaped. */
typedef struct cdna_error {
  cdna_code code;
  int32_t os_errno;   /* With CDNA_IO, and CDNA_NO_MEMORY where the system said so; else 0. */
  int64_t block;      /* Of the plane; -1: of no block. */
  uint64_t offset;    /* In the file; CDNA_NO_OFFSET: of no byte. */
  int32_t plane;      /* Of the tensor or asset; -1: of no plane. */
  char rule[12];      /* Of spec/format.md, "F2"; "": none. */
  char tensor[256];   /* Or asset; "": none. */
  char file[512];     /* As the caller named it; "": none. */
  char message[512];  /* What is wrong, without the place. */
} cdna_error;

/* One line with all of it: file, tensor, plane, block, byte offset, message, rule, text of os_errno. Writes at most
 * `size` bytes with the 0 and returns the length that all of it has without, like snprintf. */
CDNA_API size_t cdna_error_describe(const cdna_error* error, char* out, size_t size);
/* "corrupt", "ok", "end"; "" for other numbers. Static storage. */
CDNA_API const char* cdna_code_name(cdna_code code);
/* `text` with everything escaped that could act on a terminal, as in the texts of errors. Like snprintf; NULL: "".
 * Without memory for that, everything that is not ASCII is escaped. */
CDNA_API size_t cdna_escape(const char* text, char* out, size_t size);

/* Which build this is and what it found on this machine. Errors: BAD_ARGUMENT (also: CDNA_CPU or CDNA_SHA256 name
 * nothing that this machine has), NO_MEMORY. */
CDNA_API cdna_code cdna_build(cdna_build_info* ret_info, cdna_error* error);

/* ---- Element types ---- */

/* spec/format.md, 7.3. Fields of this type are uint32_t. */
enum {
  CDNA_DTYPE_NONE = 0,
  CDNA_BOOL = 1,
  CDNA_U8 = 2,
  CDNA_I8 = 3,
  CDNA_U16 = 4,
  CDNA_I16 = 5,
  CDNA_U32 = 6,
  CDNA_I32 = 7,
  CDNA_U64 = 8,
  CDNA_I64 = 9,
  CDNA_F16 = 10,
  CDNA_BF16 = 11,
  CDNA_F32 = 12,
  CDNA_F64 = 13,
  CDNA_C64 = 14,
  CDNA_F8_E4M3 = 15,
  CDNA_F8_E5M2 = 16,
  CDNA_F8_E8M0 = 17,
  CDNA_F8_E4M3FNUZ = 18,
  CDNA_F8_E5M2FNUZ = 19,
  CDNA_F6_E2M3 = 20,
  CDNA_F6_E3M2 = 21,
  CDNA_F4 = 22
};

/* "BF16", as safetensors spells it; "" for others. Static storage. */
CDNA_API const char* cdna_dtype_name(uint32_t dtype);
/* The type of that name; CDNA_DTYPE_NONE for others and NULL. */
CDNA_API uint32_t cdna_dtype_of(const char* name);
/* Bits per element: 4 to 64; 0 for others. */
CDNA_API uint32_t cdna_dtype_bits(uint32_t dtype);

/* ---- Threads ---- */

/* As a number of threads, everywhere: 0 is the caller's alone, and this is one per core. */
#define CDNA_ALL_CORES 0xFFFFFFFFu

/* Who does the work of a call. One call at a time may use a cdna_workers: for another it is a BAD_ARGUMENT. */
typedef struct cdna_workers cdna_workers;

/* Calls body(body_context, i) once for every i in [0, count), from whatever threads it likes, and returns when all have
 * returned. A body waits for nothing but what other bodies that have begun will do: they may run one after the
 * other. */
typedef void (*cdna_parallel_for)(void* context, uint64_t count, void (*body)(void* body_context, uint64_t i),
                                  void* body_context);

/* The calling thread and `threads` - 1 of the library's own, which live until cdna_workers_free(); 0: as 1.
 * Errors: NO_MEMORY, LIMIT (over 1024). */
CDNA_API cdna_code cdna_workers_create(uint32_t threads, cdna_workers** ret_workers, cdna_error* error);
/* The caller's threads: at most `concurrency` bodies are asked for at a time. Errors: NO_MEMORY, BAD_ARGUMENT,
 * LIMIT (over 1024). A call whose bodies were not each run once is a BAD_ARGUMENT of that call. */
CDNA_API cdna_code cdna_workers_create_with(uint32_t concurrency, cdna_parallel_for parallel_for, void* context,
                                            cdna_workers** ret_workers, cdna_error* error);
/* How many bodies run at a time: fewer than asked for where the system refused threads. 0 for NULL. */
CDNA_API uint32_t cdna_workers_concurrency(const cdna_workers* workers);
CDNA_API void cdna_workers_free(cdna_workers* workers);

/* ---- Opening ---- */

typedef struct cdna_reader cdna_reader;

enum { CDNA_IO_AUTOMATIC = 0, CDNA_IO_MMAP = 1, CDNA_IO_PREAD = 2 };
enum {
  CDNA_TRUST_AUTOMATIC = 0, /* ZERO_COPY for what is mapped, else STRICT. */
  /* Blocks are verified in the shared mapping at first touch and used from there: for files that nobody changes. Cut
   * off before a block's first touch: an error (Linux before 5.14: SIGBUS). Cut off after it: SIGBUS, in the library
   * and in the caller. Rewritten in place after it: not noticed by this reader. Replaced by rename: the old file. */
  CDNA_TRUST_ZERO_COPY = 1,
  /* Each block is copied to private memory at each use and verified there: right bytes or an error, whatever becomes
   * of the file. That a block is CORRUPT is remembered per reader: it stays so for this one, should the file be mended,
   * and another reader asks anew. */
  CDNA_TRUST_STRICT = 2
};

typedef struct cdna_open_options {
  uint32_t struct_size;
  uint32_t io;                            /* CDNA_IO_; only cdna_open() and cdna_open_descriptor(). */
  uint32_t trust;                         /* CDNA_TRUST_ */
  uint32_t reserved;                      /* 0 */
  const uint8_t* expected_root;           /* [32], or NULL. Nothing but the tail is used before it was compared. */
  uint64_t footer_bytes_max;              /* 0: 256 MiB */
  uint64_t items_max;                     /* 0: 2^24 */
  uint64_t tensor_decoded_bytes_max;      /* Per plane; 0: 2 TiB */
  uint64_t pinned_bytes_max;              /* Of cdna_pin_rows(), all pins together; 0: none may be made. */
  const char* name;                       /* Of memory, for messages; copied. NULL: "". Only cdna_open_memory(). */
} cdna_open_options;

#define CDNA_OPEN_OPTIONS_INIT \
  { (uint32_t)sizeof(cdna_open_options), 0, 0, 0, NULL, 0, 0, 0, 0, NULL }

/* A caller's own storage: an object store, a packed archive, another process. */
typedef struct cdna_source {
  uint32_t struct_size;
  uint32_t reserved;   /* 0 */
  uint64_t size_bytes; /* Of the file. */
  void* context;
  /* Fills `out` with bytes [offset, offset + size), which lie within the file. 0, or an errno (negative: the same as
   * its absolute value): then the call that reads fails with CDNA_IO. Called from any threads that use the reader,
   * several at once. What it fills in is verified before use. */
  int32_t (*read_at)(void* context, uint64_t offset, void* out, uint64_t size);
  /* Once: when the reader is freed, or before cdna_open_source() returns an error, whichever it is. May be NULL. */
  void (*close)(void* context);
  const char* name; /* For messages; copied. NULL: "". */
} cdna_source;

#define CDNA_SOURCE_INIT \
  { (uint32_t)sizeof(cdna_source), 0, 0, NULL, NULL, NULL, NULL }

/* Opens the file `path` and checks head, tail and footer completely: names, shapes, products, places. Cost: O(footer),
 * independent of the number of blocks. Errors: all codes but EXISTS and CANCELLED. */
CDNA_API cdna_code cdna_open(const char* path, const cdna_open_options* options, cdna_reader** ret_reader,
                             cdna_error* error);
/* The same for a descriptor of a regular file, which stays the caller's: the reader has a duplicate. Its offset is
 * neither used nor moved. */
CDNA_API cdna_code cdna_open_descriptor(int descriptor, const cdna_open_options* options, cdna_reader** ret_reader,
                                        cdna_error* error);
/* The same for bytes that the caller keeps, unchanged, until the reader is freed. They count as mapped. */
CDNA_API cdna_code cdna_open_memory(const void* data, size_t size, const cdna_open_options* options,
                                    cdna_reader** ret_reader, cdna_error* error);
/* The same for a source of the caller's. trust: always STRICT. */
CDNA_API cdna_code cdna_open_source(const cdna_source* source, const cdna_open_options* options,
                                    cdna_reader** ret_reader, cdna_error* error);
/* Requires: no call with it under way, no cdna_blocks, cdna_block or cdna_pin of it left. Borrowed pointers end here. */
CDNA_API void cdna_reader_free(cdna_reader* reader);

typedef struct cdna_reader_info {
  uint32_t struct_size;
  uint32_t alignment; /* Of large planes in the file. */
  uint8_t root[32];
  uint64_t file_bytes;
  uint64_t footer_bytes;
  uint64_t tensor_count; /* With aliases. */
  uint64_t asset_count;
  uint64_t required_features;
  uint64_t optional_features;
  uint32_t trust;        /* CDNA_TRUST_, not AUTOMATIC. */
  uint32_t reserved;     /* 0 */
  const char* io;        /* "mmap", "pread", "memory", "custom"; borrowed until the reader is freed, as the next two. */
  const char* io_reason; /* "ext4 is a local file system"; "" */
  const char* name;      /* Path, or the source's name. */
} cdna_reader_info;

CDNA_API cdna_code cdna_reader_describe(const cdna_reader* reader, cdna_reader_info* ret_info, cdna_error* error);

/* Since the reader was opened, all threads together. */
typedef struct cdna_statistics {
  uint32_t struct_size;
  uint32_t reserved;        /* 0 */
  uint64_t bytes_read;      /* Copied from the source. */
  uint64_t bytes_hashed;    /* Of blocks and indices. */
  uint64_t bytes_decoded;   /* That codecs made. */
  uint64_t blocks_verified; /* Times a block was hashed. */
  uint64_t blocks_decoded;  /* Times a codec ran. */
  uint64_t blocks_reused;   /* Times a block was used that had been verified before. */
  uint64_t read_ns;         /* Summed over threads, as the next two: reading, */
  uint64_t verify_ns;       /* hashing, */
  uint64_t decode_ns;       /* codecs. */
} cdna_statistics;

CDNA_API cdna_code cdna_statistics_get(const cdna_reader* reader, cdna_statistics* ret_statistics, cdna_error* error);

/* ---- Tensors ---- */

/* Number of tensors and aliases; they are in the order of names, bytewise. 0 for NULL. */
CDNA_API uint64_t cdna_tensor_count(const cdna_reader* reader);
/* Cost: a binary search. Errors: NOT_FOUND. */
CDNA_API cdna_code cdna_tensor_find(const cdna_reader* reader, const char* name, uint64_t* ret_tensor,
                                    cdna_error* error);

/* spec/format.md, section 21; others are possible. */
enum {
  CDNA_ROLE_OTHER = 0,
  CDNA_ROLE_EMBEDDING = 1,
  CDNA_ROLE_OUTPUT_HEAD = 2,
  CDNA_ROLE_NORM = 3,
  CDNA_ROLE_BIAS = 4,
  CDNA_ROLE_MATRIX = 5,
  CDNA_ROLE_CONVOLUTION = 6,
  CDNA_ROLE_VECTOR = 7
};

typedef struct cdna_tensor_info {
  uint32_t struct_size;
  uint32_t dtype;           /* Of the source: CDNA_F32 and so on; others are possible. */
  const char* name;         /* The alias's own where it is one. All pointers: borrowed until the reader is freed. */
  const char* encoding;     /* "cdna.exact", "cdna.codebook"; others are possible, and not supported. */
  const char* alias_of;     /* Name of the tensor that an alias stands for, which all the rest is of; else NULL. */
  const uint64_t* shape;    /* [rank] */
  uint32_t rank;
  uint32_t role;            /* CDNA_ROLE_ */
  uint64_t rows;            /* Of the matrix view. */
  uint64_t cols;
  uint64_t element_count;
  uint64_t block_count;     /* Of the first plane: what cdna_block_acquire() takes. */
  uint64_t source_bytes;    /* Of the row-major source. */
  uint64_t stored_bytes;    /* Planes and index. */
  double bits_per_weight;   /* 8 * stored_bytes / element_count; 0 without elements. */
  uint32_t plane_count;
  uint32_t bits;            /* Per code, or per element. */
  uint32_t group;           /* Columns per group scale; 0: none. */
  int32_t supported;        /* 1; 0: this version cannot decode it (cdna_tensor_check says why). */
  double max_abs_error;     /* Recorded; 0 for exact tensors, +Inf unknown, as the next two. */
  double sum_squares;
  double sum_squared_error;
  uint8_t source_digest[32]; /* All 0: unknown. */
  int32_t is_plain;          /* 1: elements, or codes with codebook, scales and outliers, alone give the values. 0: further
                              * planes do too (offsets, a matrix of low rank, column scales), or it is not supported. */
  uint32_t reserved;         /* 0 */
} cdna_tensor_info;

CDNA_API cdna_code cdna_tensor_describe(const cdna_reader* reader, uint64_t tensor, cdna_tensor_info* ret_info,
                                        cdna_error* error);
/* Whether this library can decode the tensor. Errors: UNSUPPORTED (which part). */
CDNA_API cdna_code cdna_tensor_check(const cdna_reader* reader, uint64_t tensor, cdna_error* error);

/* spec/format.md, 8.1; others are possible. */
enum {
  CDNA_PLANE_DATA = 1,
  CDNA_PLANE_CODES = 2,
  CDNA_PLANE_CODEBOOK = 3,
  CDNA_PLANE_ROW_SCALE = 4,
  CDNA_PLANE_GROUP_SCALE = 5,
  CDNA_PLANE_SCALE_TABLE = 6,
  CDNA_PLANE_OUTLIERS = 7,
  CDNA_PLANE_GROUP_OFFSET = 8,
  CDNA_PLANE_LEFT = 14, /* A matrix of low rank. */
  CDNA_PLANE_FACTORS = 15,
  CDNA_PLANE_RIGHT = 16,
  CDNA_PLANE_COLUMN_SCALE = 17,
  CDNA_PLANE_IGNORABLE = 0x8000 /* Decoding works without this plane: 18 pwl, 19 affine, 20 statistics. */
};

enum {
  CDNA_LAYOUT_CONTIGUOUS = 0, /* Blocks as they are, without gaps. */
  CDNA_LAYOUT_PACKED = 1      /* Any codec; zeros up to the next multiple of 64 between blocks. */
};
enum {
  CDNA_SCOPE_WHOLE = 0,    /* One row for the tensor: a codebook. */
  CDNA_SCOPE_ROWS = 1,     /* One row for each of the matrix view. */
  CDNA_SCOPE_PER_BLOCK = 2 /* What belongs to each block of plane 0: outliers. */
};

typedef struct cdna_plane_info {
  uint32_t struct_size;
  uint32_t role;   /* CDNA_PLANE_ */
  uint32_t dtype;  /* CDNA_DTYPE_NONE: codes. */
  uint32_t bits;   /* Per entry. */
  uint32_t group;  /* Columns per entry; 0: none. */
  uint32_t block_count;
  uint64_t rows;
  uint64_t row_entries;
  uint64_t rows_per_block;
  uint64_t offset; /* In the file. */
  uint64_t stored_bytes;
  uint32_t layout; /* CDNA_LAYOUT_ */
  uint32_t scope;  /* CDNA_SCOPE_ */
  uint32_t vector; /* Elements of a row that an entry stands for: 1; of codes 1, 2 or 4. */
  uint32_t reserved; /* 0 */
} cdna_plane_info;

/* Requires: plane < plane_count. */
CDNA_API cdna_code cdna_plane_describe(const cdna_reader* reader, uint64_t tensor, uint32_t plane,
                                       cdna_plane_info* ret_info, cdna_error* error);
/* A whole verified plane as one pointer into the mapping: `rows` rows of ceil(row_entries * bits / 8) bytes, without
 * gaps; the last bits of rows that are not whole bytes are 0. Plane 0 of an exact tensor is the tensor, row-major, ready
 * to be used in place. A plane of CDNA_SCOPE_PER_BLOCK is its blocks as they are: for outliers use cdna_block. Borrowed
 * until the reader is freed. Cost: the first call hashes it. Errors: those of reading; BAD_ARGUMENT where it is
 * compressed, where there are gaps between its blocks (only with CDNA_LAYOUT_PACKED: cdna_read_rows() copies), or trust
 * is STRICT. */
CDNA_API cdna_code cdna_plane_data(const cdna_reader* reader, uint64_t tensor, uint32_t plane, const void** ret_data,
                                   uint64_t* ret_size, cdna_error* error);
/* The entries of a codebook tensor, as f32: v for each of 2^bits codes, where a code stands for v = cols / row_entries
 * of plane 0 (1, 2 or 4) elements; 1 unless the tensor was imported so. Borrowed until the reader is freed. */
CDNA_API cdna_code cdna_codebook(const cdna_reader* reader, uint64_t tensor, const float** ret_entries,
                                 uint64_t* ret_count, cdna_error* error);

/* As row_end, everywhere: to the last. */
#define CDNA_ALL_ROWS 0xFFFFFFFFFFFFFFFFu

/* Rows [row_begin, row_end) of the matrix view as elements of `dtype`, row i at out + i * row_stride bytes (0: without
 * gaps; at least what a row takes). An exact tensor can be had as its own dtype; every tensor of a float dtype as F16,
 * BF16, F32 and F64. A codebook tensor is decoded in f32 and rounded once. The dtype of its plane of outliers, which need
 * not be the source's, restores outliers bit for bit, unless a matrix of low rank or column scales change them. Touches
 * the covering blocks only. `workers` may be NULL: the calling thread alone. After an error `out` holds anything. Errors:
 * those of reading (IO, CORRUPT, MALFORMED, UNSUPPORTED, LIMIT, NO_MEMORY); BAD_ARGUMENT. */
CDNA_API cdna_code cdna_read_rows(const cdna_reader* reader, uint64_t tensor, uint64_t row_begin, uint64_t row_end,
                                  uint32_t dtype, void* out, uint64_t row_stride, cdna_workers* workers,
                                  cdna_error* error);

/* ---- Blocks ---- */

/* A verified block of a tensor's first plane with what belongs to it. Pointers live as its owner says. */
typedef struct cdna_block {
  uint32_t struct_size;
  int32_t in_place; /* 1: `data` points into the mapping. */
  uint64_t number;
  uint64_t row_begin; /* Of the matrix view. */
  uint64_t row_count;
  uint64_t col_begin; /* Of each row: all columns, but where rows of over 2^24 columns are cut. */
  uint64_t col_count;
  const void* data; /* Elements, or codes for 1, 2 or 4 columns each; row_count rows, each padded to whole bytes. */
  uint64_t data_size;
  double max_abs_error; /* Of the block, recorded; +Inf unknown. */
  /* Codebook tensors; NULL and 0 where there is no such plane. Values may need more (CDNA_PLANE_GROUP_OFFSET and so on,
   * spec/format.md, 13.2): cdna_read_rows() has them. */
  const float* row_scales;  /* [row_count] */
  const void* group_scales; /* [row_count, groups per row]; one byte each, or of the plane's dtype. */
  uint64_t group_scales_size;
  const void* outlier_values;    /* [outlier_count], in the dtype of the plane; not aligned. */
  const void* outlier_positions; /* [outlier_count] u32, ascending, within the block, row-major; not aligned. */
  uint64_t outlier_count;
  void* owner; /* Of an acquired block. */
} cdna_block;

#define CDNA_BLOCK_INIT \
  { (uint32_t)sizeof(cdna_block), 0, 0, 0, 0, 0, 0, NULL, 0, 0, NULL, NULL, 0, NULL, NULL, 0, NULL }

/* Block `block` of a tensor. Its pointers live until cdna_block_release(), whatever the trust mode; then they are NULL.
 * Any thread may release it. What
 * `ret_block` held before is overwritten, not released. Errors: those of reading; BAD_ARGUMENT (also: a struct_size that leaves out `owner`). */
CDNA_API cdna_code cdna_block_acquire(const cdna_reader* reader, uint64_t tensor, uint64_t block, cdna_block* ret_block,
                                      cdna_error* error);
CDNA_API void cdna_block_release(cdna_block* block);

/* The blocks that cover rows [row_begin, row_end), one after the other. Stepping allocates nothing (brotli: after the
 * first few). */
typedef struct cdna_blocks cdna_blocks;
CDNA_API cdna_code cdna_blocks_open(const cdna_reader* reader, uint64_t tensor, uint64_t row_begin, uint64_t row_end,
                                    cdna_blocks** ret_blocks, cdna_error* error);
/* The next block, borrowed until the next call with `blocks`. CDNA_END: there is none; `error` is not written. A damaged
 * block is an error in its place; the call after it gives the one behind. */
CDNA_API cdna_code cdna_blocks_next(cdna_blocks* blocks, cdna_block* ret_block, cdna_error* error);
CDNA_API void cdna_blocks_free(cdna_blocks* blocks);

/* ---- Memory ---- */

/* Asks the system to read what rows [row_begin, row_end) need, and returns at once. */
CDNA_API cdna_code cdna_prefetch(const cdna_reader* reader, uint64_t tensor, uint64_t row_begin, uint64_t row_end,
                                 cdna_error* error);
/* Lets the pages of those rows go; they come back when they are touched. Mapped: from this process. Read by pread: from
 * the page cache, for all processes (POSIX_FADV_DONTNEED). Memory and sources of the caller's: nothing. */
CDNA_API cdna_code cdna_evict(const cdna_reader* reader, uint64_t tensor, uint64_t row_begin, uint64_t row_end,
                              cdna_error* error);
/* Verifies those rows and keeps their pages in memory (mlock) until the pin is freed. Errors: those of reading; LIMIT
 * (over pinned_bytes_max of the options), IO (RLIMIT_MEMLOCK), UNSUPPORTED (not mapped, or STRICT). */
typedef struct cdna_pin cdna_pin;
CDNA_API cdna_code cdna_pin_rows(const cdna_reader* reader, uint64_t tensor, uint64_t row_begin, uint64_t row_end,
                                 cdna_pin** ret_pin, cdna_error* error);
CDNA_API void cdna_pin_free(cdna_pin* pin);

/* ---- Verifying ---- */

/* Returns anything but 0 to cancel. Called from the thread of the call, now and then. */
typedef int32_t (*cdna_progress)(void* context, uint64_t bytes_done, uint64_t bytes_total);

enum {
  CDNA_VERIFY_QUICK = 1,    /* Head, tail, footer, and the index of every item. */
  CDNA_VERIFY_STANDARD = 0, /* And every block's digest. */
  CDNA_VERIFY_DEEP = 2      /* And decode every block; gaps, records, padding; finite scales; source digests. */
};

/* Something wrong; `error` lives only during the call. Returns anything but 0 to cancel. */
typedef int32_t (*cdna_problem)(void* context, const cdna_error* error, uint64_t byte_begin, uint64_t byte_end);

typedef struct cdna_verify_options {
  uint32_t struct_size;
  uint32_t level;   /* CDNA_VERIFY_ */
  uint32_t threads; /* During the call; 0: the caller's alone. */
  uint32_t reserved;
  cdna_progress progress; /* Or NULL. */
  void* progress_context;
  cdna_problem problem; /* Or NULL. After the check, in the order of spec/format.md 16.2, the first 1000. */
  void* problem_context;
} cdna_verify_options;

#define CDNA_VERIFY_OPTIONS_INIT \
  { (uint32_t)sizeof(cdna_verify_options), 0, 0, 0, NULL, NULL, NULL, NULL }

typedef struct cdna_verify_report {
  uint32_t struct_size;
  uint32_t reserved; /* 0 */
  uint64_t item_count;
  uint64_t unsupported_count; /* Items that this version cannot decode; verified all the same. */
  uint64_t blocks_checked;
  uint64_t problem_count;
} cdna_verify_report;

/* Checks the whole file, and that its root is the reader's: ROOT_MISMATCH where another file has been written in its
 * place. CDNA_OK: everything that the level checks is right. Else the first problem, and ret_report (may be NULL) is
 * written all the same, as the one exception of this interface, unless the check was cancelled or could not be done.
 * Errors: those of reading, CANCELLED. */
CDNA_API cdna_code cdna_verify(const cdna_reader* reader, const cdna_verify_options* options,
                               cdna_verify_report* ret_report, cdna_error* error);
/* Checks the index and every block of one tensor. */
CDNA_API cdna_code cdna_tensor_verify(const cdna_reader* reader, uint64_t tensor, cdna_error* error);

/* ---- Metadata and assets ---- */

enum {
  CDNA_NULL = 0,
  CDNA_BOOLEAN = 1,
  CDNA_INT = 2,
  CDNA_UINT = 3,
  CDNA_FLOAT = 4,
  CDNA_STRING = 5,
  CDNA_BYTES = 6,
  CDNA_JSON = 7
};

typedef struct cdna_metadata_value {
  uint32_t struct_size;
  uint32_t kind;    /* CDNA_NULL and so on; other fields are 0. */
  const char* key;  /* When reading: borrowed until the reader is freed, as `data`. */
  int64_t integer;  /* Of INT, and of BOOLEAN: 0 or 1. */
  uint64_t uinteger;
  double real;
  const void* data; /* Of STRING, BYTES, JSON; a 0 follows. */
  uint64_t size;    /* Of data, without the 0. */
  uint64_t key_size; /* When reading, without the 0: keys, other than names, may contain one. Else not used. */
} cdna_metadata_value;

/* In the order of keys, bytewise. The first call reads and verifies all of it. Errors: those of reading. */
CDNA_API cdna_code cdna_metadata_count(const cdna_reader* reader, uint64_t* ret_count, cdna_error* error);
CDNA_API cdna_code cdna_metadata_at(const cdna_reader* reader, uint64_t index, cdna_metadata_value* ret_value,
                                    cdna_error* error);
/* Errors: NOT_FOUND, those of reading. */
CDNA_API cdna_code cdna_metadata_find(const cdna_reader* reader, const char* key, cdna_metadata_value* ret_value,
                                      cdna_error* error);

typedef struct cdna_asset_info {
  uint32_t struct_size;
  uint32_t reserved;
  const char* name; /* Borrowed until the reader is freed. */
  const char* media_type;
  uint64_t size;
  uint64_t stored_bytes;
} cdna_asset_info;

/* Assets (config, tokenizer) are in the order of names. 0 for NULL. */
CDNA_API uint64_t cdna_asset_count(const cdna_reader* reader);
CDNA_API cdna_code cdna_asset_find(const cdna_reader* reader, const char* name, uint64_t* ret_asset, cdna_error* error);
CDNA_API cdna_code cdna_asset_describe(const cdna_reader* reader, uint64_t asset, cdna_asset_info* ret_info,
                                       cdna_error* error);
/* Verified bytes [offset, offset + size). Errors: those of reading; BAD_ARGUMENT (beyond its end). */
CDNA_API cdna_code cdna_asset_read(const cdna_reader* reader, uint64_t asset, uint64_t offset, void* out, uint64_t size,
                                   cdna_error* error);

/* ---- Multiplying ---- */

enum { CDNA_MATH_F32 = 0, CDNA_MATH_BF16 = 1, CDNA_MATH_INT8 = 2 };
enum { CDNA_LINEAR = 0 /* y = x W^T */, CDNA_TRANSPOSED = 1 /* y = x W */ };

/* Element (i, j) is at data + (i * row_stride + j * col_stride) * size of dtype. Strides may be negative, and but for y
 * also 0. */
typedef struct cdna_matrix {
  const void* data; /* Of y: written to. */
  uint32_t dtype;   /* CDNA_F32, _F16, _BF16; at any address. */
  uint32_t reserved;
  uint64_t rows;
  uint64_t cols;
  int64_t row_stride; /* In elements. */
  int64_t col_stride;
} cdna_matrix;

/* Rows [row_begin, row_end) of a tensor. */
typedef struct cdna_rows {
  const cdna_reader* reader;
  uint64_t tensor;
  uint64_t row_begin;
  uint64_t row_end;     /* CDNA_ALL_ROWS: to the last. */
  uint64_t reserved[2]; /* 0 */
} cdna_rows;

typedef struct cdna_matmul_options {
  uint32_t struct_size;
  uint32_t math;              /* CDNA_MATH_: error bounds in cdna/matmul.hpp. */
  uint32_t orientation;       /* CDNA_LINEAR, CDNA_TRANSPOSED */
  int32_t accumulate;         /* Not 0: y += instead of y =. */
  const cdna_matrix* bias;    /* [1, columns of y], added to each row of y; or NULL. */
  cdna_workers* workers;      /* NULL: the calling thread alone. */
  uint64_t scratch_bytes_max; /* Private memory of all threads together; 0: 256 MiB. */
  uint64_t resident_bytes_max; /* Pages of the file left in memory behind the call; 0: no limit. */
  const char* isa;            /* "avx2", one of cdna_build_info's isas; NULL: the one in use. */
} cdna_matmul_options;

#define CDNA_MATMUL_OPTIONS_INIT \
  { (uint32_t)sizeof(cdna_matmul_options), 0, 0, 0, NULL, NULL, 0, 0, NULL }

/* Multiplies straight from the blocks; W is never held. Linear: x [m, cols], y [m, rows of all parts side by side].
 * Transposed: one part, x [m, its rows], y [m, cols]. x and y do not overlap. Bits do not depend on threads, blocks,
 * trust or, in f32, on the instruction set. After an error y holds anything. Errors: BAD_ARGUMENT, UNSUPPORTED, LIMIT,
 * NO_MEMORY, and those of reading. */
CDNA_API cdna_code cdna_matmul(const cdna_rows* parts, uint64_t part_count, const cdna_matrix* x, const cdna_matrix* y,
                               const cdna_matmul_options* options, cdna_error* error);

typedef struct cdna_matmul_plan {
  uint32_t struct_size;
  uint32_t threads;
  uint64_t passes; /* Over W. */
  uint64_t scratch_bytes;
  char kernel[64];   /* "codes, 8 bits, binary16 codebook" */
  char loop[16];     /* "dot", "tile" */
  char products[32]; /* "f32", "bf16 (vdpbf16ps)" */
  char isa[16];
  char io[16];
  char trust[16];
  char blocks[48];   /* "raw, in place" */
} cdna_matmul_plan;

/* What cdna_matmul() would do for `m` rows of x. */
CDNA_API cdna_code cdna_matmul_describe(const cdna_rows* parts, uint64_t part_count, uint64_t m,
                                        const cdna_matmul_options* options, cdna_matmul_plan* ret_plan,
                                        cdna_error* error);

/* ---- Compressing ---- */

/* A preset by name, with parameters after commas: "exact", "exact-z", "cb8", "cb8g64", "cb6g64", "cb5g32", "cb4g32",
 * "cb6g64,k=50,outliers=0.001", "cb8,class=pwl16". */

/* A matrix as codes, without a file. */
typedef struct cdna_encoded cdna_encoded;

typedef struct cdna_encoded_info {
  uint32_t struct_size;
  uint32_t dtype; /* Of the source and of outlier_values. */
  uint64_t rows;
  uint64_t cols;
  uint32_t bits;  /* Per code. */
  uint32_t group; /* Columns per group scale; 0: none. */
  /* Borrowed until cdna_encoded_free(); NULL and 0 where there are none. */
  const float* codebook;             /* [2^bits], ascending */
  const uint8_t* codes;              /* [rows, ceil(cols * bits / 8)] */
  const float* row_scales;           /* [rows] */
  const uint8_t* group_scales;       /* [rows, ceil(cols / group)], numbers of scale_table */
  const float* scale_table;          /* [256] */
  const void* outlier_values;        /* [outlier_count], of dtype */
  const uint64_t* outlier_positions; /* [outlier_count], row-major, ascending */
  uint64_t outlier_count;
  uint64_t payload_bytes;
  double bits_per_weight;
  double snr_db; /* +Inf without error. */
  double max_abs_error;
} cdna_encoded_info;

typedef struct cdna_encode_options {
  uint32_t struct_size;
  uint32_t threads;       /* During the call; 0: the caller's alone. The result does not depend on them. */
  int32_t keep_nonfinite; /* Not 0: NaN and infinities become outliers, bit for bit; 0: they are an error. */
  uint32_t reserved;      /* 0 */
} cdna_encode_options;

#define CDNA_ENCODE_OPTIONS_INIT \
  { (uint32_t)sizeof(cdna_encode_options), 0, 0, 0 }

/* Encodes row-major elements of F16, BF16, F32 or F64 with a codebook preset. Errors: BAD_ARGUMENT (not a codebook
 * preset; a value that is not finite, with its place; over 2^24 columns), LIMIT (threads), NO_MEMORY. */
CDNA_API cdna_code cdna_encode(uint32_t dtype, uint64_t rows, uint64_t cols, const void* data, const char* preset,
                               const cdna_encode_options* options, cdna_encoded** ret_encoded, cdna_error* error);
CDNA_API cdna_code cdna_encoded_describe(const cdna_encoded* encoded, cdna_encoded_info* ret_info, cdna_error* error);
/* The values that a reader would return: out [rows, cols] f32. */
CDNA_API cdna_code cdna_encoded_decode(const cdna_encoded* encoded, float* out, cdna_error* error);
CDNA_API void cdna_encoded_free(cdna_encoded* encoded);

/* ---- Writing ---- */

/* Writes a file front to back, in memory that does not grow with it. After an error, and after cdna_writer_finish(), a
 * writer may only be freed: every other call is a BAD_ARGUMENT. */
typedef struct cdna_writer cdna_writer;

/* Where bytes go, in order. write and commit are called during calls with the writer, by one of their threads at a
 * time. */
typedef struct cdna_sink {
  uint32_t struct_size;
  uint32_t reserved;
  void* context;
  int32_t (*write)(void* context, const void* data, uint64_t size); /* 0, or an errno (positive). */
  /* Makes what was written durable and visible; last. May be NULL. 0, or an errno. */
  int32_t (*commit)(void* context);
  /* Once, whatever happened: in cdna_writer_free(), or in a cdna_writer_create_sink() that fails. May be NULL. */
  void (*close)(void* context);
} cdna_sink;

#define CDNA_SINK_INIT \
  { (uint32_t)sizeof(cdna_sink), 0, NULL, NULL, NULL, NULL }

typedef struct cdna_writer_options {
  uint32_t struct_size;
  uint32_t alignment; /* Of large planes: a power of two, 64 to 65536; 0: 4096. */
  uint32_t threads;   /* During calls that have work for several, the caller's among them; 0: the caller's alone. None
                         outlives its call. The bytes do not depend on it. */
  int32_t force;      /* Not 0: an existing regular file is replaced, by rename. */
  /* Or NULL: after parts of a tensor and after each. bytes_done: read of all tensors so far, twice where codes are made;
   * bytes_total is 0. */
  cdna_progress progress;
  void* progress_context;
} cdna_writer_options;

#define CDNA_WRITER_OPTIONS_INIT \
  { (uint32_t)sizeof(cdna_writer_options), 0, 0, 0, NULL, NULL }

/* A new file `path`, of which nothing is seen before cdna_writer_finish(). Errors: IO, EXISTS, BAD_ARGUMENT, LIMIT
 * (threads), NO_MEMORY. */
CDNA_API cdna_code cdna_writer_create(const char* path, const cdna_writer_options* options, cdna_writer** ret_writer,
                                      cdna_error* error);
/* Calls sink->close also when it fails, unless `sink` is NULL or has a wrong struct_size. Errors: IO, BAD_ARGUMENT, LIMIT,
 * NO_MEMORY. */
CDNA_API cdna_code cdna_writer_create_sink(const cdna_sink* sink, const cdna_writer_options* options,
                                           cdna_writer** ret_writer, cdna_error* error);
/* Before cdna_writer_finish(): nothing is left of the file. */
CDNA_API void cdna_writer_free(cdna_writer* writer);

enum { CDNA_CODEC_RAW = 0, CDNA_CODEC_ZSTD = 1, CDNA_CODEC_BROTLI = 2 };

/* Fills `out` with bytes [offset, offset + size) of a tensor's row-major little-endian data; 0, or an errno. Called by
 * several threads at once where the writer has more than one, and twice for each byte where codes are made. */
typedef int32_t (*cdna_tensor_reader)(void* context, uint64_t offset, void* out, uint64_t size);

typedef struct cdna_tensor_spec {
  uint32_t struct_size;
  uint32_t dtype;
  const char* name;
  const uint64_t* shape; /* [rank] */
  uint32_t rank;
  uint32_t codec;     /* CDNA_CODEC_ of elements, codes and outliers; blocks that gain less than 3 % are stored raw. */
  const char* preset; /* NULL: "exact". */
  /* 0: exactly that preset, or an error. Not 0: as for a whole model: only matrices and convolutions become codes,
   * embeddings, output heads and whatever cannot be encoded stay exact (spec/format.md, section 21). */
  int32_t by_policy;
  int32_t keep_nonfinite; /* Not 0: NaN and infinities become outliers, bit for bit; 0: they are an error. */
} cdna_tensor_spec;

#define CDNA_TENSOR_SPEC_INIT \
  { (uint32_t)sizeof(cdna_tensor_spec), 0, NULL, NULL, 0, 0, NULL, 0, 0 }

/* Errors of all of these: IO, EXISTS (the name is taken), BAD_ARGUMENT, LIMIT, NO_MEMORY, CANCELLED. */

/* A tensor whose data lie in memory during the call, row-major and little-endian. */
CDNA_API cdna_code cdna_writer_add(cdna_writer* writer, const cdna_tensor_spec* spec, const void* data, uint64_t size,
                                   cdna_error* error);
/* A tensor whose data are read as they are needed. */
CDNA_API cdna_code cdna_writer_add_from(cdna_writer* writer, const cdna_tensor_spec* spec, cdna_tensor_reader reader,
                                        void* context, cdna_error* error);
/* A matrix that is encoded already: spec->dtype and the matrix view of spec->shape are its own; preset, by_policy and
 * keep_nonfinite are not used. The file says of the codes what is known without their source: no digest of it. */
CDNA_API cdna_code cdna_writer_add_encoded(cdna_writer* writer, const cdna_tensor_spec* spec,
                                           const cdna_encoded* encoded, cdna_error* error);
/* A tensor of an exact preset whose rows arrive in order, `row_count` of them at a time: rows of the matrix view, each
 * padded to whole bytes. A preset of codes is a BAD_ARGUMENT, unless by_policy keeps the tensor exact. */
CDNA_API cdna_code cdna_writer_begin(cdna_writer* writer, const cdna_tensor_spec* spec, cdna_error* error);
CDNA_API cdna_code cdna_writer_append_rows(cdna_writer* writer, const void* rows, uint64_t row_count,
                                           cdna_error* error);
CDNA_API cdna_code cdna_writer_end(cdna_writer* writer, cdna_error* error);
/* Another name of a tensor that was added before. Errors: NOT_FOUND. */
CDNA_API cdna_code cdna_writer_add_alias(cdna_writer* writer, const char* name, const char* tensor, cdna_error* error);
CDNA_API cdna_code cdna_writer_add_asset(cdna_writer* writer, const char* name, const char* media_type,
                                         const void* data, uint64_t size, uint32_t codec, cdna_error* error);
/* value->key and what its kind has; the last one of a key counts. Copied. Errors: BAD_ARGUMENT, NO_MEMORY. */
CDNA_API cdna_code cdna_writer_set_metadata(cdna_writer* writer, const cdna_metadata_value* value, cdna_error* error);
/* Writes what is left, and makes the file appear. ret_root [32] may be NULL. */
CDNA_API cdna_code cdna_writer_finish(cdna_writer* writer, uint8_t* ret_root, cdna_error* error);

/* ---- Converting ---- */

typedef struct cdna_convert_options {
  uint32_t struct_size;
  uint32_t threads;       /* During the call; 0: the caller's alone. */
  const char* encoding;   /* Preset of what nothing else decides; NULL: "exact". Not with policy or a budget: then it
                             is a BAD_ARGUMENT. */
  const char* policy;     /* JSON text of rules (tools/README.md), or NULL. */
  const char* embeddings; /* Preset of embeddings and output heads, or NULL: exact. */
  const char* const* keep_exact; /* Shell patterns of names that stay exact. */
  uint32_t keep_exact_count;
  uint32_t codec;            /* CDNA_CODEC_ */
  double bits_per_weight;    /* Budget, up to 64; 0: none. */
  uint64_t target_bytes;     /* Budget of the whole file, below 2^53; 0: none. Not with bits_per_weight. */
  int32_t keep_nonfinite;    /* As in cdna_tensor_spec. */
  int32_t force;             /* Not 0: an existing regular file is replaced. */
  cdna_progress progress;    /* Or NULL. Bytes of tensors, each as often as it is read. */
  void* progress_context;
  /* What the source is: "safetensors", "hxq", "hxzc", "hxz2", "helix-v2", "helix-v3", "gguf", "gguf-hxq" (never found by
   * content), "npy", "npz"; NULL or "auto": what its content says. */
  const char* source_format;
  const char* sidecar; /* HXZO file with the outliers of an hxzc or hxz2 file; NULL: the one beside it, if there is one. */
  const char* const* skip;   /* Of helix-v3 and hxq: shell patterns of names of tensors that are left out unread. */
  const char* const* shapes; /* Of hxq: "GLOB=ROWSxCOLS", either may be "*", of matrices whose shape nothing tells. */
  uint32_t skip_count;
  uint32_t shape_count;
} cdna_convert_options;

#define CDNA_CONVERT_OPTIONS_INIT \
  { (uint32_t)sizeof(cdna_convert_options), 0, NULL, NULL, NULL, NULL, 0, 0, 0, 0, 0, 0, NULL, NULL, NULL, NULL, NULL, NULL, \
    0, 0 }

typedef struct cdna_convert_report {
  uint32_t struct_size;
  uint32_t reserved;
  uint8_t root[32];
  uint64_t tensor_count;
  uint64_t source_bytes; /* Of tensors. */
  uint64_t stored_bytes; /* Likewise: planes and indices. */
  uint64_t file_bytes;
} cdna_convert_report;

/* Converts a .safetensors, GGUF, .npy or .npz file, a Hugging Face directory, or what helix-substrate wrote, into the file
 * `destination`, in memory that does not grow with it; what `cdna convert` does. Tensors that the source holds as codes
 * keep them unless a rule names them. Nothing is seen of the file before it is whole. ret_report may be NULL. Errors: all
 * codes but ROOT_MISMATCH and NOT_CDNA. */
CDNA_API cdna_code cdna_convert(const char* source, const char* destination, const cdna_convert_options* options,
                                cdna_convert_report* ret_report, cdna_error* error);

typedef struct cdna_export_options {
  uint32_t struct_size;
  uint32_t dtype; /* What F16, BF16, F32 and F64 tensors become, one of these; NONE: each its source's. */
  int32_t force;  /* Not 0: an existing regular file is replaced. */
  int32_t q8_0;   /* GGUF only. Not 0: tensors of two and more dimensions with rows of whole blocks of 32 become Q8_0. */
  cdna_progress progress; /* Or NULL. Bytes written. */
  void* progress_context;
  /* "safetensors", "gguf", "npz", or "hxq", a directory that helix-substrate loads; NULL: what the destination's ending
   * says, ".gguf" or ".npz", and else safetensors. */
  const char* format;
  /* GGUF only. general.architecture, as llama.cpp calls it ("llama", "qwen2"); NULL: what the container says. */
  const char* architecture;
} cdna_export_options;

#define CDNA_EXPORT_OPTIONS_INIT \
  { (uint32_t)sizeof(cdna_export_options), 0, 0, 0, NULL, NULL, NULL, NULL }

/* Writes all tensors, decoded, as `destination`, of which nothing is seen before it is whole. Errors: those of reading,
 * EXISTS, UNSUPPORTED (also: what the format cannot hold), BAD_ARGUMENT (also: a tensor that is not whole bytes),
 * CANCELLED. */
CDNA_API cdna_code cdna_export(const cdna_reader* reader, const char* destination, const cdna_export_options* options,
                               cdna_error* error);

#ifdef __cplusplus
}
#endif

#endif
