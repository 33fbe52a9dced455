/* One process: the onefile bootstrap becomes the program instead of supervising it.
 *
 * Nuitka's bootstrap unpacks, forks, and waits; the program then has another process id than the one that the service
 * manager started, sees every signal as SIGINT, and is killed after a grace time. The unpack directory stays (see
 * bytecode_plugin.py), so nothing is left to clean up afterwards and the supervising parent has no purpose.
 *
 * This header is put in front of every C file (CFLAGS=-include) and acts in the bootstrap only, the one compilation
 * that can see onefile_definitions.h:
 *   fork()       answers 0, "you are the child", so that the code path that executes the program runs here;
 *   sigaction()  does nothing, so that a signal during unpacking has its default effect instead of a parent's.
 */
#if defined(__has_include)
#if __has_include("onefile_definitions.h")

/* The bootstrap defines this itself before its own first include, which comes too late after the ones here. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

/* NUITKA_ONEFILE_PARENT would make the program start a thread that watches for the parent's death: that is itself. */
static pid_t syntra_stay(void) {
    unsetenv("NUITKA_ONEFILE_PARENT");
    return 0;
}

#define fork() syntra_stay()
/* Function-like on purpose: `struct sigaction` keeps its name. */
#define sigaction(number, action, previous) ((void)(action))

#endif
#endif
