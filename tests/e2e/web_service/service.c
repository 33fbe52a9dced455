/*
 * The service of the traffic tests: HTTP and WebSocket echo in one static program, without any mercy at its end.
 *
 *   GET /        $VERSION                      GET /slow  $VERSION after three seconds
 *   GET /health  200; 404 when $FAIL=unhealthy GET /ws    RFC 6455: says "ADDRESS VERSION" first, then echoes
 *   GET /sicken  from now on /health is 404
 *
 * SIGTERM and SIGINT end it in the middle of whatever it does, so that a missing drain shows as failed requests.
 * $FAIL=exit ends it at once with 3, $FAIL=deaf ignores SIGTERM. $PORT is 8080 when it is not given.
 */
#include <arpa/inet.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

enum { HEAD_MAX = 16384, MESSAGE_MAX = 4096, STACK_BYTES = 128 * 1024 };

static const char *version, *volatile fail;

static void end(int number) {
    (void)number;
    _exit(0);
}

static int write_all(int fd, const void *data, size_t size) {
    const char *at = data;
    while (size > 0) {
        ssize_t count = send(fd, at, size, MSG_NOSIGNAL);
        if (count <= 0) return -1;
        at += count;
        size -= (size_t)count;
    }
    return 0;
}

static int read_all(int fd, void *data, size_t size) {
    char *at = data;
    while (size > 0) {
        ssize_t count = recv(fd, at, size, 0);
        if (count <= 0) return -1;
        at += count;
        size -= (size_t)count;
    }
    return 0;
}

/* SHA-1 (FIPS 180-4) of one short message, for the handshake's answer. */
static uint32_t rotate(uint32_t word, int by) { return word << by | word >> (32 - by); }

static void sha1(const char *text, unsigned char digest[20]) {
    unsigned char blocks[192] = {0};
    size_t size = strlen(text), total = (size + 8) / 64 * 64 + 64;
    uint32_t h[5] = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0}, w[80];
    memcpy(blocks, text, size);
    blocks[size] = 0x80;
    for (int i = 0; i < 8; i++) blocks[total - 1 - i] = (unsigned char)((uint64_t)size * 8 >> (8 * i));
    for (size_t at = 0; at < total; at += 64) {
        for (int i = 0; i < 16; i++) {
            const unsigned char *p = blocks + at + 4 * i;
            w[i] = (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
        }
        for (int i = 16; i < 80; i++) w[i] = rotate(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
        uint32_t a = h[0], b = h[1], c = h[2], d = h[3], e = h[4];
        for (int i = 0; i < 80; i++) {
            uint32_t f = i < 20   ? ((b & c) | (~b & d)) + 0x5a827999
                         : i < 40 ? (b ^ c ^ d) + 0x6ed9eba1
                         : i < 60 ? ((b & c) | (b & d) | (c & d)) + 0x8f1bbcdc
                                  : (b ^ c ^ d) + 0xca62c1d6;
            uint32_t next = rotate(a, 5) + f + e + w[i];
            e = d, d = c, c = rotate(b, 30), b = a, a = next;
        }
        h[0] += a, h[1] += b, h[2] += c, h[3] += d, h[4] += e;
    }
    for (int i = 0; i < 20; i++) digest[i] = (unsigned char)(h[i / 4] >> (24 - 8 * (i % 4)));
}

/* 20 bytes become 28 characters. */
static void base64(const unsigned char in[20], char out[29]) {
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (int i = 0, o = 0; i < 21; i += 3) {
        uint32_t triple = (uint32_t)in[i] << 16 | (uint32_t)in[i + 1] << 8 | (i + 2 < 20 ? in[i + 2] : 0u);
        for (int shift = 18; shift >= 0; shift -= 6) out[o++] = letters[triple >> shift & 63];
    }
    out[27] = '=';
    out[28] = 0;
}

static int send_frame(int fd, unsigned char opcode, const void *data, size_t size) {
    unsigned char frame[4 + MESSAGE_MAX];
    size_t head = 2;
    frame[0] = 0x80 | opcode;
    if (size < 126) {
        frame[1] = (unsigned char)size;
    } else {
        frame[1] = 126, frame[2] = (unsigned char)(size >> 8), frame[3] = (unsigned char)size;
        head = 4;
    }
    memcpy(frame + head, data, size);
    return write_all(fd, frame, head + size);
}

/* Clients' frames are masked; fragments and long messages are not part of the tests and end the connection. */
static void echo(int fd, const char *key) {
    char text[128], accept[29], answer[256];
    unsigned char digest[20], head[8], data[MESSAGE_MAX];
    snprintf(text, sizeof text, "%.60s258EAFA5-E914-47DA-95CA-C5AB0DC85B11", key);
    sha1(text, digest);
    base64(digest, accept);
    int size = snprintf(answer, sizeof answer,
                        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                        "Sec-WebSocket-Accept: %s\r\n\r\n", accept);
    if (write_all(fd, answer, (size_t)size) < 0) return;
    struct sockaddr_in own;
    socklen_t own_size = sizeof own;
    char address[INET_ADDRSTRLEN] = "";
    getsockname(fd, (struct sockaddr *)&own, &own_size);
    inet_ntop(AF_INET, &own.sin_addr, address, sizeof address);
    size = snprintf(answer, sizeof answer, "%s %.100s", address, version);
    if (send_frame(fd, 1, answer, (size_t)size) < 0) return;
    while (read_all(fd, head, 2) == 0) {
        unsigned char opcode = head[0] & 15;
        size_t length = head[1] & 127;
        if (length == 126) {
            if (read_all(fd, head + 2, 2) < 0) return;
            length = (size_t)head[2] << 8 | head[3];
        }
        if (length > MESSAGE_MAX || !(head[0] & 0x80) || !(head[1] & 0x80)) return;
        if (read_all(fd, head + 4, 4) < 0 || read_all(fd, data, length) < 0) return;
        for (size_t i = 0; i < length; i++) data[i] ^= head[4 + i % 4];
        if (send_frame(fd, opcode == 9 ? 10 : opcode, data, length) < 0 || opcode == 8) return;
    }
}

static const char *header(const char *head, const char *name, char *value, size_t size) {
    size_t length = strlen(name);
    for (const char *line = strstr(head, "\r\n"); line != NULL; line = strstr(line + 2, "\r\n")) {
        if (strncasecmp(line + 2, name, length) == 0 && line[2 + length] == ':') {
            const char *from = line + 3 + length;
            from += strspn(from, " ");
            size_t count = strcspn(from, "\r");
            snprintf(value, size, "%.*s", (int)count, from);
            return value;
        }
    }
    return NULL;
}

static void *serve(void *given) {
    int fd = (int)(intptr_t)given;
    char *head = malloc(HEAD_MAX + 1);
    size_t have = 0;
    while (head != NULL) {
        char *over = NULL;
        head[have] = 0;
        while ((over = strstr(head, "\r\n\r\n")) == NULL) {
            ssize_t count = have < HEAD_MAX ? recv(fd, head + have, HEAD_MAX - have, 0) : 0;
            if (count <= 0) goto closed;
            have += (size_t)count;
            head[have] = 0;
        }
        char path[64] = "", key[64], wanted[32], answer[512];
        sscanf(head, "GET %63[^ ?]", path);
        if (strcmp(path, "/ws") == 0 && header(head, "Sec-WebSocket-Key", key, sizeof key) != NULL) {
            echo(fd, key);
            break;
        }
        int closing = header(head, "Connection", wanted, sizeof wanted) != NULL && strcasecmp(wanted, "close") == 0;
        if (strcmp(path, "/slow") == 0) sleep(3);
        if (strcmp(path, "/sicken") == 0) fail = "unhealthy";
        int missing = (strcmp(path, "/health") == 0 && strcmp(fail, "unhealthy") == 0) || path[0] != '/';
        int size = snprintf(answer, sizeof answer,
                            "HTTP/1.1 %s\r\nContent-Type: text/plain\r\nContent-Length: %zu\r\n%s\r\n%.200s\n",
                            missing ? "404 Not Found" : "200 OK", strnlen(version, 200) + 1,
                            closing ? "Connection: close\r\n" : "", version);
        if (write_all(fd, answer, (size_t)size) < 0 || closing) break;
        size_t used = (size_t)(over + 4 - head);
        memmove(head, head + used, have - used);
        have -= used;
    }
closed:
    free(head);
    close(fd);
    return NULL;
}

int main(void) {
    const char *port = getenv("PORT");
    version = getenv("VERSION") ? getenv("VERSION") : "1";
    fail = getenv("FAIL") ? getenv("FAIL") : "";
    if (strcmp(fail, "exit") == 0) return 3;
    /* The first process of a container has no default actions. */
    signal(SIGTERM, strcmp(fail, "deaf") == 0 ? SIG_IGN : end);
    signal(SIGINT, end);
    int listener = socket(AF_INET, SOCK_STREAM, 0), on = 1;
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)(port ? atoi(port) : 8080))};
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, (struct sockaddr *)&at, sizeof at) < 0 || listen(listener, 1024) < 0) {
        perror("listen");
        return 1;
    }
    printf("serving %s\n", version);
    fflush(stdout);
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK_BYTES);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    for (;;) {
        int fd = accept(listener, NULL, NULL);
        pthread_t thread;
        if (fd >= 0 && pthread_create(&thread, &attributes, serve, (void *)(intptr_t)fd) != 0) close(fd);
    }
}
