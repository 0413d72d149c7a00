/* The S3 that uploads are measured against: HTTPS, a fixed delay, nothing kept but the names and sizes of objects.
 *
 * Enters: requests of S3 clients for single and multipart objects. Leaves: what S3 would answer, `delay` after the whole request is
 * there; at each line of input a line of JSON with what arrived since the last one.
 * Never: a verified checksum or signature: it is a measure, not a store. The checksum that a client sent is stated back to it.
 *
 * Usage: s3_sink PORT CERTIFICATE KEY DELAY_MS. Prints "ready"; ends when its input ends.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { READ_BYTES = 1 << 18, RECORD_BYTES = 1 << 14, HEAD_BYTES = 1 << 14, OBJECTS = 1 << 20, LATENCIES = 1 << 20, CHECKSUM_BYTES = 32, NAME_BYTES = 1024 };

/* An object that is complete, or one whose parts are arriving. */
struct object { uint64_t name, bytes; bool complete; };

static struct object objects[OBJECTS];
static uint64_t latency_ns[LATENCIES];
static size_t latencies;
static struct { uint64_t connections, puts, parts, others, instances, instance_bytes, last_instance_ns; } counted;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static SSL_CTX *tls_context;
static uint64_t delay_ns;

struct connection {
    SSL *tls;
    uint8_t data[RECORD_BYTES];
    size_t at, have;
};

struct request {
    char method[8], target[NAME_BYTES], checksum[CHECKSUM_BYTES];
    uint64_t length, begin_ns;
    bool chunked, expects_continue, only_if_absent;
};

static void die(const char *what) {
    fprintf(stderr, "s3_sink: %s%s%s\n", what, errno ? ": " : "", errno ? strerror(errno) : "");
    ERR_print_errors_fp(stderr);
    exit(1);
}

static uint64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void wait_until(uint64_t at_ns) {
    struct timespec at = {at_ns / 1000000000u, at_ns % 1000000000u};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL) == EINTR) {}
}

/* Of the path: the query only says which part or upload of the object it is. */
static struct object *object_at(const char *target) {
    uint64_t name = 1469598103934665603u;
    for (const char *at = target; *at && *at != '?'; at++) name = (name ^ (uint8_t)*at) * 1099511628211u;
    name |= 1;
    size_t slot = name % OBJECTS, tried = 0;
    while (objects[slot].name && objects[slot].name != name) {
        if (++tried == OBJECTS) die("too many objects");
        slot = (slot + 1) % OBJECTS;
    }
    objects[slot].name = name;
    return &objects[slot];
}

static bool is_instance(const char *target) {
    const char *end = strchrnul(target, '?');
    return end - target > 4 && !strncmp(end - 4, ".dcm", 4);
}

static bool fill(struct connection *c) {
    c->at = c->have = 0;
    int got = SSL_read(c->tls, c->data, sizeof c->data);
    if (got <= 0) return false;
    c->have = got;
    return true;
}

static bool read_line(struct connection *c, char *line, size_t room) {
    for (size_t length = 0; length < room; length++) {
        if (c->at == c->have && !fill(c)) return false;
        line[length] = c->data[c->at++];
        if (line[length] == '\n') {
            line[length && line[length - 1] == '\r' ? length - 1 : length] = 0;
            return true;
        }
    }
    return false;
}

static bool drop(struct connection *c, uint64_t length) {
    while (length) {
        if (c->at == c->have && !fill(c)) return false;
        size_t part = c->have - c->at < length ? c->have - c->at : length;
        c->at += part;
        length -= part;
    }
    return true;
}

static bool send_all(struct connection *c, const char *text, int length) { return SSL_write(c->tls, text, length) == length; }

static bool read_head(struct connection *c, struct request *r) {
    char line[HEAD_BYTES];
    memset(r, 0, sizeof *r);
    if (c->at == c->have && !fill(c)) return false;
    r->begin_ns = now_ns();
    if (!read_line(c, line, sizeof line) || sscanf(line, "%7s %1023s", r->method, r->target) != 2) return false;
    while (read_line(c, line, sizeof line)) {
        if (!*line) return true;
        char *value = strchr(line, ':');
        if (!value) return false;
        *value++ = 0;
        value += strspn(value, " ");
        if (!strcasecmp(line, "content-length")) r->length = strtoull(value, NULL, 10);
        else if (!strcasecmp(line, "transfer-encoding")) r->chunked = !strcasecmp(value, "chunked");
        else if (!strcasecmp(line, "expect")) r->expects_continue = true;
        else if (!strcasecmp(line, "if-none-match")) r->only_if_absent = true;
        else if (!strcasecmp(line, "x-amz-checksum-crc64nvme")) snprintf(r->checksum, sizeof r->checksum, "%.31s", value);
    }
    return false;
}

/* RFC 9112 section 7.1. What it counts includes the framing of aws-chunked, where that is inside. */
static bool drop_chunks(struct connection *c, uint64_t *length) {
    char line[256];
    for (;;) {
        if (!read_line(c, line, sizeof line)) return false;
        uint64_t part = strtoull(line, NULL, 16);
        if (!part) break;
        *length += part;
        if (!drop(c, part) || !read_line(c, line, sizeof line)) return false;
    }
    while (read_line(c, line, sizeof line))
        if (!*line) return true;
    return false;
}

static void count_instance(const struct object *object) {
    counted.instances++;
    counted.instance_bytes += object->bytes;
    counted.last_instance_ns = now_ns();
}

/* What the request does to the objects. Returns the status. */
static int apply(const struct request *r, char *body, size_t room) {
    bool put = !strcmp(r->method, "PUT"), part = put && strstr(r->target, "partNumber="), instance = is_instance(r->target);
    bool complete = !strcmp(r->method, "POST") && strstr(r->target, "uploadId=");
    int status = 200;
    *body = 0;
    pthread_mutex_lock(&lock);
    struct object *object = object_at(r->target);
    if (put && !part) {
        counted.puts++;
        if (r->only_if_absent && object->complete) {
            status = 412;
            snprintf(body, room, "<Error><Code>PreconditionFailed</Code></Error>");
        } else {
            bool is_new = !object->complete;
            object->bytes = r->length;
            object->complete = true;
            if (instance && is_new) count_instance(object);
            if (instance && latencies < LATENCIES) latency_ns[latencies++] = now_ns() - r->begin_ns;
        }
    } else if (part) {
        counted.parts++;
        object->bytes += r->length;
    } else if (complete) {
        counted.others++;
        object->complete = true;
        if (instance) count_instance(object);
        snprintf(body, room, "<CompleteMultipartUploadResult><ETag>\"0\"</ETag></CompleteMultipartUploadResult>");
    } else if (!strcmp(r->method, "POST")) {
        counted.others++;
        object->bytes = 0;
        snprintf(body, room, "<InitiateMultipartUploadResult><UploadId>upload</UploadId></InitiateMultipartUploadResult>");
    } else if (!strcmp(r->method, "DELETE")) {
        counted.others++;
        if (!strstr(r->target, "uploadId=")) object->complete = false;
        status = 204;
    } else {
        counted.others++;
        status = 501;
    }
    pthread_mutex_unlock(&lock);
    return status;
}

static bool answer(struct connection *c, const struct request *r, int status, const char *body) {
    char text[2048];
    int length = snprintf(text, sizeof text, "HTTP/1.1 %d %s\r\nETag: \"0\"\r\n%s%s%sContent-Length: %zu\r\n\r\n%s", status, status < 300 ? "OK" : "Failed",
                          *r->checksum ? "x-amz-checksum-crc64nvme: " : "", r->checksum, *r->checksum ? "\r\n" : "", strlen(body), body);
    return send_all(c, text, length);
}

static void *serve(void *argument) {
    static const char go_on[] = "HTTP/1.1 100 Continue\r\n\r\n";
    int fd = (int)(intptr_t)argument;
    struct connection *c = calloc(1, sizeof *c);
    struct request r;
    char body[512];
    BIO *received;
    prctl(PR_SET_TIMERSLACK, 1);
    if (!c || !(c->tls = SSL_new(tls_context)) || !(received = BIO_new(BIO_f_buffer()))) die("connection");
    /* Many records in one read from the socket. OpenSSL's own read-ahead moves all of them to the front for each. */
    BIO_set_read_buffer_size(received, READ_BYTES);
    SSL_set_bio(c->tls, BIO_push(received, BIO_new_socket(fd, BIO_NOCLOSE)), BIO_new_socket(fd, BIO_NOCLOSE));
    bool open = SSL_accept(c->tls) == 1;
    while (open && read_head(c, &r)) {
        if (r.expects_continue && !send_all(c, go_on, sizeof go_on - 1)) break;
        if (!(r.chunked ? drop_chunks(c, &r.length) : drop(c, r.length))) break;
        wait_until(now_ns() + delay_ns);
        int status = apply(&r, body, sizeof body);
        open = answer(c, &r, status, body);
    }
    SSL_free(c->tls);
    free(c);
    close(fd);
    return NULL;
}

static int compare_u64(const void *left, const void *right) {
    uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;
    return (a > b) - (a < b);
}

static double cpu_s(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_utime.tv_sec + usage.ru_stime.tv_sec + (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static void report(void) {
    pthread_mutex_lock(&lock);
    qsort(latency_ns, latencies, sizeof *latency_ns, compare_u64);
    printf("{\"connections\": %llu, \"puts\": %llu, \"parts\": %llu, \"others\": %llu, \"instances\": %llu, \"instance_bytes\": %llu, "
           "\"last_instance_s\": %.9f, \"put_p50_us\": %.1f, \"put_p99_us\": %.1f, \"cpu_s\": %.6f}\n",
           (unsigned long long)counted.connections, (unsigned long long)counted.puts, (unsigned long long)counted.parts,
           (unsigned long long)counted.others, (unsigned long long)counted.instances, (unsigned long long)counted.instance_bytes,
           counted.last_instance_ns / 1e9, latencies ? latency_ns[latencies / 2] / 1e3 : 0, latencies ? latency_ns[latencies * 99 / 100] / 1e3 : 0,
           cpu_s());
    latencies = 0;
    pthread_mutex_unlock(&lock);
    if (fflush(stdout)) exit(1);
}

static void *accept_all(void *argument) {
    static const int on = 1;
    int listener = (int)(intptr_t)argument;
    pthread_t thread;
    pthread_attr_t detached;
    pthread_attr_init(&detached);
    pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
    for (;;) {
        int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        if (fd < 0) die("accept");
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        pthread_mutex_lock(&lock);
        counted.connections++;
        pthread_mutex_unlock(&lock);
        if (pthread_create(&thread, &detached, serve, (void *)(intptr_t)fd)) die("pthread_create");
    }
    return NULL;
}

int main(int argc, char **argv) {
    if (argc != 5) { fprintf(stderr, "usage: s3_sink PORT CERTIFICATE KEY DELAY_MS\n"); return 2; }
    static const int on = 1;
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[1])), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    delay_ns = strtoull(argv[4], NULL, 10) * 1000000u;
    signal(SIGPIPE, SIG_IGN);
    tls_context = SSL_CTX_new(TLS_server_method());
    if (!tls_context || SSL_CTX_set_ciphersuites(tls_context, "TLS_AES_128_GCM_SHA256") != 1 ||
        SSL_CTX_use_certificate_chain_file(tls_context, argv[2]) != 1 || SSL_CTX_use_PrivateKey_file(tls_context, argv[3], SSL_FILETYPE_PEM) != 1)
        die("certificate");
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (listener < 0 || bind(listener, (struct sockaddr *)&here, sizeof here) || listen(listener, 512)) die("listen");
    pthread_t thread;
    if (pthread_create(&thread, NULL, accept_all, (void *)(intptr_t)listener)) die("pthread_create");
    puts("ready");
    fflush(stdout);
    for (int byte; (byte = getchar()) != EOF;)
        if (byte == '\n') report();
    return 0;
}
