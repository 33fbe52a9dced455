/* Which of the unpacked directories are in use.
 *
 * A running program holds a shared flock on its directory: the descriptor stays open across execve and closes with the
 * process, however that ends. Unpacking and removing are done under an exclusive lock of the directory above.
 */
#define _GNU_SOURCE
#include "launcher.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static int same(int directory, char const *path) {
    struct stat opened, named;
    return fstat(directory, &opened) == 0 && lstat(path, &named) == 0 && opened.st_ino == named.st_ino &&
           opened.st_dev == named.st_dev;
}

int enter(char const *base, char const *name) {
    char path[PATH_SIZE];
    struct stat seen;
    int directory;
    snprintf(path, sizeof path, "%s/%s", base, name);
    /* Stays open across execve: no O_CLOEXEC. */
    directory = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
    if (directory < 0) return -1;
    /* A remover may have held the lock meanwhile: then the directory is another one now, or none. */
    while (flock(directory, LOCK_SH) != 0)
        if (errno != EINTR) break;
    if (same(directory, path) && fstat(directory, &seen) == 0 && seen.st_uid == geteuid() &&
        (seen.st_mode & (S_IWGRP | S_IWOTH)) == 0 && faccessat(directory, PROGRAM, X_OK, 0) == 0)
        return directory;
    close(directory);
    return -1;
}

/* Is it a name that build/pack.py gives, or one of a directory that is being unpacked? */
static int is_ours(char const *name) {
    char const *digest;
    if (name[0] == '.') name++;
    digest = strrchr(name, '-');
    return strncmp(name, NAME_START, strlen(NAME_START)) == 0 && digest != NULL && strlen(digest + 1) == 16 &&
           strspn(digest + 1, "0123456789abcdef") == 16;
}

void forget_inherited(void) {
    for (int number = 3; number < 64; number++) {
        char link[64], path[PATH_SIZE];
        char const *name;
        ssize_t length;
        snprintf(link, sizeof link, "/proc/self/fd/%d", number);
        length = readlink(link, path, sizeof path - 1);
        if (length <= 0) continue;
        path[length] = 0;
        name = strrchr(path, '/');
        if (name != NULL && is_ours(name + 1)) close(number);
    }
}

void remove_unused(char const *base, char const *kept) {
    DIR *listing = opendir(base);
    struct dirent *entry;
    if (listing == NULL) return;
    while ((entry = readdir(listing)) != NULL) {
        int directory;
        /* The place may be one that the user chose, with other things in it. */
        if (!is_ours(entry->d_name) || strcmp(entry->d_name, kept) == 0) continue;
        directory = openat(dirfd(listing), entry->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (directory < 0) continue;
        if (flock(directory, LOCK_EX | LOCK_NB) == 0) remove_tree(dirfd(listing), entry->d_name);
        close(directory);
    }
    closedir(listing);
}
