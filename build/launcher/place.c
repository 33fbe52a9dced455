/* Where to unpack: the first directory that is private, has room, and lets programs run. */
#define _GNU_SOURCE
#include "launcher.h"

#include <errno.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

/* The home directory by /etc/passwd. Not getpwuid(): it may load libraries, which a static program cannot. */
static void home_of_user(char *home, size_t size) {
    FILE *file = fopen("/etc/passwd", "re");
    struct passwd *entry;
    home[0] = 0;
    if (file == NULL) return;
    while (home[0] == 0 && (entry = fgetpwent(file)) != NULL)
        if (entry->pw_uid == geteuid()) snprintf(home, size, "%s", entry->pw_dir);
    fclose(file);
}

/* Only a cache directory is created whole; a home or a /tmp that does not exist is none. */
static int add(struct place *places, int count, char const *above, char const *rest, int create_all) {
    /* Relative and missing ones do not count (XDG Base Directory Specification). */
    if (above == NULL || above[0] != '/' || strlen(above) + strlen(rest) >= PATH_SIZE / 2) return count;
    snprintf(places[count].base, PATH_SIZE, "%s%s", above, rest);
    places[count].reason[0] = 0;
    places[count].existing = create_all ? 0 : strlen(above);
    for (int i = 0; i < count; i++)
        if (strcmp(places[i].base, places[count].base) == 0) return count;
    return count + 1;
}

int find_places(struct place *places, int limit) {
    char home[PATH_SIZE / 2], shared[64];
    char const *chosen = getenv("SYNTRA_RUNTIME_DIR");
    int count = 0;
    if (limit < 6) abort();
    /* A place that was asked for is the only one. */
    if (chosen != NULL && chosen[0] != 0) {
        snprintf(places[0].base, PATH_SIZE / 2, "%s", chosen);
        places[0].reason[0] = 0;
        places[0].existing = 0;
        if (chosen[0] != '/') snprintf(places[0].reason, REASON_SIZE, "SYNTRA_RUNTIME_DIR has to be an absolute path");
        return 1;
    }
    home_of_user(home, sizeof home);
    snprintf(shared, sizeof shared, "/syntra-agent-%lu", (unsigned long)geteuid());
    count = add(places, count, getenv("XDG_CACHE_HOME"), "/syntra-agent", 1);
    count = add(places, count, getenv("HOME"), "/.cache/syntra-agent", 0);
    count = add(places, count, home, "/.cache/syntra-agent", 0);
    if (geteuid() == 0) count = add(places, count, "/var/cache", "/syntra-agent", 0);
    count = add(places, count, "/var/tmp", shared, 0);
    count = add(places, count, "/tmp", shared, 0);
    return count;
}

static int refuse(struct place *place, char const *reason) {
    snprintf(place->reason, REASON_SIZE, "%s", reason);
    return -1;
}

int prepare(struct place *place) {
    struct stat seen;
    struct statvfs filesystem;
    if (place->reason[0] != 0) return -1;
    for (char *at = place->base + 1;; at++) {
        char kept = *at;
        if (kept != '/' && kept != 0) continue;
        *at = 0;
        if (lstat(place->base, &seen) != 0 &&
            (at <= place->base + place->existing || (mkdir(place->base, 0700) != 0 && errno != EEXIST))) {
            int reason = errno;
            *at = kept;
            return refuse(place, strerror(reason));
        }
        *at = kept;
        if (kept == 0) break;
    }
    /* Everything below is executed: it has to belong to this user alone. lstat: a link may be anyone's. */
    if (lstat(place->base, &seen) != 0) return refuse(place, strerror(errno));
    if (!S_ISDIR(seen.st_mode)) return refuse(place, "not a directory");
    if (seen.st_uid != geteuid()) return refuse(place, "it belongs to another user");
    if (seen.st_mode & (S_IWGRP | S_IWOTH)) return refuse(place, "other users may write to it");
    if (statvfs(place->base, &filesystem) != 0) return refuse(place, strerror(errno));
    if (filesystem.f_flag & ST_NOEXEC) return refuse(place, "mounted noexec");
    return 0;
}
