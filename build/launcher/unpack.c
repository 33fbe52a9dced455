/* Files out of the zstd stream. */
#define _GNU_SOURCE
#include "launcher.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "zstd.h"

struct stream {
    ZSTD_DCtx *context;
    ZSTD_inBuffer in;
    ZSTD_outBuffer out;
    size_t taken;  /* of `out` */
    size_t status; /* of the decoder: 0 when it is at the end, with the checksum compared */
    char *reason;
};

static int fail(char *reason, char const *what, char const *why) {
    snprintf(reason, REASON_SIZE, "%s%s%s", what, why[0] ? ": " : "", why);
    return -1;
}

/* Fill the buffer again, from its start. */
static int decode(struct stream *stream) {
    int is_end = stream->in.pos == stream->in.size;
    stream->out.pos = stream->taken = 0;
    stream->status = ZSTD_decompressStream(stream->context, &stream->out, &stream->in);
    if (ZSTD_isError(stream->status)) return fail(stream->reason, "this file is damaged", ZSTD_getErrorName(stream->status));
    if (is_end && stream->out.pos == 0 && stream->status != 0) return fail(stream->reason, "this file is damaged", "it ends early");
    return 0;
}

/* The next bytes of the stream, at most `wanted`; returns how many, 0 after an error. */
static size_t some(struct stream *stream, void const **bytes, size_t wanted) {
    size_t left;
    while (stream->taken == stream->out.pos) {
        if (decode(stream) != 0) return 0;
    }
    left = stream->out.pos - stream->taken;
    if (left > wanted) left = wanted;
    *bytes = (char *)stream->out.dst + stream->taken;
    stream->taken += left;
    return left;
}

static int take(struct stream *stream, void *into, size_t size) {
    for (size_t done = 0; done < size;) {
        void const *bytes;
        size_t part = some(stream, &bytes, size - done);
        if (part == 0) return -1;
        memcpy((char *)into + done, bytes, part);
        done += part;
    }
    return 0;
}

/* The stream's checksum comes after the last byte. */
static int finish(struct stream *stream) {
    while (stream->status != 0)
        if (decode(stream) != 0) return -1;
    return 0;
}

static int take_file(struct stream *stream, int into, uint64_t size) {
    while (size > 0) {
        void const *bytes;
        size_t part = some(stream, &bytes, size < SIZE_MAX ? (size_t)size : SIZE_MAX);
        if (part == 0) return -1;
        for (size_t done = 0; done < part;) {
            ssize_t written = write(into, (char const *)bytes + done, part - done);
            if (written < 0 && errno != EINTR) return fail(stream->reason, strerror(errno), "");
            if (written > 0) done += (size_t)written;
        }
        size -= part;
    }
    return 0;
}

static void make_parents(int directory, char *path) {
    for (char *at = strchr(path, '/'); at != NULL; at = strchr(at + 1, '/')) {
        *at = 0;
        mkdirat(directory, path, 0700);
        *at = '/';
    }
}

/* Every file: mode, length of its path, size, path, bytes. A path of length 0 ends the stream. */
static int take_all(struct stream *stream, int directory) {
    struct {
        uint16_t mode, path;
        uint32_t nothing;
        uint64_t size;
    } head;
    char path[PATH_SIZE];
    for (;;) {
        int file, failed;
        if (take(stream, &head, sizeof head) != 0) return -1;
        if (head.path == 0) return finish(stream);
        if (head.path >= sizeof path) return fail(stream->reason, "this file is damaged", "a path is too long");
        if (take(stream, path, head.path) != 0) return -1;
        path[head.path] = 0;
        make_parents(directory, path);
        file = openat(directory, path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, head.mode & 0755);
        if (file < 0) return fail(stream->reason, path, strerror(errno));
        failed = take_file(stream, file, head.size);
        if (close(file) != 0 && !failed) failed = fail(stream->reason, path, strerror(errno));
        if (failed) return -1;
    }
}

void remove_tree(int parent, char const *name) {
    int directory = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *listing = directory < 0 ? NULL : fdopendir(directory);
    struct dirent *entry;
    if (listing == NULL) {
        unlinkat(parent, name, 0);
        return;
    }
    while ((entry = readdir(listing)) != NULL)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0 &&
            unlinkat(directory, entry->d_name, 0) != 0)
            remove_tree(directory, entry->d_name);
    closedir(listing);
    unlinkat(parent, name, AT_REMOVEDIR);
}

int unpack(int file, struct trailer const *trailer, char const *into, char *reason) {
    static char buffer[1 << 17];
    struct stream stream = {.out = {buffer, sizeof buffer, 0}, .status = 1, .reason = reason};
    struct statvfs filesystem;
    size_t before = trailer->offset % (uint64_t)sysconf(_SC_PAGESIZE);
    size_t mapped = (size_t)trailer->packed + before;
    int directory, failed;
    char *bytes;
    if (mkdir(into, 0700) != 0) return fail(reason, strerror(errno), "");
    directory = open(into, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (directory < 0) return fail(reason, strerror(errno), "");
    if (fstatvfs(directory, &filesystem) == 0 && filesystem.f_blocks > 0 &&
        filesystem.f_bavail * filesystem.f_frsize < trailer->unpacked) {
        snprintf(reason, REASON_SIZE, "%llu MB are free, %llu MB needed",
                 (unsigned long long)(filesystem.f_bavail * filesystem.f_frsize >> 20),
                 (unsigned long long)(trailer->unpacked >> 20) + 1);
        failed = -1;
    } else if ((bytes = mmap(NULL, mapped, PROT_READ, MAP_PRIVATE, file, (off_t)(trailer->offset - before))) == MAP_FAILED) {
        failed = fail(reason, "cannot read this file", strerror(errno));
    } else {
        stream.in.src = bytes + before;
        stream.in.size = (size_t)trailer->packed;
        stream.context = ZSTD_createDCtx();
        ZSTD_DCtx_setParameter(stream.context, ZSTD_d_windowLogMax, 27);
        failed = take_all(&stream, directory);
        /* On the disk before it gets its final name: a directory with that name has to be complete after a power cut. */
        if (!failed && syncfs(directory) != 0) failed = fail(reason, strerror(errno), "");
        ZSTD_freeDCtx(stream.context);
        munmap(bytes, mapped);
    }
    close(directory);
    if (failed) remove_tree(AT_FDCWD, into);
    return failed;
}
