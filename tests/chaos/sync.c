/* Preloaded into a node (LD_PRELOAD): every sync looks for files in $CHAOS_SYNC_DIR first.
 *   fail   the sync fails with EIO; the file is removed, so that exactly one does
 *   slow   the sync takes 300 ms longer
 *   hang   the sync does not return before the file is gone
 * A file `failed`, `slowed` or `hung` tells that it happened. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static int path(char *out, size_t size, const char *name) {
    const char *directory = getenv("CHAOS_SYNC_DIR");
    return directory && snprintf(out, size, "%s/%s", directory, name) < (int)size;
}

static int there(const char *name) {
    char file[4096];
    return path(file, sizeof file, name) && access(file, F_OK) == 0;
}

static void tell(const char *name) {
    char file[4096];
    int fd;
    if (path(file, sizeof file, name) && (fd = open(file, O_CREAT | O_WRONLY | O_CLOEXEC, 0600)) >= 0)
        close(fd);
}

static int trouble(void) {
    char file[4096];
    if (path(file, sizeof file, "fail") && unlink(file) == 0) {
        tell("failed");
        errno = EIO;
        return 1;
    }
    if (there("slow")) {
        tell("slowed");
        usleep(300 * 1000);
    }
    if (there("hang")) {
        tell("hung");
        while (there("hang"))
            usleep(10 * 1000);
    }
    return 0;
}

int fsync(int fd) {
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
    return trouble() ? -1 : real(fd);
}

int fdatasync(int fd) {
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    return trouble() ? -1 : real(fd);
}
