/* The launcher: the part of a one-file program that runs first.
 *
 * The file is this static program, then a zstd stream with the files of the real program, then a trailer. The launcher
 * unpacks the files once into a directory of their own and becomes the real program: same process, same id, so that
 * signals, exit status and the service manager's view are the program's own.
 *
 * A directory is named after its content and gets its final name when everything in it is on the disk. So a directory
 * with its final name is complete for good, and two versions side by side never touch each other's files.
 */
#ifndef LAUNCHER_H
#define LAUNCHER_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define PROGRAM "syntra-agent.bin"
#define LOADER "ld-musl.so.1" /* there when the program brings its C library along */
#define PATH_SIZE 4096
#define REASON_SIZE 512

/* The last bytes of the file; numbers are little-endian, as both processors are. build/pack.py writes it. */
struct trailer {
    char magic[8];
    uint64_t offset;   /* where the zstd stream begins */
    uint64_t packed;   /* its size */
    uint64_t unpacked; /* the size of all files together */
    char name[96];     /* of the directory: syntra-agent-VERSION-DIGEST, ends with zeros */
};
#define NAME_START "syntra-agent-"
#define MAGIC "SYNTRA\1\n"

/* place.c: candidates for the directory above the unpacked ones. */
struct place {
    char base[PATH_SIZE];
    size_t existing;          /* so many characters of it have to exist; the rest is created */
    char reason[REASON_SIZE]; /* why it cannot be used; empty when it can */
};
/* Fill at most `limit` candidates in the order of preference; returns their number. */
int find_places(struct place *places, int limit);
/* Create the directory and look whether it is private and programs may run from it; sets the reason. */
int prepare(struct place *place);

/* unpack.c: returns 0, or -1 with the reason. `into` must not exist; it is removed again after a failure. */
int unpack(int file, struct trailer const *trailer, char const *into, char *reason);
void remove_tree(int parent, char const *name);

/* versions.c: the unpacked directories in a base. A running program holds a shared lock on its directory. */
/* Lock the complete directory `name`; returns its descriptor, or -1 when there is none. */
int enter(char const *base, char const *name);
/* Close the locks of a program that became this one: an update by execve keeps its descriptors. */
void forget_inherited(void);
/* Remove every other directory that no running program holds. */
void remove_unused(char const *base, char const *kept);

#endif
