/* Find the directory of this file's content, or make it; then become the program in it. */
#define _GNU_SOURCE
#include "launcher.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define CANNOT_START 2
#define PLACES 6

static int open_own_file(char *path) {
    ssize_t length = readlink("/proc/self/exe", path, PATH_SIZE - 1);
    int file = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    if (file >= 0 && length > 0) {
        path[length] = 0;
        return file;
    }
    /* Without /proc: the path that the kernel was given. */
    if (realpath((char const *)getauxval(AT_EXECFN), path) == NULL) return -1;
    return open(path, O_RDONLY | O_CLOEXEC);
}

static int read_trailer(int file, struct trailer *trailer) {
    struct stat seen;
    off_t at;
    if (fstat(file, &seen) != 0) return -1;
    at = seen.st_size - (off_t)sizeof *trailer;
    if (pread(file, trailer, sizeof *trailer, at) != (ssize_t)sizeof *trailer) return -1;
    if (memcmp(trailer->magic, MAGIC, sizeof trailer->magic) != 0) return -1;
    if (trailer->offset + trailer->packed != (uint64_t)at || trailer->offset > (uint64_t)at) return -1;
    return trailer->name[sizeof trailer->name - 1] == 0 ? 0 : -1;
}

/* The descriptor of the locked, complete directory in this place; -1 with the reason. */
static int settle(struct place *place, int file, struct trailer const *trailer) {
    char final[PATH_SIZE], temporary[PATH_SIZE];
    int lock, directory;
    if (prepare(place) != 0) return -1;
    directory = enter(place->base, trailer->name);
    lock = open(place->base, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (directory >= 0) {
        /* Somebody who unpacks or removes now needs no help. */
        if (lock >= 0 && flock(lock, LOCK_EX | LOCK_NB) == 0) remove_unused(place->base, trailer->name);
        if (lock >= 0) close(lock);
        return directory;
    }
    while (lock >= 0 && flock(lock, LOCK_EX) != 0)
        if (errno != EINTR) break;
    directory = enter(place->base, trailer->name); /* another process may have made it while this one waited */
    if (directory < 0) {
        snprintf(temporary, sizeof temporary, "%s/.%s", place->base, trailer->name);
        snprintf(final, sizeof final, "%s/%s", place->base, trailer->name);
        /* What stands there is a rest of an interrupted start, or no longer complete. */
        remove_unused(place->base, "");
        remove_tree(AT_FDCWD, final);
        if (unpack(file, trailer, temporary, place->reason) == 0) {
            if (rename(temporary, final) != 0) {
                snprintf(place->reason, REASON_SIZE, "%s", strerror(errno));
                remove_tree(AT_FDCWD, temporary);
            }
            directory = enter(place->base, trailer->name);
        }
    }
    if (lock >= 0) close(lock);
    if (directory < 0 && place->reason[0] == 0) snprintf(place->reason, REASON_SIZE, "the program in it cannot run");
    return directory;
}

/* Returns only when the program cannot be run. */
static void become(char const *base, char const *name, char const *own_path, int count, char **arguments) {
    char program[PATH_SIZE], loader[PATH_SIZE];
    snprintf(program, sizeof program, "%s/%s/" PROGRAM, base, name);
    snprintf(loader, sizeof loader, "%s/%s/" LOADER, base, name);
    setenv("SYNTRA_BINARY", own_path, 1);
    if (access(loader, F_OK) == 0) {
        char **words = calloc((size_t)count + 6, sizeof *words);
        int at = 0;
        if (words == NULL) return;
        words[at++] = loader;
        words[at++] = "--argv0";
        words[at++] = arguments[0];
        words[at++] = "--";
        words[at++] = program;
        for (int i = 1; i < count; i++) words[at++] = arguments[i];
        execv(loader, words);
    } else {
        execv(program, arguments);
    }
}

static void report(struct place const *places, int count) {
    fprintf(stderr, "syntra-agent: cannot find a place to unpack the program:");
    for (int i = 0; i < count; i++) fprintf(stderr, "%s %s (%s)", i ? "," : "", places[i].base, places[i].reason);
    fprintf(stderr, "; set SYNTRA_RUNTIME_DIR to a private directory that has room and lets programs run\n");
}

int main(int count, char **arguments) {
    static struct place places[PLACES];
    char own_path[PATH_SIZE];
    char *none[] = {"syntra-agent", NULL};
    struct trailer trailer;
    int file = open_own_file(own_path), found;
    if (count < 1) arguments = none, count = 1;
    if (file < 0) {
        fprintf(stderr, "syntra-agent: cannot read its own file: %s; mount /proc\n", strerror(errno));
        return CANNOT_START;
    }
    if (read_trailer(file, &trailer) != 0) {
        fprintf(stderr, "syntra-agent: cannot start from %s: the file is incomplete; download it again\n", own_path);
        return CANNOT_START;
    }
    forget_inherited();
    found = find_places(places, PLACES);
    for (int i = 0; i < found; i++) {
        int directory = settle(&places[i], file, &trailer);
        if (directory < 0) continue;
        become(places[i].base, trailer.name, own_path, count, arguments);
        snprintf(places[i].reason, REASON_SIZE, "%s", strerror(errno));
        close(directory);
    }
    report(places, found);
    return CANNOT_START;
}
