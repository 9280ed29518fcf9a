/* Reads a file through range requests to a server, which answers one of them wrongly: range_source FILE TENSOR.
 *
 * The server is a child process at the other end of a socket, with just as much of HTTP as this needs: HEAD for the
 * size, GET with a Range, and LIE, after which one answer has a wrong bit. A real client has timeouts and several
 * connections; what it has not to have is trust in the server, since every block is verified behind it. */
#define _POSIX_C_SOURCE 200809L
#include <cdna.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

typedef unsigned long long ull;
enum { kLineMax = 128 };

/* ---- Both ends ---- */

static int send_all(int socket, const void* data, size_t size) {
  const char* from = data;
  while (size > 0) {
    const ssize_t sent = send(socket, from, size, MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent <= 0) return 0;
    from += sent;
    size -= (size_t)sent;
  }
  return 1;
}

static int receive_all(int socket, void* data, size_t size) {
  char* to = data;
  while (size > 0) {
    const ssize_t received = recv(socket, to, size, 0);
    if (received < 0 && errno == EINTR) continue;
    if (received <= 0) return 0;
    to += received;
    size -= (size_t)received;
  }
  return 1;
}

/* A head up to its empty line. */
static int receive_head(int socket, char head[kLineMax]) {
  size_t length = 0;
  while (length < kLineMax - 1) {
    if (!receive_all(socket, head + length, 1)) return 0;
    head[++length] = 0;
    if (length >= 4 && memcmp(head + length - 4, "\r\n\r\n", 4) == 0) return 1;
  }
  return 0;
}

/* ---- Server ---- */

static int answer_range(int socket, int file, const char* head, int* lies) {
  ull first = 0, last = 0;
  char line[kLineMax];
  if (sscanf(head, "GET / HTTP/1.1\r\nRange: bytes=%llu-%llu", &first, &last) != 2 || last < first) return 0;
  const size_t size = (size_t)(last - first + 1);
  unsigned char* bytes = malloc(size);
  int fine = bytes != NULL && pread(file, bytes, size, (off_t)first) == (ssize_t)size;
  if (fine && *lies) bytes[size / 2] ^= 1;
  *lies = 0;
  const int length = snprintf(line, sizeof line, "HTTP/1.1 206 Partial Content\r\nContent-Length: %zu\r\n\r\n", size);
  fine = fine && send_all(socket, line, (size_t)length) && send_all(socket, bytes, size);
  free(bytes);
  return fine;
}

static int serve(int socket, const char* path) {
  char head[kLineMax];
  struct stat status;
  int lies = 0;
  const int file = open(path, O_RDONLY);
  if (file < 0 || fstat(file, &status) != 0) return 1;
  while (receive_head(socket, head)) {
    if (strncmp(head, "HEAD", 4) == 0) {
      const int length =
          snprintf(head, sizeof head, "HTTP/1.1 200 OK\r\nContent-Length: %llu\r\n\r\n", (ull)status.st_size);
      if (!send_all(socket, head, (size_t)length)) break;
    } else if (strncmp(head, "LIE", 3) == 0) {
      lies = 1;
    } else if (!answer_range(socket, file, head, &lies)) {
      break;
    }
  }
  return 0;
}

/* ---- Client ---- */

typedef struct connection {
  int socket;
  pthread_mutex_t mutex; /* The library may read from several threads; there is one socket. */
} connection;

static int ask(connection* server, const char* request, ull* ret_size) {
  char head[kLineMax];
  const char* length = NULL;
  if (!send_all(server->socket, request, strlen(request)) || !receive_head(server->socket, head)) return 0;
  length = strstr(head, "Content-Length: ");
  return length != NULL && sscanf(length, "Content-Length: %llu", ret_size) == 1;
}

/* cdna_source's read_at. */
static int32_t read_range(void* context, uint64_t offset, void* out, uint64_t size) {
  connection* server = context;
  char request[kLineMax];
  ull answered = 0;
  if (size == 0) return 0;
  snprintf(request, sizeof request, "GET / HTTP/1.1\r\nRange: bytes=%llu-%llu\r\n\r\n", (ull)offset,
           (ull)(offset + size - 1));
  pthread_mutex_lock(&server->mutex);
  const int fine =
      ask(server, request, &answered) && answered == size && receive_all(server->socket, out, (size_t)size);
  pthread_mutex_unlock(&server->mutex);
  return fine ? 0 : EIO;
}

static void print_error(const cdna_error* error) {
  char text[2048];
  cdna_error_describe(error, text, sizeof text);
  printf("%s\n", text);
}

/* Opens the file on the server, and prints the first element of a tensor; with `lie`, after the server was asked to
 * lie. */
static cdna_code read_first(connection* server, const char* name, int lie, cdna_error* error) {
  ull size = 0;
  float* row = NULL;
  uint64_t tensor = 0;
  cdna_reader* reader = NULL;
  cdna_tensor_info info = {.struct_size = sizeof info};
  cdna_source source = CDNA_SOURCE_INIT;
  if (!ask(server, "HEAD / HTTP/1.1\r\n\r\n", &size)) abort();
  source.size_bytes = size;
  source.context = server;
  source.read_at = read_range;
  source.name = "http://localhost/model.cdna";
  cdna_code code = cdna_open_source(&source, NULL, &reader, error);
  if (code == CDNA_OK) code = cdna_tensor_find(reader, name, &tensor, error);
  if (code == CDNA_OK) code = cdna_tensor_describe(reader, tensor, &info, error);
  if (code == CDNA_OK && (row = calloc(info.cols + 1, sizeof *row)) == NULL) abort();
  /* The first time also brings in the index, which has a digest, too. */
  if (code == CDNA_OK) code = cdna_read_rows(reader, tensor, 0, 1, CDNA_F32, row, 0, NULL, error);
  if (code == CDNA_OK && lie) {
    send_all(server->socket, "LIE\r\n\r\n", 7);
    code = cdna_read_rows(reader, tensor, 0, 1, CDNA_F32, row, 0, NULL, error);
  }
  if (code == CDNA_OK) printf("%s[0][0] = %.9g\n", info.name, (double)row[0]);
  free(row);
  cdna_reader_free(reader);
  return code;
}

int main(int argc, char** argv) {
  int sockets[2], status = 0;
  if (argc != 3 || socketpair(AF_UNIX, SOCK_STREAM, 0, sockets) != 0) return 2;
  const pid_t child = fork();
  if (child == 0) {
    close(sockets[0]);
    _exit(serve(sockets[1], argv[1]));
  }
  close(sockets[1]);
  connection server = {sockets[0], PTHREAD_MUTEX_INITIALIZER};
  cdna_error error;
  /* A reader does not believe a block again that was wrong once; another one asks the server anew. */
  cdna_code code = read_first(&server, argv[2], 1, &error);
  if (code != CDNA_OK) print_error(&error);
  if (code == CDNA_CORRUPT) code = read_first(&server, argv[2], 0, &error);
  close(sockets[0]);
  if (child < 0 || waitpid(child, &status, 0) != child || status != 0) return 3;
  return code != CDNA_OK;
}
