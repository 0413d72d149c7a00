/* The floor: the least that a C-STORE receiver can do, in one thread per connection.
 *
 * Enters: well-formed associations and C-STORE-RQs. Leaves: Success to each, and where a directory is given a file per instance.
 * Never: a check, a limit or a copy beyond the one that recv makes: it is a measure, not a receiver.
 *
 * Usage: floor PORT [DIRECTORY]. Prints "ready"; at SIGTERM prints its counts as JSON and ends.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

enum { ASSOCIATE_RQ = 0x01, P_DATA_TF = 0x04, RELEASE_RQ = 0x05 };
enum { PDU_HEADER_BYTES = 6, HEADERS_BYTES = 12, FIXED_BYTES = 74, MAX_PDU_BYTES = 131072, CONTROL_BYTES = 262144, COMMAND_BYTES = 4096 };
static const size_t DATA_SET_BYTES = (size_t)1 << 30;

static const char *directory;
static atomic_ullong associations, instances, bytes;

struct command { uint16_t message_id; char class_uid[65], instance_uid[65]; };

static uint32_t get_u32be(const uint8_t *at) { return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3]; }
static uint16_t get_u16be(const uint8_t *at) { return (uint16_t)(at[0] << 8 | at[1]); }
static uint32_t get_u32le(const uint8_t *at) { return (uint32_t)at[3] << 24 | (uint32_t)at[2] << 16 | (uint32_t)at[1] << 8 | at[0]; }
static uint16_t get_u16le(const uint8_t *at) { return (uint16_t)(at[1] << 8 | at[0]); }
static void put_u32be(uint8_t *at, uint32_t value) { at[0] = value >> 24; at[1] = value >> 16; at[2] = value >> 8; at[3] = value; }
static void put_u16be(uint8_t *at, uint16_t value) { at[0] = value >> 8; at[1] = value; }

static void die(const char *what) {
    perror(what);
    exit(1);
}

static bool receive(int fd, void *to, size_t length) { return recv(fd, to, length, MSG_WAITALL) == (ssize_t)length; }

static bool receive_two(int fd, void *first, size_t first_length, void *second, size_t second_length) {
    struct iovec parts[2] = {{first, first_length}, {second, second_length}};
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
    return recvmsg(fd, &message, MSG_WAITALL) == (ssize_t)(first_length + second_length);
}

/* Accepts every context with its first transfer syntax. The answer is never longer than 1.1 times the request. */
static size_t encode_associate_ac(const uint8_t *request, size_t length, uint8_t *answer) {
    static const uint8_t user_information[] = {0x50, 0, 0, 18, 0x51, 0, 0, 4, 0, 2, 0, 0, 0x52, 0, 0, 6, '1', '.', '2', '.', '3', '4'};
    memcpy(answer, request, FIXED_BYTES);
    answer[0] = 0x02;
    uint8_t *to = answer + FIXED_BYTES;
    for (size_t at = FIXED_BYTES; at + 4 <= length; at += 4 + get_u16be(request + at + 2)) {
        const uint8_t *item = request + at;
        if (item[0] == 0x10) {
            memcpy(to, item, 4 + get_u16be(item + 2));
            to += 4 + get_u16be(item + 2);
        }
        if (item[0] != 0x20) continue;
        const uint8_t *syntax = item + 8 + 4 + get_u16be(item + 8 + 2);
        uint16_t syntax_length = 4 + get_u16be(syntax + 2);
        memcpy(to, (uint8_t[]){0x21, 0, 0, 0, item[4], 0, 0, 0}, 8);
        put_u16be(to + 2, 4 + syntax_length);
        memcpy(to + 8, syntax, syntax_length);
        to += 8 + syntax_length;
    }
    memcpy(to, user_information, sizeof user_information);
    to += sizeof user_information;
    put_u32be(answer + 2, to - answer - PDU_HEADER_BYTES);
    return to - answer;
}

static void decode_command(const uint8_t *set, size_t length, struct command *command) {
    for (size_t at = 0; at + 8 <= length; at += 8 + get_u32le(set + at + 4)) {
        size_t value_length = get_u32le(set + at + 4);
        uint16_t element = get_u16le(set + at + 2);
        char *uid = element == 0x0002 ? command->class_uid : element == 0x1000 ? command->instance_uid : NULL;
        if (element == 0x0110) command->message_id = get_u16le(set + at + 8);
        if (uid && value_length <= 64) {
            memcpy(uid, set + at + 8, value_length);
            uid[value_length] = 0;
        }
    }
}

static uint8_t *put_element(uint8_t *to, uint16_t element, const void *value, uint32_t length) {
    uint32_t padded = length + (length & 1);
    memcpy(to, (uint8_t[]){0, 0, element & 0xff, element >> 8, padded, 0, 0, 0, }, 8);
    memset(to + 8, 0, padded);
    memcpy(to + 8, value, length);
    return to + 8 + padded;
}

static size_t encode_response(uint8_t *response, uint8_t context_id, const struct command *command) {
    uint8_t *set = response + HEADERS_BYTES, *to = set + 12;
    to = put_element(to, 0x0002, command->class_uid, strlen(command->class_uid));
    to = put_element(to, 0x0100, (uint8_t[]){0x01, 0x80}, 2);
    to = put_element(to, 0x0120, (uint8_t[]){command->message_id & 0xff, command->message_id >> 8}, 2);
    to = put_element(to, 0x0800, (uint8_t[]){0x01, 0x01}, 2);
    to = put_element(to, 0x0900, (uint8_t[]){0, 0}, 2);
    to = put_element(to, 0x1000, command->instance_uid, strlen(command->instance_uid));
    uint32_t group = to - set - 12;
    put_element(set, 0x0000, (uint8_t[]){group & 0xff, group >> 8, 0, 0}, 4);
    memcpy(response, (uint8_t[]){P_DATA_TF, 0}, 2);
    put_u32be(response + 2, to - response - PDU_HEADER_BYTES);
    put_u32be(response + 6, to - response - PDU_HEADER_BYTES - 4);
    response[10] = context_id;
    response[11] = 3;
    return to - response;
}

static void write_file(const char *name, const uint8_t *data, size_t length) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0640);
    if (fd < 0) die(path);
    while (length) {
        ssize_t written = write(fd, data, length);
        if (written < 0) die(path);
        data += written;
        length -= written;
    }
    if (close(fd)) die(path);
}

/* Reads messages until the peer releases: "the rest of this payload and the next headers" in one call, so long as more must come. */
static void serve_messages(int fd, uint8_t *data_set) {
    uint8_t headers[HEADERS_BYTES], set[COMMAND_BYTES], response[512];
    struct command command = {0};
    size_t set_length = 0, data_length = 0;
    bool have_headers = false;
    for (;;) {
        if (!have_headers && !receive(fd, headers, PDU_HEADER_BYTES)) return;
        if (headers[0] == RELEASE_RQ) {
            uint8_t release_rp[10] = {0x06, 0, 0, 0, 0, 4};
            if (!receive(fd, headers, 4) || send(fd, release_rp, sizeof release_rp, MSG_NOSIGNAL) < 0) return;
            recv(fd, headers, 1, 0);
            return;
        }
        if (headers[0] != P_DATA_TF) return;
        if (!have_headers && !receive(fd, headers + PDU_HEADER_BYTES, 6)) return;
        have_headers = false;
        /* One PDV per PDU, as the load source sends them. */
        size_t length = get_u32be(headers + 6) - 2;
        bool is_command = headers[11] & 1, last = headers[11] & 2;
        if (length + 6 != get_u32be(headers + 2)) die("more than one PDV in a PDU");
        uint8_t context_id = headers[10];
        uint8_t *to = is_command ? set + set_length : data_set + data_length;
        size_t *total = is_command ? &set_length : &data_length;
        if (length > (is_command ? COMMAND_BYTES : DATA_SET_BYTES) - *total) die("too long");
        bool more_follows = is_command || !last;
        if (more_follows ? !receive_two(fd, to, length, headers, HEADERS_BYTES) : !receive(fd, to, length)) return;
        have_headers = more_follows;
        *total += length;
        if (is_command || !last) continue;
        decode_command(set, set_length, &command);
        if (directory) write_file(command.instance_uid, data_set, data_length);
        atomic_fetch_add(&instances, 1);
        atomic_fetch_add(&bytes, data_length);
        size_t response_length = encode_response(response, context_id, &command);
        if (send(fd, response, response_length, MSG_NOSIGNAL) < 0) return;
        set_length = data_length = 0;
    }
}

static void *serve(void *argument) {
    static const int on = 1;
    int fd = (int)(intptr_t)argument;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    uint8_t *request = malloc(CONTROL_BYTES), *answer = malloc(CONTROL_BYTES + CONTROL_BYTES / 8);
    /* Address space only: a page is there once a data set has reached it, and stays warm for the next. */
    uint8_t *data_set = mmap(NULL, DATA_SET_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (!request || !answer || data_set == MAP_FAILED) die("memory");
    if (receive(fd, request, PDU_HEADER_BYTES) && request[0] == ASSOCIATE_RQ) {
        size_t length = get_u32be(request + 2);
        if (length <= CONTROL_BYTES - PDU_HEADER_BYTES && receive(fd, request + PDU_HEADER_BYTES, length)) {
            size_t answer_length = encode_associate_ac(request, PDU_HEADER_BYTES + length, answer);
            atomic_fetch_add(&associations, 1);
            if (send(fd, answer, answer_length, MSG_NOSIGNAL) == (ssize_t)answer_length) serve_messages(fd, data_set);
        }
    }
    munmap(data_set, DATA_SET_BYTES);
    free(request);
    free(answer);
    close(fd);
    return NULL;
}

static void *wait_for_end(void *signals) {
    int signal_number;
    sigwait(signals, &signal_number);
    printf("{\"associations\": %llu, \"instances\": %llu, \"bytes\": %llu}\n", associations, instances, bytes);
    exit(fflush(stdout) ? 1 : 0);
}

int main(int argc, char **argv) {
    if (argc < 2 || argc > 3) { fprintf(stderr, "usage: floor PORT [DIRECTORY]\n"); return 2; }
    directory = argc == 3 ? argv[2] : NULL;
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[1])), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    static const int on = 1;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (listener < 0 || bind(listener, (struct sockaddr *)&here, sizeof here) || listen(listener, 512)) die("listen");
    static sigset_t end;
    pthread_t thread;
    pthread_attr_t detached;
    sigemptyset(&end);
    sigaddset(&end, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &end, NULL);
    pthread_attr_init(&detached);
    pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
    if (pthread_create(&thread, &detached, wait_for_end, &end)) die("pthread_create");
    puts("ready");
    fflush(stdout);
    for (;;) {
        int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        if (fd < 0) die("accept");
        if (pthread_create(&thread, &detached, serve, (void *)(intptr_t)fd)) die("pthread_create");
    }
}
