/* ledger: keeps account of every block that it hands out and of every call, and misbehaves when it is asked to.
 *
 * input  b  FP32 [1,10], or [any,1,10] if it joins
 * output a  FP32 [1,10] = b; [count,1,10], shard i = b + i, if it splits; [1,10], the sum of the shards, if it joins
 * params kind   copy (default), split, join
 *        count  of shards (3)
 *        fault  one kind of misbehaviour, see below
 *        report a file to which deinitialize appends the account, one line
 *
 * Blocks that come back are freed late, so that one that comes back twice is told from one that never was handed out.
 * Function ledger copies the account; the order of its numbers is that of enum account. */
#include <stdlib.h>
void *ledger_alloc(size_t size);
#define NODE_ALLOC ledger_alloc
#include "node_abi.h"
#include <pthread.h>
#include <stdio.h>

enum account { ALLOCATED, RELEASED, DOUBLED, STRANGE, INITIALIZED, DEINITIALIZED, EXECUTED, DESCRIBED, MANAGERS, NUMBERS };
enum { SLOTS = 1 << 16, LATE = 1024 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int64_t account[NUMBERS];
static void *live[SLOTS], *late[LATE];
static unsigned newest;

struct manager {
    int magic, isRude;
};
enum { MAGIC = 0x1ed6e4 };

static unsigned slot_of(const void *p) { return (unsigned)(((uintptr_t)p >> 4) * 2654435761u) % SLOTS; }

static void count(enum account which) {
    pthread_mutex_lock(&lock);
    account[which]++;
    pthread_mutex_unlock(&lock);
}

void *ledger_alloc(size_t size) {
    void *p = malloc(size + 1);
    pthread_mutex_lock(&lock);
    unsigned i = slot_of(p);
    while (live[i] != NULL)
        i = (i + 1) % SLOTS;
    live[i] = p;
    account[ALLOCATED]++;
    pthread_mutex_unlock(&lock);
    return p;
}

static int take_back(void *p) {
    for (unsigned step = 0, i = slot_of(p); step < SLOTS; step++, i = (i + 1) % SLOTS) {
        if (live[i] == p) {
            live[i] = NULL;
            return 1;
        }
    }
    return 0;
}

static int was_released(const void *p) {
    for (int i = 0; i < LATE; i++)
        if (late[i] == p)
            return 1;
    return 0;
}

NODE_EXPORT void ledger(int64_t *numbers) {
    pthread_mutex_lock(&lock);
    memcpy(numbers, account, sizeof account);
    pthread_mutex_unlock(&lock);
}

static void check_manager(const void *manager) {
    if (manager == NULL || ((const struct manager *)manager)->magic != MAGIC)
        count(MANAGERS);
}

static int is(const struct CustomNodeParam *params, int paramsCount, const char *key, const char *value) {
    return strcmp(node_param(params, paramsCount, key, ""), value) == 0;
}
#define KIND(value) is(params, paramsCount, "kind", value)
#define FAULT(value) is(params, paramsCount, "fault", value)

int initialize(void **manager, const struct CustomNodeParam *params, int paramsCount) {
    count(INITIALIZED);
    if (manager == NULL || *manager != NULL)
        return 9;
    if (FAULT("initialize"))
        return 3;
    struct manager *made = (struct manager *)malloc(sizeof *made + 256);
    made->magic = MAGIC;
    made->isRude = FAULT("release");
    strncpy((char *)(made + 1), node_param(params, paramsCount, "report", ""), 255);
    *manager = made;
    return 0;
}

int deinitialize(void *manager) {
    count(DEINITIALIZED);
    check_manager(manager);
    const char *path = (const char *)((struct manager *)manager + 1);
    FILE *report = *path ? fopen(path, "a") : NULL;
    if (report != NULL) {
        int64_t numbers[NUMBERS];
        ledger(numbers);
        for (int i = 0; i < NUMBERS; i++)
            fprintf(report, i ? " %lld" : "%lld", (long long)numbers[i]);
        fprintf(report, "\n");
        fclose(report);
    }
    ((struct manager *)manager)->magic = 0;
    free(manager);
    return 4; /* nobody cares */
}

static void spoil(struct CustomNodeTensor *out, const struct CustomNodeParam *params, int paramsCount) {
    if (FAULT("no name") || FAULT("no name, and no data before it"))
        out->name = NULL;
    if (FAULT("null data")) {
        release(out->data, NULL);
        out->data = NULL;
    }
    if (FAULT("less data"))
        out->dataBytes -= 4;
    if (FAULT("more data"))
        out->dataBytes += 4;
    if (FAULT("huge rank"))
        out->dimsCount = 1000000;
    if (FAULT("null dims")) {
        release(out->dims, NULL);
        out->dims = NULL;
    }
    if (FAULT("unspecified precision"))
        out->precision = NODE_UNSPECIFIED;
    if (FAULT("unknown precision"))
        out->precision = 99;
    if (FAULT("negative precision"))
        out->precision = -1;
    if (FAULT("empty and huge")) {
        out->dims[0] = 0, out->dims[1] = (uint64_t)1 << 63;
        out->dataBytes = 0;
    }
    if (FAULT("more than there is")) {
        out->dims[0] = 1, out->dims[1] = (uint64_t)1 << 60;
        out->dataBytes = (uint64_t)1 << 62;
    }
    if (FAULT("more than can be counted")) {
        out->dims[0] = (uint64_t)1 << 63, out->dims[1] = 2;
        out->dataBytes = 0;
    }
    if (FAULT("another name"))
        out->name = "other";
}

int execute(const struct CustomNodeTensor *inputs, int inputsCount, struct CustomNodeTensor **outputs,
            int *outputsCount, const struct CustomNodeParam *params, int paramsCount, void *manager) {
    count(EXECUTED);
    check_manager(manager);
    const struct CustomNodeTensor *in = node_input(inputs, inputsCount, "b");
    if (inputsCount != 1 || in == NULL || in->precision != NODE_FP32 || in->dimsCount < 2)
        return 1;
    if (FAULT("execute"))
        return 5;
    if (FAULT("null list")) {
        *outputs = NULL;
        *outputsCount = 1;
        return 0;
    }
    const int entries = 3;
    struct CustomNodeTensor *out = (struct CustomNodeTensor *)ledger_alloc(entries * sizeof *out);
    *outputs = out;
    if (FAULT("no outputs") || FAULT("negative count")) {
        *outputsCount = FAULT("no outputs") ? 0 : -3;
        return 0;
    }
    const uint64_t shards = strtoull(node_param(params, paramsCount, "count", "3"), NULL, 10);
    const uint64_t width = in->dims[in->dimsCount - 1], split[] = {shards, 1, width}, one[] = {1, width};
    const int splits = KIND("split");
    float *y = (float *)node_output(&out[1], "a", NODE_FP32, sizeof(float), splits ? 3 : 2, splits ? split : one);
    const float *x = (const float *)in->data;
    if (splits) {
        for (uint64_t i = 0; i < shards * width; i++)
            y[i] = x[i % width] + (float)(i / width);
    } else {
        memset(y, 0, width * sizeof *y);
        for (uint64_t i = 0; i < in->dataBytes / sizeof *x; i++)
            y[i % width] += x[i];
    }
    /* Nobody reads the first and the last one, which are good. */
    node_output(&out[0], "before", NODE_U8, 1, 2, one);
    float *twin = (float *)node_output(&out[2], FAULT("twin") ? "a" : "after", NODE_FP32, sizeof(float), 2, one);
    for (uint64_t i = 0; i < width; i++)
        twin[i] = -1;
    *outputsCount = entries;
    if (FAULT("no name, and no data before it"))
        out[0].dataBytes = 0;
    spoil(&out[1], params, paramsCount);
    return 0;
}

static int describe(struct CustomNodeTensorInfo **info, int *infoCount, const struct CustomNodeParam *params,
                    int paramsCount, void *manager, const char *name, int is_many) {
    count(DESCRIBED);
    check_manager(manager);
    if (FAULT("null description")) {
        *info = NULL;
        *infoCount = 1;
        return 0;
    }
    const int entries = 3;
    *info = (struct CustomNodeTensorInfo *)ledger_alloc(entries * sizeof **info);
    if (FAULT("no descriptions") || FAULT("negative descriptions")) {
        *infoCount = FAULT("no descriptions") ? 0 : -1;
        return 0;
    }
    *infoCount = FAULT("twin descriptions") || FAULT("nameless description") ? entries : 1;
    const uint64_t many[] = {FAULT("minus one") ? (uint64_t)-1 : 0, 1, 10}, one[] = {1, 10}, other[] = {7};
    node_describe(&(*info)[0], name, NODE_FP32, is_many ? 3 : 2, is_many ? many : one);
    for (int i = 1; i < *infoCount; i++)
        node_describe(&(*info)[i], FAULT("twin descriptions") ? name : NULL, NODE_I32, 1, other);
    if (FAULT("huge rank told"))
        (*info)->dimsCount = 1000000;
    if (FAULT("null dims told")) {
        release((*info)->dims, NULL);
        (*info)->dims = NULL;
    }
    if (FAULT("unknown precision told"))
        (*info)->precision = 99;
    return 0;
}

int getInputsInfo(struct CustomNodeTensorInfo **info, int *infoCount, const struct CustomNodeParam *params,
                  int paramsCount, void *manager) {
    if (FAULT("inputs"))
        return 6;
    return describe(info, infoCount, params, paramsCount, manager, "b", KIND("join"));
}

int getOutputsInfo(struct CustomNodeTensorInfo **info, int *infoCount, const struct CustomNodeParam *params,
                   int paramsCount, void *manager) {
    if (FAULT("outputs"))
        return 7;
    return describe(info, infoCount, params, paramsCount, manager, "a", KIND("split"));
}

int release(void *ptr, void *manager) {
    pthread_mutex_lock(&lock);
    const int known = take_back(ptr);
    account[known ? RELEASED : was_released(ptr) ? DOUBLED : STRANGE]++;
    void *old = NULL;
    if (known) {
        newest = (newest + 1) % LATE;
        old = late[newest];
        late[newest] = ptr;
    }
    pthread_mutex_unlock(&lock);
    free(old);
    return !known || (manager != NULL && ((struct manager *)manager)->isRude) ? 8 : 0;
}
