/* One process, started at once: the onefile bootstrap becomes the program instead of supervising it.
 *
 * Nuitka's bootstrap unpacks everything at every start, forks, and waits. The program then has another process id than
 * the one the service manager started, sees every signal as SIGINT and is killed after a grace time; two first starts
 * side by side rewrite each other's mapped files, which kills one of them with SIGBUS.
 *
 * This header is put in front of every C file (CFLAGS=-include) and acts in the bootstrap only, the one compilation
 * that can see onefile_definitions.h. It takes the place of two calls there:
 *   sigaction()  comes first, when the unpack directory's name is known. Finding the link that says the directory is
 *                complete, the process becomes the program. Otherwise it unpacks, alone, under a lock. Signals keep
 *                their default effect meanwhile.
 *   fork()       comes when everything is unpacked. It leaves the link and answers 0, "you are the child", so that the
 *                code path that executes the program runs here.
 *
 * The directory is named after its content (see bytecode_plugin.py), so complete means complete for good. Everything in
 * it is executed: it has to belong to this user alone.
 */
#if defined(__has_include)
#if __has_include("onefile_definitions.h")

/* The bootstrap defines this itself before its own first include, which comes too late after the ones here. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

/* A link inside the unpack directory to the program; it exists once everything is there, on the disk too. */
#define SYNTRA_LINK "/.program"

static void syntra_fail(char const *directory, char const *reason) {
    fprintf(stderr, "syntra-agent: cannot unpack to %s: %s; set XDG_CACHE_HOME to a private directory\n", directory, reason);
    exit(2);
}

static int syntra_exists(char const *path) {
    struct stat seen;
    return lstat(path, &seen) == 0;
}

static void syntra_require_private(char const *directory) {
    struct stat seen;
    if (lstat(directory, &seen) != 0) syntra_fail(directory, strerror(errno));
    if (!S_ISDIR(seen.st_mode)) syntra_fail(directory, "not a directory");
    if (seen.st_uid != geteuid()) syntra_fail(directory, "it belongs to another user");
    if (seen.st_mode & (S_IWGRP | S_IWOTH)) syntra_fail(directory, "other users may write to it");
}

/* Create `path` and what is missing above it, for this user only. */
static void syntra_make_directories(char *path) {
    for (char *at = path + 1;; at++) {
        char kept = *at;
        if (kept != '/' && kept != 0) continue;
        *at = 0;
        if (!syntra_exists(path) && mkdir(path, 0700) != 0 && errno != EEXIST) syntra_fail(path, strerror(errno));
        *at = kept;
        if (kept == 0) return;
    }
}

/* Become the unpacked program, in the way the bootstrap would; returns only when that is not possible. */
static void syntra_become(char const *unpacked, char **argv, char const *binary, char const *binary_directory) {
    char link[4096 + sizeof SYNTRA_LINK], name[256], program[4096 + sizeof name];
    char *invoked_as = argv[0];
    ssize_t length;
    snprintf(link, sizeof link, "%s" SYNTRA_LINK, unpacked);
    length = readlink(link, name, sizeof name - 1);
    if (length <= 0) return;
    name[length] = 0;
    syntra_require_private(unpacked);
    /* Not through the link: its name would become the process's name. */
    snprintf(program, sizeof program, "%s/%s", unpacked, name);
    setenv("NUITKA_ONEFILE_DIRECTORY", binary_directory, 1);
    setenv("NUITKA_ORIGINAL_ARGV0", invoked_as, 1);
    unsetenv("NUITKA_ONEFILE_PARENT");
    argv[0] = (char *)binary;
    execv(program, argv);
    /* The program is gone, or may not run: unpack again, or let the bootstrap say why not. */
    argv[0] = invoked_as;
    unlink(link);
}

static void syntra_enter(int signal_number, char const *unpacked, char **argv, char const *binary,
                         char const *binary_directory) {
    char parent[4096];
    int lock;
    if (signal_number != SIGINT) return; /* the first of several calls */
    snprintf(parent, sizeof parent, "%s", unpacked);
    *strrchr(parent, '/') = 0;
    syntra_make_directories(parent);
    syntra_require_private(parent);
    syntra_become(unpacked, argv, binary, binary_directory);
    /* The lock ends with execv or with the process. */
    lock = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (lock < 0) syntra_fail(parent, strerror(errno));
    while (flock(lock, LOCK_EX) != 0)
        if (errno != EINTR) syntra_fail(parent, strerror(errno));
    syntra_become(unpacked, argv, binary, binary_directory);
    if (syntra_exists(unpacked)) syntra_require_private(unpacked);
}

static pid_t syntra_stay(char const *unpacked, char const *program) {
    char link[4096 + sizeof SYNTRA_LINK];
    int directory = open(unpacked, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    /* Without the link the next start unpacks again; nothing is lost. */
    if (directory >= 0 && syncfs(directory) == 0) {
        snprintf(link, sizeof link, "%s" SYNTRA_LINK, unpacked);
        if (symlink(strrchr(program, '/') + 1, link) != 0) errno = 0;
    }
    /* Would make the program start a thread that watches for the parent's death: that is itself. */
    unsetenv("NUITKA_ONEFILE_PARENT");
    return 0;
}

#define fork() syntra_stay(payload_path, first_filename)
/* Function-like on purpose: `struct sigaction` keeps its name. */
#define sigaction(number, action, previous)                                                                            \
    ((void)(action), syntra_enter((number), payload_path, argv, getBinaryPath(),                                       \
                                  stripBaseFilename(getBinaryFilenameHostEncoded(false))))

#endif
#endif
