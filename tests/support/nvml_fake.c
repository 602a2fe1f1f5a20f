/* A small NVML for machines without a GPU: its values are in the text file $NVML_FAKE_STATE, read again when it changes.
 *
 *   count 2                  devices; 0.uuid GPU-..., 0.name ..., 0.power 250000, ...: values of device 0
 *   0.mig 1                  device 0 is divided into slices; 0.mig.1.uuid MIG-..., 0.mig.1.gi 5, 0.mig.1.ci 0
 *   0.gpm.2 1e6              the counter of GPM metric 2: a metric is the difference of two samples
 *   0.field.138 77           a field value; 0.field32.197 makes it 32 bits wide
 *   0.fails.power 15         the error code that a call returns; 0.fails.all for every call of device 0
 *
 * $NVML_FAKE_FAILS "nvmlDeviceGetName 1 4" makes one function return code 4 for device 1; * stands for every function, -1
 * for every device.
 *
 * Values that are not in the file are not supported, as by a driver. nvml_fake_users() returns how many times the library
 * was initialized and not shut down. Structures follow NVIDIA's public ABI (https://docs.nvidia.com/deploy/nvml-api).
 * -DOLD_DRIVER omits the functions that drivers before 535 do not have.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { OK, UNINITIALIZED, INVALID, UNSUPPORTED, NOT_FOUND = 6 };
#define GPUS 8
#define SLICES 7
#define METRICS 512

typedef struct { int gpu, slice; } Handle; /* slice -1: the whole GPU */
typedef struct { double total[METRICS]; } Sample;
typedef struct { unsigned gpu, memory; } Utilization;
typedef struct { unsigned long long total, free, used; } Memory;
typedef struct { unsigned version; unsigned long long total, reserved, free, used; } MemoryV2;
typedef struct { unsigned version; int sensor, temperature; } Temperature;
typedef struct {
    unsigned id, scope;
    long long timestamp, latency;
    int type, result;
    union { double d; unsigned u32; unsigned long long u64; } value;
} Field;
typedef struct { unsigned id; int result; double value; char *names[3]; } Metric;
typedef struct { unsigned version, count; Sample *older, *newer; Metric metrics[]; } Metrics;

static Handle handles[GPUS][SLICES + 1];
static int users;

/* The state file's text, read again when the file has changed. */
static const char *state(void)
{
    static char *held;
    static struct stat seen;
    struct stat now;
    const char *path = getenv("NVML_FAKE_STATE");
    if (!path || stat(path, &now))
        return "";
    if (!held || memcmp(&now.st_mtim, &seen.st_mtim, sizeof now.st_mtim) || now.st_size != seen.st_size) {
        FILE *file = fopen(path, "r");
        held = realloc(held, (size_t)now.st_size + 1);
        held[fread(held, 1, (size_t)now.st_size, file)] = 0;
        fclose(file);
        seen = now;
    }
    return held;
}

static int text(const char *key, char *value, size_t size)
{
    size_t length = strlen(key);
    for (const char *line = state(); line; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (!strncmp(line, key, length) && line[length] == ' ') {
            snprintf(value, size, "%.*s", (int)strcspn(line + length + 1, "\n"), line + length + 1);
            return 1;
        }
        if (!*line)
            break;
    }
    return 0;
}

static int number(const char *key, double *value)
{
    char word[160];
    return text(key, word, sizeof word) ? (*value = atof(word), 1) : 0;
}

/* "0.power", or "0.mig.1.power" for a slice. */
static void key_of(Handle *device, const char *what, char *key)
{
    if (device->slice < 0)
        snprintf(key, 128, "%d.%s", device->gpu, what);
    else
        snprintf(key, 128, "%d.mig.%d.%s", device->gpu, device->slice, what);
}

static int failure(Handle *device, const char *what)
{
    char key[128];
    double code;
    snprintf(key, sizeof key, "%d.fails.all", device->gpu);
    if (number(key, &code))
        return (int)code;
    snprintf(key, sizeof key, "%d.fails.%s", device->gpu, what);
    return number(key, &code) ? (int)code : OK;
}

/* The code that $NVML_FAKE_FAILS has for a function and a device, else 0. */
static int chosen(const char *function, int gpu)
{
    char name[64];
    int device, code;
    const char *text = getenv("NVML_FAKE_FAILS");
    if (!text || sscanf(text, "%63s %d %d", name, &device, &code) != 3)
        return OK;
    return (!strcmp(name, function) || !strcmp(name, "*")) && (device < 0 || device == gpu) ? code : OK;
}
#define MAY_FAIL(gpu) do { int code_ = chosen(__func__, gpu); if (code_) return code_; } while (0)

static int value_of(Handle *device, const char *what, double *value)
{
    char key[128];
    int error = users ? failure(device, what) : UNINITIALIZED;
    if (error)
        return error;
    key_of(device, what, key);
    return number(key, value) ? OK : UNSUPPORTED;
}

static int unsigned_of(Handle *device, const char *what, unsigned *value)
{
    double read;
    int error = value_of(device, what, &read);
    if (!error)
        *value = (unsigned)read;
    return error;
}

static int string_of(Handle *device, const char *what, char *value, unsigned size)
{
    char key[128];
    int error = users ? failure(device, what) : UNINITIALIZED;
    key_of(device, what, key);
    return error ? error : text(key, value, size) ? OK : UNSUPPORTED;
}

static Handle *handle(int gpu, int slice)
{
    handles[gpu][slice + 1] = (Handle){gpu, slice};
    return &handles[gpu][slice + 1];
}

int nvmlInitWithFlags(unsigned flags)
{
    MAY_FAIL(-1);
    double code;
    if (number("init", &code))
        return (int)code;
    users++;
    return OK;
}

int nvmlShutdown(void)
{
    MAY_FAIL(-1);
    return users ? (users--, OK) : UNINITIALIZED;
}

int nvml_fake_users(void) { return users; }

const char *nvmlErrorString(int result)
{
    return result == 15 ? "GPU is lost" : result == UNSUPPORTED ? "Not Supported" : "Error of the small NVML";
}

int nvmlDeviceGetCount_v2(unsigned *count)
{
    MAY_FAIL(-1);
    double value = 0;
    number("count", &value);
    *count = (unsigned)value;
    return users ? OK : UNINITIALIZED;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, Handle **device)
{
    MAY_FAIL((int)index);
    unsigned count;
    int error = nvmlDeviceGetCount_v2(&count);
    if (error || index >= count)
        return error ? error : INVALID;
    *device = handle(index, -1);
    return OK;
}

int nvmlDeviceGetHandleByUUID(const char *uuid, Handle **device)
{
    char key[128], known[160];
    unsigned count;
    int error = nvmlDeviceGetCount_v2(&count);
    for (int gpu = 0; !error && gpu < (int)count; gpu++)
        for (int slice = -1; slice < SLICES; slice++) {
            Handle *candidate = handle(gpu, slice);
            key_of(candidate, "uuid", key);
            if (text(key, known, sizeof known) && !strcmp(known, uuid)) {
                MAY_FAIL(gpu);
                *device = candidate;
                return failure(candidate, "uuid");
            }
        }
    return error ? error : NOT_FOUND;
}

int nvmlDeviceGetUUID(Handle *device, char *uuid, unsigned size)
{
    MAY_FAIL(device->gpu);
    return string_of(device, "uuid", uuid, size);
}
int nvmlDeviceGetName(Handle *device, char *name, unsigned size)
{
    MAY_FAIL(device->gpu);
    return string_of(device, "name", name, size);
}

int nvmlDeviceGetUtilizationRates(Handle *device, Utilization *rates)
{
    MAY_FAIL(device->gpu);
    int error = unsigned_of(device, "busy", &rates->gpu);
    return error ? error : unsigned_of(device, "memory_busy", &rates->memory);
}

int nvmlDeviceGetMemoryInfo(Handle *device, Memory *memory)
{
    MAY_FAIL(device->gpu);
    double total, used, reserved = 0;
    int error = value_of(device, "memory_total", &total);
    if (error || (error = value_of(device, "memory_used", &used)))
        return error;
    value_of(device, "memory_reserved", &reserved);
    *memory = (Memory){total, total - used - reserved, used + reserved};
    return OK;
}

int nvmlDeviceGetClockInfo(Handle *device, int type, unsigned *mhz)
{
    MAY_FAIL(device->gpu);
    return unsigned_of(device, type == 1 ? "sm_clock" : type == 2 ? "memory_clock" : "other_clock", mhz);
}

int nvmlDeviceGetPowerUsage(Handle *device, unsigned *mw)
{
    MAY_FAIL(device->gpu);
    return unsigned_of(device, "power", mw);
}
int nvmlDeviceGetTemperature(Handle *device, int sensor, unsigned *celsius)
{
    MAY_FAIL(device->gpu);
    return sensor ? INVALID : unsigned_of(device, "temperature", celsius);
}

int nvmlDeviceGetCurrentClocksThrottleReasons(Handle *device, unsigned long long *bits)
{
    MAY_FAIL(device->gpu);
    double value;
    int error = value_of(device, "throttle", &value);
    *bits = error ? 0 : (unsigned long long)value;
    return error;
}

int nvmlDeviceGetTotalEnergyConsumption(Handle *device, unsigned long long *millijoules)
{
    MAY_FAIL(device->gpu);
    double value;
    int error = value_of(device, "energy", &value);
    *millijoules = error ? 0 : (unsigned long long)value;
    return error;
}

int nvmlDeviceGetPcieThroughput(Handle *device, int counter, unsigned *kilobytes)
{
    MAY_FAIL(device->gpu);
    return unsigned_of(device, counter ? "pcie_rx" : "pcie_tx", kilobytes);
}

int nvmlDeviceGetFieldValues(Handle *device, int count, Field *fields)
{
    MAY_FAIL(device->gpu);
    char name[64];
    double value;
    int error = users ? failure(device, "fields") : UNINITIALIZED;
    for (int i = 0; !error && i < count; i++) {
        snprintf(name, sizeof name, "field32.%u", fields[i].id);
        if (!(fields[i].result = value_of(device, name, &value))) {
            fields[i].type = 1;
            fields[i].value.u32 = (unsigned)value;
            continue;
        }
        snprintf(name, sizeof name, "field.%u", fields[i].id);
        fields[i].type = 3;
        if (!(fields[i].result = value_of(device, name, &value)))
            fields[i].value.u64 = (unsigned long long)value;
        /* NVLink totals are those of one link; only this scope gives those of all links. */
        if ((fields[i].id == 138 || fields[i].id == 139) && fields[i].scope != 0xFFFFFFFFu)
            fields[i].result = INVALID;
    }
    return error;
}

int nvmlDeviceGetMigMode(Handle *device, unsigned *now, unsigned *pending)
{
    MAY_FAIL(device->gpu);
    int error = unsigned_of(device, "mig", now);
    *pending = *now;
    return error;
}

int nvmlDeviceGetMaxMigDeviceCount(Handle *device, unsigned *count)
{
    MAY_FAIL(device->gpu);
    *count = SLICES;
    return users ? OK : UNINITIALIZED;
}

int nvmlDeviceGetMigDeviceHandleByIndex(Handle *device, unsigned index, Handle **slice)
{
    MAY_FAIL(device->gpu);
    char uuid[160];
    Handle *candidate = handle(device->gpu, (int)index);
    int error = string_of(candidate, "uuid", uuid, sizeof uuid);
    if (error)
        return error == UNSUPPORTED ? NOT_FOUND : error;
    *slice = candidate;
    return OK;
}

int nvmlDeviceGetDeviceHandleFromMigDeviceHandle(Handle *slice, Handle **device)
{
    MAY_FAIL(slice->gpu);
    *device = handle(slice->gpu, -1);
    return slice->slice < 0 ? INVALID : OK;
}

int nvmlDeviceGetGpuInstanceId(Handle *slice, unsigned *id)
{
    MAY_FAIL(slice->gpu);
    return slice->slice < 0 ? UNSUPPORTED : unsigned_of(slice, "gi", id);
}

int nvmlDeviceGetComputeInstanceId(Handle *slice, unsigned *id)
{
    MAY_FAIL(slice->gpu);
    return slice->slice < 0 ? UNSUPPORTED : unsigned_of(slice, "ci", id);
}

#ifndef OLD_DRIVER
int nvmlDeviceGetMemoryInfo_v2(Handle *device, MemoryV2 *memory)
{
    MAY_FAIL(device->gpu);
    double total, used, reserved = 0;
    int error = value_of(device, "memory_total", &total);
    if (error || (error = value_of(device, "memory_used", &used)))
        return error;
    value_of(device, "memory_reserved", &reserved);
    *memory = (MemoryV2){memory->version, total, reserved, total - used - reserved, used};
    return OK;
}

int nvmlDeviceGetTemperatureV(Handle *device, Temperature *temperature)
{
    MAY_FAIL(device->gpu);
    unsigned celsius;
    int error = temperature->sensor ? INVALID : unsigned_of(device, "temperature", &celsius);
    temperature->temperature = error ? 0 : (int)celsius;
    return error;
}

int nvmlDeviceGetCurrentClocksEventReasons(Handle *device, unsigned long long *bits)
{
    MAY_FAIL(device->gpu);
    return nvmlDeviceGetCurrentClocksThrottleReasons(device, bits);
}

int nvmlGpmQueryDeviceSupport(Handle *device, unsigned *version_and_support)
{
    MAY_FAIL(device->gpu);
    version_and_support[1] = 0;
    unsigned_of(device, "gpm", &version_and_support[1]);
    return OK;
}

int nvmlGpmSampleAlloc(Sample **sample)
{
    MAY_FAIL(-1);
    return (*sample = calloc(1, sizeof(Sample))) ? OK : INVALID;
}
int nvmlGpmSampleFree(Sample *sample)
{
    MAY_FAIL(-1);
    return free(sample), OK;
}

static int snapshot(Handle *device, const char *prefix, Sample *sample)
{
    static const int known[] = {2, 3, 5, 10, 12, 13, 20, 21, 60, 61};
    char name[64];
    for (int id = 0; id < METRICS; id++)
        sample->total[id] = -1;
    for (unsigned i = 0; i < sizeof known / sizeof *known; i++) {
        snprintf(name, sizeof name, "%sgpm.%d", prefix, known[i]);
        value_of(device, name, &sample->total[known[i]]);
    }
    return failure(device, "gpm");
}

int nvmlGpmSampleGet(Handle *device, Sample *sample)
{
    MAY_FAIL(device->gpu);
    unsigned cut = 0;
    nvmlDeviceGetMigMode(device, &cut, &cut);
    return cut ? UNSUPPORTED : snapshot(device, "", sample);
}

int nvmlGpmMigSampleGet(Handle *device, unsigned instance, Sample *sample)
{
    MAY_FAIL(device->gpu);
    char prefix[32];
    snprintf(prefix, sizeof prefix, "gi.%u.", instance);
    return snapshot(device, prefix, sample);
}

int nvmlGpmMetricsGet(Metrics *request)
{
    MAY_FAIL(-1);
    for (unsigned i = 0; i < request->count; i++) {
        Metric *metric = &request->metrics[i];
        metric->value = request->newer->total[metric->id] - request->older->total[metric->id];
        metric->result = request->newer->total[metric->id] < 0 ? UNSUPPORTED : OK;
    }
    return request->version == 1 ? OK : INVALID;
}
#endif
