/* Preloaded into a process, this makes a disk full: as long as the file named by FULL_DISK_FLAG exists, nothing can be written into
 * a file below the folder named by FULL_DISK, and no folder made in it. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static int is_full(void)
{
    const char *flag = getenv("FULL_DISK_FLAG");
    return flag != NULL && access(flag, F_OK) == 0;
}

static int is_below(const char *path)
{
    const char *folder = getenv("FULL_DISK");
    return folder != NULL && strncmp(path, folder, strlen(folder)) == 0;
}

/* Whether a write has to fail. */
static int fails(int file)
{
    int before = errno;
    int found = 0;
    if (is_full()) {
        char link[64], path[PATH_MAX];
        snprintf(link, sizeof link, "/proc/self/fd/%d", file);
        ssize_t length = readlink(link, path, sizeof path - 1);
        if (length > 0) {
            path[length] = 0;
            found = is_below(path);
        }
    }
    errno = found ? ENOSPC : before;
    return found;
}

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

ssize_t write(int file, const void *data, size_t size)
{
    return fails(file) ? -1 : NEXT(write)(file, data, size);
}

ssize_t writev(int file, const struct iovec *parts, int count)
{
    return fails(file) ? -1 : NEXT(writev)(file, parts, count);
}

ssize_t pwrite64(int file, const void *data, size_t size, off64_t offset)
{
    return fails(file) ? -1 : NEXT(pwrite64)(file, data, size, offset);
}

int mkdir(const char *path, mode_t mode)
{
    if (is_full() && is_below(path)) {
        errno = ENOSPC;
        return -1;
    }
    return NEXT(mkdir)(path, mode);
}
