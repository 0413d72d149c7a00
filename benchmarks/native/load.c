/* The load source: C-STORE from prepared bytes, cheaper than any receiver.
 *
 * Enters: an A-ASSOCIATE-RQ, a command set and a data set as files, and where in them the instance's number stands.
 * Leaves: one line of JSON with what was stored, how fast and at what cost of its own.
 * Never: counts an instance whose response is anything but a C-STORE-RSP to that message with status 0x0000.
 *
 * It takes three steps, so that whoever started it can read the receiver's CPU time between them: it prints "established" when its
 * associations are open and waits for a line (or the end) of input; sends, prints the result and waits again; releases.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { ASSOCIATE_AC = 0x02, P_DATA_TF = 0x04, RELEASE_RP = 0x06 };
enum { PDU_HEADER_BYTES = 6, PDV_HEADER_BYTES = 6, AC_FIXED_BYTES = 74, LARGEST_PDU_BYTES = 131072, LARGEST_ANSWER_BYTES = 65536 };
enum { NUMBER_DIGITS = 12, SOCKET_TIMEOUT_S = 60 };

struct bytes { uint8_t *data; size_t length; };

static struct {
    struct sockaddr_in peer;
    struct bytes associate, command, data_set;
    size_t command_number_at, data_set_number_at, message_id_at;
    unsigned context_id, associations;
    uint64_t instances, first_number;
    bool sequential;
} plan;

struct association {
    int fd;
    uint32_t max_pdu;
    uint8_t *message;
    size_t message_length, own_length;
    uint8_t *number[2][NUMBER_DIGITS];
    uint8_t *message_id[2];
    uint8_t answer[LARGEST_ANSWER_BYTES];
    size_t answer_have;
    uint64_t first_number, stored, failed;
    unsigned first_failure_status;
    const char *error;
    uint64_t start_ns, end_ns, *latency_ns;
    pthread_t thread;
};

static pthread_barrier_t start_line;
/* The message for this maximum PDU length, and where in it number (command, data set) and message id stand. What follows the last of
 * these is sent by all associations from here. */
static struct { uint8_t *message, *number[2][NUMBER_DIGITS], *message_id[2]; uint32_t max_pdu; } shared;

static void die(const char *what) {
    fprintf(stderr, "load: %s%s%s\n", what, errno ? ": " : "", errno ? strerror(errno) : "");
    exit(2);
}

static uint64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static uint32_t get_u32be(const uint8_t *at) { return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3]; }
static uint16_t get_u16be(const uint8_t *at) { return (uint16_t)(at[0] << 8 | at[1]); }
static uint32_t get_u32le(const uint8_t *at) { return (uint32_t)at[3] << 24 | (uint32_t)at[2] << 16 | (uint32_t)at[1] << 8 | at[0]; }
static uint16_t get_u16le(const uint8_t *at) { return (uint16_t)(at[1] << 8 | at[0]); }
static void put_u32be(uint8_t *at, uint32_t value) { at[0] = value >> 24; at[1] = value >> 16; at[2] = value >> 8; at[3] = value; }

static struct bytes read_file(const char *path) {
    FILE *file = fopen(path, "rb");
    struct stat status;
    if (!file || fstat(fileno(file), &status)) die(path);
    struct bytes content = {malloc(status.st_size ? status.st_size : 1), status.st_size};
    if (!content.data || fread(content.data, 1, content.length, file) != content.length) die(path);
    fclose(file);
    return content;
}

static bool send_all(int fd, const uint8_t *data, size_t length) {
    while (length) {
        ssize_t sent = send(fd, data, length, MSG_NOSIGNAL);
        if (sent < 0) return false;
        data += sent;
        length -= sent;
    }
    return true;
}

/* The association's own front of the message and the shared rest, in one call where the socket takes it. */
static bool send_message(const struct association *a) {
    struct iovec parts[2] = {{a->message, a->own_length}, {shared.message + a->own_length, a->message_length - a->own_length}};
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
    ssize_t sent = sendmsg(a->fd, &message, MSG_NOSIGNAL);
    if (sent < 0) return false;
    size_t done = sent;
    if (done < a->own_length) {
        if (!send_all(a->fd, a->message + done, a->own_length - done)) return false;
        done = a->own_length;
    }
    return send_all(a->fd, shared.message + done, a->message_length - done);
}

/* The next whole PDU is at the front of `answer`. Returns its length, 0 with `error` set where there is none. */
static size_t receive_pdu(struct association *a) {
    static const int on = 1;
    for (;;) {
        if (a->answer_have >= PDU_HEADER_BYTES) {
            size_t whole = PDU_HEADER_BYTES + (size_t)get_u32be(a->answer + 2);
            if (whole > sizeof a->answer) { a->error = "a PDU longer than any answer"; return 0; }
            if (a->answer_have >= whole) return whole;
        }
        ssize_t got = recv(a->fd, a->answer + a->answer_have, sizeof a->answer - a->answer_have, 0);
        /* Linux takes the option back after a while; a delayed acknowledgement would measure the peer's Nagle algorithm. */
        setsockopt(a->fd, IPPROTO_TCP, TCP_QUICKACK, &on, sizeof on);
        if (got <= 0) { a->error = got ? "no answer" : "the peer closed the connection"; return 0; }
        a->answer_have += got;
    }
}

static void drop_pdu(struct association *a, size_t length) {
    a->answer_have -= length;
    memmove(a->answer, a->answer + length, a->answer_have);
}

/* PS3.8 section 9.3.3: the context must be accepted; the peer's maximum length decides how the message is cut. */
static bool read_associate_ac(struct association *a, size_t length) {
    bool accepted = false;
    if (a->answer[0] != ASSOCIATE_AC) { a->error = "the association was not accepted"; return false; }
    a->max_pdu = 0;
    for (size_t at = AC_FIXED_BYTES; at + 4 <= length;) {
        const uint8_t *item = a->answer + at;
        size_t item_length = get_u16be(item + 2);
        if (at + 4 + item_length > length) { a->error = "malformed A-ASSOCIATE-AC"; return false; }
        if (item[0] == 0x21 && item_length >= 4 && item[4] == plan.context_id) accepted = item[6] == 0;
        if (item[0] == 0x50)
            for (size_t sub = 4; sub + 8 <= 4 + item_length; sub += 4 + get_u16be(item + sub + 2))
                if (item[sub] == 0x51) a->max_pdu = get_u32be(item + sub + 4);
        at += 4 + item_length;
    }
    if (!accepted) { a->error = "the presentation context was not accepted"; return false; }
    if (a->max_pdu == 0 || a->max_pdu > LARGEST_PDU_BYTES) a->max_pdu = LARGEST_PDU_BYTES;
    if (a->max_pdu <= PDV_HEADER_BYTES) { a->error = "the peer's maximum length leaves no room for data"; return false; }
    return true;
}

/* Append `from` as P-DATA-TF PDUs of one PDV each (PS3.8 section 9.3.5); remember where byte `at[i]` of it went. */
static uint8_t *append_pdus(const struct association *a, uint8_t *to, struct bytes from, bool is_command, const size_t *at, uint8_t **went, size_t count) {
    size_t room = a->max_pdu - PDV_HEADER_BYTES;
    for (size_t offset = 0; offset < from.length;) {
        size_t part = from.length - offset < room ? from.length - offset : room;
        to[0] = P_DATA_TF;
        to[1] = 0;
        put_u32be(to + 2, part + PDV_HEADER_BYTES);
        put_u32be(to + 6, part + 2);
        to[10] = plan.context_id;
        to[11] = (is_command ? 1 : 0) | (offset + part == from.length ? 2 : 0);
        to += PDU_HEADER_BYTES + PDV_HEADER_BYTES;
        memcpy(to, from.data + offset, part);
        for (size_t i = 0; i < count; i++)
            if (at[i] >= offset && at[i] < offset + part) went[i] = to + (at[i] - offset);
        to += part;
        offset += part;
    }
    return to;
}

static void prepare_shared(const struct association *a) {
    size_t in_command[NUMBER_DIGITS + 2], in_data_set[NUMBER_DIGITS];
    uint8_t *command_went[NUMBER_DIGITS + 2];
    shared.message = malloc(a->message_length);
    if (!shared.message) die("no memory for the message");
    for (size_t i = 0; i < NUMBER_DIGITS; i++) {
        in_command[i] = plan.command_number_at + i;
        in_data_set[i] = plan.data_set_number_at + i;
    }
    in_command[NUMBER_DIGITS] = plan.message_id_at;
    in_command[NUMBER_DIGITS + 1] = plan.message_id_at + 1;
    uint8_t *end = append_pdus(a, shared.message, plan.command, true, in_command, command_went, NUMBER_DIGITS + 2);
    append_pdus(a, end, plan.data_set, false, in_data_set, shared.number[1], NUMBER_DIGITS);
    memcpy(shared.number[0], command_went, sizeof shared.number[0]);
    memcpy(shared.message_id, command_went + NUMBER_DIGITS, sizeof shared.message_id);
    shared.max_pdu = a->max_pdu;
}

static void prepare_message(struct association *a) {
    size_t room = a->max_pdu - PDV_HEADER_BYTES;
    size_t pdus = (plan.command.length + room - 1) / room + (plan.data_set.length + room - 1) / room;
    a->message_length = plan.command.length + plan.data_set.length + pdus * (PDU_HEADER_BYTES + PDV_HEADER_BYTES);
    if (!shared.message) prepare_shared(a);
    if (shared.max_pdu != a->max_pdu) die("the peer's maximum length changed");
    a->own_length = shared.number[1][NUMBER_DIGITS - 1] + 1 - shared.message;
    a->message = malloc(a->own_length);
    if (!a->message) die("no memory for the message");
    memcpy(a->message, shared.message, a->own_length);
    for (size_t i = 0; i < 2; i++) {
        for (size_t digit = 0; digit < NUMBER_DIGITS; digit++) a->number[i][digit] = a->message + (shared.number[i][digit] - shared.message);
        a->message_id[i] = a->message + (shared.message_id[i] - shared.message);
    }
}

static void patch_message(struct association *a, uint64_t number, uint16_t message_id) {
    for (int i = NUMBER_DIGITS - 1; i >= 0; i--, number /= 10) *a->number[0][i] = *a->number[1][i] = '0' + number % 10;
    *a->message_id[0] = message_id & 0xff;
    *a->message_id[1] = message_id >> 8;
}

/* PS3.7 table 9.3-2. Returns the status, or -1 with `error` set where the answer is no C-STORE-RSP to this message. */
static int receive_status(struct association *a, uint16_t message_id) {
    uint8_t command[1024];
    size_t length = 0;
    for (bool last = false; !last;) {
        size_t whole = receive_pdu(a);
        if (!whole) return -1;
        if (a->answer[0] != P_DATA_TF) { a->error = a->answer[0] == 0x07 ? "the peer aborted" : "an unexpected PDU"; return -1; }
        for (size_t at = PDU_HEADER_BYTES; at < whole;) {
            const uint8_t *pdv = a->answer + at;
            size_t pdv_length = at + PDV_HEADER_BYTES <= whole ? get_u32be(pdv) : 0;
            if (pdv_length < 2 || pdv_length > whole - at - 4 || !(pdv[5] & 1) || length + pdv_length - 2 > sizeof command) {
                a->error = "malformed response";
                return -1;
            }
            memcpy(command + length, pdv + PDV_HEADER_BYTES, pdv_length - 2);
            length += pdv_length - 2;
            last = pdv[5] & 2;
            at += 4 + pdv_length;
        }
        drop_pdu(a, whole);
    }
    int status = -1, command_field = -1, responded_to = -1;
    for (size_t at = 0; at + 8 <= length;) {
        uint32_t value_length = get_u32le(command + at + 4);
        if (value_length > length - at - 8) break;
        if (get_u16le(command + at) == 0 && value_length == 2) {
            int value = get_u16le(command + at + 8);
            switch (get_u16le(command + at + 2)) {
                case 0x0100: command_field = value; break;
                case 0x0120: responded_to = value; break;
                case 0x0900: status = value; break;
            }
        }
        at += 8 + value_length;
    }
    if (command_field != 0x8001 || responded_to != message_id || status < 0) {
        a->error = "not the response to this C-STORE";
        return -1;
    }
    return status;
}

static bool establish(struct association *a) {
    static const int on = 1;
    const struct timeval timeout = {SOCKET_TIMEOUT_S, 0};
    a->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (a->fd < 0) die("socket");
    setsockopt(a->fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout);
    setsockopt(a->fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof timeout);
    setsockopt(a->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    a->answer_have = 0;
    if (connect(a->fd, (struct sockaddr *)&plan.peer, sizeof plan.peer)) { a->error = "connection refused"; return false; }
    setsockopt(a->fd, IPPROTO_TCP, TCP_QUICKACK, &on, sizeof on);
    if (!send_all(a->fd, plan.associate.data, plan.associate.length)) { a->error = "could not send A-ASSOCIATE-RQ"; return false; }
    size_t whole = receive_pdu(a);
    if (!whole || !read_associate_ac(a, whole)) return false;
    drop_pdu(a, whole);
    if (plan.instances && (!a->message || shared.max_pdu != a->max_pdu)) prepare_message(a);
    return true;
}

static bool release(struct association *a) {
    static const uint8_t release_rq[] = {0x05, 0, 0, 0, 0, 4, 0, 0, 0, 0};
    bool released = false;
    if (!a->error && send_all(a->fd, release_rq, sizeof release_rq) && receive_pdu(a)) released = a->answer[0] == RELEASE_RP;
    if (!a->error && !released) a->error = "the release was not confirmed";
    close(a->fd);
    return released;
}

static bool store(struct association *a, uint64_t number) {
    uint16_t message_id = (uint16_t)(number % 65535 + 1);
    patch_message(a, number, message_id);
    if (!send_message(a)) { a->error = "could not send"; return false; }
    int status = receive_status(a, message_id);
    if (status < 0) return false;
    if (status != 0) {
        if (!a->failed++) a->first_failure_status = status;
        return true;
    }
    a->stored++;
    return true;
}

static void *run_stores(void *argument) {
    struct association *a = argument;
    pthread_barrier_wait(&start_line);
    a->start_ns = a->end_ns = now_ns();
    for (uint64_t i = 0; i < plan.instances; i++) {
        uint64_t begin_ns = a->end_ns;
        if (!store(a, a->first_number + i)) break;
        a->end_ns = now_ns();
        a->latency_ns[i] = a->end_ns - begin_ns;
    }
    return NULL;
}

/* Associations one after the other, each opened, used for its instances and released. */
static void run_sequential(struct association *a) {
    a->start_ns = a->end_ns = now_ns();
    for (unsigned n = 0; n < plan.associations; n++) {
        uint64_t begin_ns = a->end_ns;
        if (!establish(a)) return;
        for (uint64_t i = 0; i < plan.instances; i++)
            if (!store(a, a->first_number + n * plan.instances + i)) return;
        if (!release(a)) return;
        a->end_ns = now_ns();
        a->latency_ns[n] = a->end_ns - begin_ns;
    }
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

static void wait_for_line(void) {
    char byte;
    fflush(stdout);
    while (read(STDIN_FILENO, &byte, 1) == 1 && byte != '\n') {}
}

static uint64_t number_of(const char *text) {
    char *end;
    errno = 0;
    uint64_t value = strtoull(text, &end, 10);
    if (errno || end == text || *end) die("not a number");
    return value;
}

static void read_options(int argc, char **argv) {
    enum { HOST, PORT, ASSOCIATE, COMMAND, DATA_SET, COMMAND_NUMBER_AT, DATA_SET_NUMBER_AT, MESSAGE_ID_AT, CONTEXT_ID, ASSOCIATIONS,
           INSTANCES, FIRST_NUMBER, LIMIT_S, SEQUENTIAL, COUNT };
    static const char *const names[COUNT] = {"host", "port", "associate", "command", "data-set", "command-number-at", "data-set-number-at",
        "message-id-at", "context-id", "associations", "instances", "first-number", "limit-s", "sequential"};
    struct option options[COUNT + 1] = {{0}};
    bool given[COUNT] = {[SEQUENTIAL] = true};
    for (int i = 0; i < COUNT; i++) options[i] = (struct option){names[i], i == SEQUENTIAL ? no_argument : required_argument, NULL, i};
    plan.peer.sin_family = AF_INET;
    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (option == '?') exit(2);
        given[option] = true;
        switch (option) {
            case HOST: if (inet_pton(AF_INET, optarg, &plan.peer.sin_addr) != 1) die("--host is no IPv4 address"); break;
            case PORT: plan.peer.sin_port = htons(number_of(optarg)); break;
            case ASSOCIATE: plan.associate = read_file(optarg); break;
            case COMMAND: plan.command = read_file(optarg); break;
            case DATA_SET: plan.data_set = read_file(optarg); break;
            case COMMAND_NUMBER_AT: plan.command_number_at = number_of(optarg); break;
            case DATA_SET_NUMBER_AT: plan.data_set_number_at = number_of(optarg); break;
            case MESSAGE_ID_AT: plan.message_id_at = number_of(optarg); break;
            case CONTEXT_ID: plan.context_id = number_of(optarg); break;
            case ASSOCIATIONS: plan.associations = number_of(optarg); break;
            case INSTANCES: plan.instances = number_of(optarg); break;
            case FIRST_NUMBER: plan.first_number = number_of(optarg); break;
            case LIMIT_S: alarm(number_of(optarg)); break;
            case SEQUENTIAL: plan.sequential = true; break;
        }
    }
    errno = 0;
    for (int i = 0; i < COUNT; i++)
        if (!given[i]) { fprintf(stderr, "load: --%s is missing\n", names[i]); exit(2); }
    if (plan.associations == 0) die("--associations is 0");
    if (plan.command_number_at + NUMBER_DIGITS > plan.command.length || plan.data_set_number_at + NUMBER_DIGITS > plan.data_set.length ||
        plan.message_id_at + 2 > plan.command.length)
        die("a position is outside of its file");
}

int main(int argc, char **argv) {
    read_options(argc, argv);
    unsigned connections = plan.sequential ? 1 : plan.associations;
    uint64_t latencies = plan.sequential ? plan.associations : plan.associations * plan.instances;
    struct association *all = calloc(connections, sizeof *all);
    uint64_t *latency_ns = calloc(latencies + 1, sizeof *latency_ns);
    if (!all || !latency_ns) die("no memory");
    for (unsigned i = 0; i < connections; i++) {
        all[i].fd = -1;
        all[i].first_number = plan.first_number + i * plan.instances;
        all[i].latency_ns = latency_ns + i * plan.instances;
    }
    for (unsigned i = 0; i < connections && !plan.sequential; i++)
        if (!establish(&all[i])) { fprintf(stderr, "load: association %u: %s\n", i + 1, all[i].error); return 1; }
    puts("established");
    wait_for_line();

    double cpu_before_s = cpu_s();
    if (plan.sequential) run_sequential(&all[0]);
    else {
        pthread_barrier_init(&start_line, NULL, connections);
        for (unsigned i = 0; i < connections && plan.instances; i++)
            if (pthread_create(&all[i].thread, NULL, run_stores, &all[i])) die("pthread_create");
        for (unsigned i = 0; i < connections && plan.instances; i++) pthread_join(all[i].thread, NULL);
    }
    double used_cpu_s = cpu_s() - cpu_before_s;

    uint64_t stored = 0, failed = 0, start_ns = UINT64_MAX, end_ns = 0;
    unsigned first_failure_status = 0;
    const char *error = NULL;
    for (unsigned i = 0; i < connections; i++) {
        stored += all[i].stored;
        failed += all[i].failed;
        if (all[i].failed && !first_failure_status) first_failure_status = all[i].first_failure_status;
        if (all[i].error && !error) error = all[i].error;
        if (all[i].start_ns < start_ns) start_ns = all[i].start_ns;
        if (all[i].end_ns > end_ns) end_ns = all[i].end_ns;
    }
    uint64_t expected = (uint64_t)plan.associations * plan.instances;
    bool good = !error && !failed && stored == expected;
    if (good) qsort(latency_ns, latencies, sizeof *latency_ns, compare_u64);
    printf("{\"ok\": %s, \"associations\": %u, \"instances\": %llu, \"failures\": %llu, \"first_failure_status\": %u, \"error\": \"%s\", "
           "\"seconds\": %.9f, \"bytes\": %llu, \"p50_us\": %.1f, \"p99_us\": %.1f, \"cpu_s\": %.6f, \"max_pdu_bytes\": %u}\n",
           good ? "true" : "false", plan.associations, (unsigned long long)stored, (unsigned long long)failed, first_failure_status,
           error ? error : "", (end_ns - start_ns) / 1e9, (unsigned long long)(stored * plan.data_set.length),
           good && latencies ? latency_ns[latencies / 2] / 1e3 : 0, good && latencies ? latency_ns[latencies * 99 / 100] / 1e3 : 0, used_cpu_s,
           all[0].max_pdu);
    wait_for_line();

    for (unsigned i = 0; i < connections && !plan.sequential; i++)
        if (!release(&all[i]) && !error) {
            error = all[i].error;
            good = false;
        }
    if (!good) fprintf(stderr, "load: %s (%llu of %llu stored, %llu refused)\n", error ? error : "a status was not success",
                       (unsigned long long)stored, (unsigned long long)expected, (unsigned long long)failed);
    return good ? 0 : 1;
}
