/* Makes syncs fail with EIO while the file named by FAULTS_CONTROL begins with '1'. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

static int faulty(void) {
    const char *path = getenv("FAULTS_CONTROL");
    char on = '0';
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file >= 0) {
        if (read(file, &on, 1) != 1) on = '0';
        close(file);
    }
    return on == '1';
}

#define SYNC(name)                                              \
    int name(int file) {                                        \
        int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, #name); \
        if (faulty()) {                                         \
            errno = EIO;                                        \
            return -1;                                          \
        }                                                       \
        return real(file);                                      \
    }

SYNC(fsync)
SYNC(fdatasync)
