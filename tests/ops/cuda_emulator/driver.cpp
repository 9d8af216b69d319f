/* The driver's functions over this process's memory.
 *
 * Work waits in its stream's queue until something waits for it: a synchronisation, an event, another stream, the end
 * of memory. So it runs as late as the real one may run it, and what is not waited for shows: a kernel before its
 * upload, a buffer filled again before its copy, a result read too early. A recording's nodes run in orders that
 * their edges allow. With FLUX1_EMULATOR_EAGER in the environment
 * it runs at once instead, so that a debugger shows who asked for it. */
#include "ops/cuda_emulator/device.h"
#include "ops/cuda_emulator/emulate.h"

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <map>
#include <mutex>
#include <set>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <thread>
#include <unistd.h>
#include <vector>

int emulator_capability = 90;
cuda_emulator_counters emulator_counters;

namespace
{

enum : size_t {
    PAGE = 4096,
    ALIGNMENT = 256,
    MOST_ARGUMENTS = 4096,
    SHARED_AT_FIRST = 49152,
    POISON = (size_t)16 << 20,
    POISON_BY_HAND = (size_t)64 << 10
};

struct allocation {
    size_t bytes;
    void *mapping;
    size_t mapped;
    bool host;
};

typedef std::function<void()> call;

std::recursive_mutex lock;
std::map<uintptr_t, allocation> memory;
std::vector<CUstream> streams;
size_t total = (size_t)64 << 30;
int64_t failing;                               /* allocations until one fails */
int64_t failing_kernel;                        /* the same of kernels */
std::map<int, int> contexts;                   /* retained, by 1 + device */
std::map<int, bool> broken;                    /* a kernel of that device has failed */
std::map<CUfunction, unsigned> shared_allowed; /* dynamic shared memory, where it was set */
int64_t captures;
int64_t births; /* streams so far */
int device_number = 1;
int waiting; /* threads in emulator_wait */
std::condition_variable_any changed;

thread_local int current;       /* 1 + the device of this thread's context; 0: none */
thread_local CUstream recorded; /* the stream that this thread records, and only it may end */

typedef std::lock_guard<std::recursive_mutex> guard;

bool fails_now(void) { return failing > 0 && --failing == 0; }

} // namespace

/* A call of a recording, and which ones it comes behind: the one before it on its stream, and what that stream waited
 * for. */
struct node {
    call work;
    CUstream stream;
    std::set<size_t> behind;
};

struct CUstream_st {
    int device;
    int64_t birth;           /* tells it from one that had its address before */
    bool demanded;           /* a thread is about to run its calls */
    std::thread::id runner;  /* who runs its calls, and may be waiting for another rank */
    CUstream joined;         /* the recording stream whose event it waited for: what it is given is recorded there */
    bool apart;              /* and something that stream has not waited for */
    bool recording, invalid; /* invalid: something that cannot be recorded was asked for */
    int64_t capture;         /* number of the recording */
    std::vector<node> nodes; /* recorded */
    std::set<size_t> latest; /* of a recording's nodes: what the next one here comes behind */
    std::deque<call> queue;
    uint64_t queued, done;               /* calls so far */
    std::map<CUstream, uint64_t> behind; /* calls of other streams that what it is given from now on waits for */
};
struct CUgraph_st {
    std::vector<node> nodes;
};
struct CUgraphExec_st {
    std::vector<node> nodes;
    int launches;
};
struct CUevent_st {
    CUstream stream; /* where it was last recorded; NULL: nowhere yet */
    uint64_t ticket; /* that stream's calls that precede it */
    int64_t capture; /* the recording it was recorded in, or 0 */
    std::set<size_t> latest; /* of that recording's nodes */
};

namespace
{

/* The last call that was given a workspace. */
struct workspace_use {
    CUstream stream;
    uint64_t ticket;
    int64_t capture; /* the recording it is in, or 0 */
};
std::map<const void *, workspace_use> workspaces;

bool known(CUstream s)
{
    for (CUstream t : streams)
        if (t == s)
            return true;
    return false;
}

/* Runs a stream's calls until `ticket` of them are done. A call may itself wait for another stream. */
void run_until(CUstream s, uint64_t ticket)
{
    const std::thread::id me = std::this_thread::get_id(), nobody;
    const int64_t birth = s->birth;
    while (s->runner != nobody && s->runner != me && s->done < ticket) {
        changed.wait(lock);
        if (!known(s) || s->birth != birth)
            return; /* destroyed meanwhile, which it is when all is done */
    }
    if (s->done >= ticket)
        return;
    if (s->runner == me)
        emulate_fail("a stream waits for itself");
    s->runner = me;
    while (s->done < ticket && !s->queue.empty()) {
        call next = std::move(s->queue.front());
        s->queue.pop_front();
        if (!broken[s->device])
            next();
        s->done++;
        changed.notify_all();
    }
    s->runner = nobody;
    changed.notify_all();
}
/* A device waits for another, whose host may have nothing to wait for: a real one would be at work, so each of the
 * others' streams gets a thread that runs it. */
void set_others_going(void)
{
    for (CUstream s : streams) {
        if (s->device == current || s->queue.empty() || s->demanded || s->runner != std::thread::id())
            continue;
        s->demanded = true;
        std::thread([s]() {
            guard hold(lock);
            if (!known(s))
                return;
            current = s->device;
            s->demanded = false;
            run_until(s, s->queued);
        }).detach();
    }
}
/* All streams of this thread's device. */
void run_all(void)
{
    std::vector<CUstream> mine;
    for (CUstream s : streams)
        if (s->device == current)
            mine.push_back(s);
    for (CUstream s : mine)
        if (known(s))
            run_until(s, s->queued);
}

void count(int64_t *counter, int64_t change)
{
    guard hold(lock);
    *counter += change;
}

/* What a thread that records may not ask for. */
CUresult outside_recordings(void)
{
    if (!current)
        return CUDA_ERROR_INVALID_CONTEXT;
    if (!recorded)
        return CUDA_SUCCESS;
    recorded->invalid = true;
    return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
}

} // namespace

void emulator_object(int change) { count(&emulator_counters.live_objects, change); }

bool emulator_broken(void)
{
    guard hold(lock);
    return broken[current];
}

bool emulator_recording(void) { return recorded; }

void emulator_check(const void *p, size_t bytes, const char *what)
{
    guard hold(lock);
    if (bytes == 0)
        return;
    auto at = memory.upper_bound((uintptr_t)p);
    if (at == memory.begin() || (--at)->second.host)
        emulate_fail("%s: %p is no device memory", what, p);
    if ((uintptr_t)p + bytes > at->first + at->second.bytes)
        emulate_fail("%s: %zu bytes from offset %zu of an allocation of %zu", what, bytes,
                     (size_t)((uintptr_t)p - at->first), at->second.bytes);
}

/* For emulate.cpp: what lies at an address that cannot be touched. */
void emulate_describe(const void *p, char *text, size_t room)
{
    auto at = memory.upper_bound((uintptr_t)p);
    if (at == memory.begin() || (uintptr_t)p >= (uintptr_t)(--at)->second.mapping + at->second.mapped)
        snprintf(text, room, "no memory of this device");
    else
        snprintf(text, room, "%lld bytes behind the end of an allocation of %zu",
                 (long long)((uintptr_t)p - at->first - at->second.bytes), at->second.bytes);
}

CUresult emulator_enqueue(CUstream stream, std::function<void()> work)
{
    static const bool eager = getenv("FLUX1_EMULATOR_EAGER");
    guard hold(lock);
    if (!current)
        return CUDA_ERROR_INVALID_CONTEXT;
    if (!known(stream))
        emulate_fail("work for a stream that does not exist (the default stream is not emulated)");
    if (stream->device != current)
        emulate_fail("work for a stream of device %d while device %d is current", stream->device - 1, current - 1);
    if (stream->joined || stream->recording) {
        std::vector<node> &nodes = (stream->joined ? stream->joined : stream)->nodes;
        stream->apart = stream->joined;
        nodes.push_back({std::move(work), stream, stream->latest});
        stream->latest = {nodes.size() - 1};
        return CUDA_SUCCESS;
    }
    stream->queue.push_back(std::move(work));
    stream->queued++;
    if (waiting)
        changed.notify_all();
    if (eager)
        run_all();
    return CUDA_SUCCESS;
}

void emulator_workspace(const void *p, CUstream s)
{
    guard hold(lock);
    if (!known(s))
        return; /* emulator_enqueue says so */
    const CUstream origin = s->joined ? s->joined : s;
    const int64_t capture = origin->recording ? origin->capture : 0;
    workspace_use &last = workspaces[p];
    if (last.stream && last.stream != s && last.capture == capture &&
        (capture ? last.stream->apart : last.stream->done < last.ticket && s->behind[last.stream] < last.ticket))
        emulate_fail("a workspace is given to calls of two streams, and the second does not wait for the first");
    last = {s, s->queued + 1, capture};
}

namespace
{

CUresult init(unsigned) { return CUDA_SUCCESS; }
CUresult driver_version(int *v) { return *v = 13000, CUDA_SUCCESS; }
CUresult error_string(CUresult r, const char **text)
{
    static const struct {
        CUresult code;
        const char *text;
    } texts[] = {
        {CUDA_ERROR_INVALID_VALUE, "invalid argument"},
        {CUDA_ERROR_OUT_OF_MEMORY, "out of memory"},
        {CUDA_ERROR_INVALID_CONTEXT, "invalid device context"},
        {CUDA_ERROR_INVALID_HANDLE, "invalid resource handle"},
        {CUDA_ERROR_NOT_FOUND, "named symbol not found"},
        {CUDA_ERROR_ILLEGAL_ADDRESS, "an illegal memory access was encountered"},
        {CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES, "too many resources requested for launch"},
        {CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, "operation not permitted when stream is capturing"},
        {CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, "operation failed due to a previous error during capture"},
        {CUDA_ERROR_STREAM_CAPTURE_ISOLATION, "dependency created on uncaptured work in another stream"},
        {CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD,
         "attempt to terminate a thread-local capture sequence from another thread"},
    };
    *text = "an emulated failure";
    for (const auto &t : texts)
        if (t.code == r)
            *text = t.text;
    return CUDA_SUCCESS;
}
CUresult device_count(int *n) { return *n = device_number, CUDA_SUCCESS; }
CUresult device_get(CUdevice *d, int n) { return *d = n, n < device_number ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE; }
CUresult device_name(char *name, int room, CUdevice)
{
    return snprintf(name, (size_t)room, "emulated GPU"), CUDA_SUCCESS;
}
CUresult device_memory(size_t *bytes, CUdevice) { return *bytes = total, CUDA_SUCCESS; }
CUresult device_attribute(int *value, CUdevice_attribute a, CUdevice)
{
    static const struct {
        CUdevice_attribute attribute;
        int value;
    } h200[] = {
        {CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, 132},
        {CU_DEVICE_ATTRIBUTE_WARP_SIZE, 32},
        {CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK, 1024},
        {CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK, SHARED_AT_FIRST},
        {CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN, EMULATE_MOST_SHARED},
        {CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE, 62914560},
        {CU_DEVICE_ATTRIBUTE_CLOCK_RATE, 1980000},
        {CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE, 3201000},
        {CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH, 6144},
    };
    if (a == CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR || a == CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)
        return *value = a == CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR ? emulator_capability / 10
                                                                          : emulator_capability % 10,
               CUDA_SUCCESS;
    for (const auto &row : h200)
        if (row.attribute == a)
            return *value = row.value, CUDA_SUCCESS;
    return CUDA_ERROR_INVALID_VALUE;
}
CUresult context_retain(CUcontext *c, CUdevice d)
{
    guard hold(lock);
    contexts[d + 1]++;
    return *c = (CUcontext)(uintptr_t)(d + 1), CUDA_SUCCESS;
}
CUresult context_release(CUdevice d)
{
    guard hold(lock);
    if (--contexts[d + 1] == 0)
        broken[d + 1] = false;
    return CUDA_SUCCESS;
}
CUresult context_set(CUcontext c) { return current = (int)(uintptr_t)c, CUDA_SUCCESS; }

CUresult module_load(CUmodule *m, const void *)
{
    CUresult r = outside_recordings();
    if (r == CUDA_SUCCESS)
        emulator_object(1), *m = (CUmodule)1;
    return r;
}
CUresult module_unload(CUmodule) { return emulator_object(-1), CUDA_SUCCESS; }
CUresult module_function(CUfunction *f, CUmodule, const char *name)
{
    for (const emulated_kernel *k = emulated_kernels; k->name; k++)
        if (!strcmp(k->name, name)) {
            *f = (CUfunction)(uintptr_t)k;
            return CUDA_SUCCESS;
        }
    return CUDA_ERROR_NOT_FOUND;
}
CUresult function_attribute(CUfunction f, CUfunction_attribute a, int value)
{
    guard hold(lock);
    if (a != CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES || value < 0 || value > (int)EMULATE_MOST_SHARED)
        return CUDA_ERROR_INVALID_VALUE;
    shared_allowed[f] = (unsigned)value;
    return CUDA_SUCCESS;
}
/* Dynamic shared memory that a launch may ask for: more than SHARED_AT_FIRST has to be allowed for the kernel first.
 * Static shared memory is the compiler's to limit (tests/ptxas.sh). */
unsigned most_shared(CUfunction f)
{
    auto allowed = shared_allowed.find(f);
    return allowed == shared_allowed.end() ? (unsigned)SHARED_AT_FIRST : allowed->second;
}

CUresult launch(CUfunction f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                unsigned shared, CUstream stream, void **parameters, void **extra)
{
    const emulated_kernel *k = (const emulated_kernel *)(uintptr_t)f;
    guard hold(lock);
    if (!gx || !gy || !gz || !bx || gx > 0x7fffffffu || gy > 65535 || gz > 65535 || by != 1 || bz != 1 ||
        shared > most_shared(f) || extra || k->bytes > MOST_ARGUMENTS)
        return CUDA_ERROR_INVALID_VALUE;
    if (bx > k->most_threads)
        return CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES;
    std::vector<char> args((const char *)parameters[0], (const char *)parameters[0] + k->bytes);
    return emulator_enqueue(stream, [=]() {
        if (failing_kernel > 0 && --failing_kernel == 0) {
            broken[stream->device] = true;
            return;
        }
        emulator_counters.kernels++;
        emulator_counters.kernel[k - emulated_kernels]++;
        alignas(16) char copy[MOST_ARGUMENTS];
        memset(copy, 0xff, sizeof copy); /* a kernel that reads behind its arguments */
        memcpy(copy, args.data(), args.size());
        emulate_launch(k->name, k->body, copy, {gx, gy, gz}, {bx, by, bz}, shared);
    });
}

/* Pages of a file of 0xff bytes, copied when written: what is never touched costs nothing. */
void poison(char *p, char *end)
{
    static int file = -1;
    if (file < 0) {
        file = memfd_create("poison", MFD_CLOEXEC);
        void *all = file >= 0 && ftruncate(file, POISON) == 0 ? mmap(nullptr, POISON, PROT_WRITE, MAP_SHARED, file, 0)
                                                              : MAP_FAILED;
        if (all == MAP_FAILED)
            emulate_fail("no memory for poison");
        memset(all, 0xff, POISON);
        munmap(all, POISON);
    }
    for (; p < end; p += POISON)
        if (mmap(p, (size_t)(end - p) < POISON ? (size_t)(end - p) : POISON, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE, file, 0) == MAP_FAILED)
            emulate_fail("no memory for poison");
}

/* Memory that ends (but for the rest of ALIGNMENT) at a page that cannot be touched. */
void *map_memory(size_t bytes, bool host)
{
    size_t used = (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT, mapped = (used + PAGE - 1) / PAGE * PAGE + PAGE;
    char *base =
        (char *)mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED)
        return nullptr;
    char *end = base + mapped - PAGE, *p = end - used;
    mprotect(end, PAGE, PROT_NONE);
    if (mapped <= POISON_BY_HAND)
        memset(base, 0xff, mapped - PAGE);
    else
        poison(base, end);
    memory[(uintptr_t)p] = {bytes, base, mapped, host};
    emulator_counters.live_allocations++;
    emulator_counters.allocations++;
    return p;
}

CUresult unmap_memory(void *p, bool host)
{
    guard hold(lock);
    CUresult r = outside_recordings();
    if (r != CUDA_SUCCESS)
        return r;
    run_all(); /* frees wait for the device */
    auto at = memory.find((uintptr_t)p);
    if (at == memory.end() || at->second.host != host)
        emulate_fail("%p is freed, but was not allocated", p);
    for (const char *c = (const char *)p + at->second.bytes; (uintptr_t)c % ALIGNMENT; c++)
        if (*c != (char)0xff)
            emulate_fail("byte %zu of an allocation of %zu was written", (size_t)(c - (const char *)p),
                         at->second.bytes);
    (host ? emulator_counters.pinned_bytes : emulator_counters.device_bytes) -= at->second.bytes;
    munmap(at->second.mapping, at->second.mapped);
    memory.erase(at);
    emulator_counters.live_allocations--;
    return CUDA_SUCCESS;
}

CUresult mem_alloc(CUdeviceptr *p, size_t bytes)
{
    guard hold(lock);
    CUresult r = outside_recordings();
    if (r != CUDA_SUCCESS)
        return r;
    if (bytes == 0)
        return CUDA_ERROR_INVALID_VALUE;
    if (fails_now() || bytes > total || emulator_counters.device_bytes > total - bytes)
        return CUDA_ERROR_OUT_OF_MEMORY;
    void *m = map_memory(bytes, false);
    if (!m)
        return CUDA_ERROR_OUT_OF_MEMORY;
    emulator_counters.device_bytes += bytes;
    *p = (CUdeviceptr)(uintptr_t)m;
    return CUDA_SUCCESS;
}
CUresult mem_free(CUdeviceptr p) { return unmap_memory((void *)(uintptr_t)p, false); }
CUresult mem_info(size_t *left, size_t *all)
{
    guard hold(lock);
    if (!current)
        return CUDA_ERROR_INVALID_CONTEXT;
    *all = total;
    *left = total > emulator_counters.device_bytes ? total - emulator_counters.device_bytes : 0;
    return CUDA_SUCCESS;
}
CUresult host_alloc(void **p, size_t bytes, unsigned)
{
    guard hold(lock);
    CUresult r = outside_recordings();
    if (r != CUDA_SUCCESS)
        return r;
    if (fails_now() || !(*p = map_memory(bytes, true)))
        return CUDA_ERROR_OUT_OF_MEMORY;
    emulator_counters.pinned_bytes += bytes;
    return CUDA_SUCCESS;
}
CUresult host_free(void *p) { return unmap_memory(p, true); }

bool pinned(const void *p)
{
    auto at = memory.upper_bound((uintptr_t)p);
    return at != memory.begin() && (--at)->second.host && (uintptr_t)p < at->first + at->second.bytes;
}

/* Pageable memory is read before the call returns; pinned memory, and what a graph copies, when the copy runs. */
CUresult to_device(CUdeviceptr to, const void *from, size_t bytes, CUstream s)
{
    guard hold(lock);
    emulator_check((void *)(uintptr_t)to, bytes, "copy to the device");
    if (pinned(from) || !known(s) || s->recording)
        return emulator_enqueue(
            s, [=]() { emulator_counters.uploaded_bytes += bytes, memcpy((void *)(uintptr_t)to, from, bytes); });
    std::vector<char> now((const char *)from, (const char *)from + bytes);
    return emulator_enqueue(
        s, [=]() { emulator_counters.uploaded_bytes += bytes, memcpy((void *)(uintptr_t)to, now.data(), bytes); });
}
CUresult to_host(void *to, CUdeviceptr from, size_t bytes, CUstream s)
{
    emulator_check((void *)(uintptr_t)from, bytes, "copy to the host");
    return emulator_enqueue(
        s, [=]() { emulator_counters.downloaded_bytes += bytes, memcpy(to, (void *)(uintptr_t)from, bytes); });
}
CUresult within(CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream s)
{
    emulator_check((void *)(uintptr_t)to, bytes, "copy on the device");
    emulator_check((void *)(uintptr_t)from, bytes, "copy on the device");
    return emulator_enqueue(s, [=]() { memmove((void *)(uintptr_t)to, (void *)(uintptr_t)from, bytes); });
}
CUresult set_bytes(CUdeviceptr p, unsigned char value, size_t n, CUstream s)
{
    emulator_check((void *)(uintptr_t)p, n, "memset");
    return emulator_enqueue(s, [=]() { memset((void *)(uintptr_t)p, value, n); });
}
CUresult set_words(CUdeviceptr p, unsigned value, size_t n, CUstream s)
{
    emulator_check((void *)(uintptr_t)p, 4 * n, "memset");
    return emulator_enqueue(s, [=]() {
        for (size_t i = 0; i < n; i++)
            ((unsigned *)(uintptr_t)p)[i] = value;
    });
}

/* ---- order ---- */

CUresult stream_create(CUstream *s, unsigned)
{
    guard hold(lock);
    if (!current)
        return CUDA_ERROR_INVALID_CONTEXT;
    streams.push_back(*s = new CUstream_st());
    (*s)->device = current;
    (*s)->birth = ++births;
    return emulator_object(1), CUDA_SUCCESS;
}
CUresult stream_destroy(CUstream s)
{
    guard hold(lock);
    if (!known(s))
        emulate_fail("a stream that does not exist is destroyed");
    run_until(s, s->queued);
    if (recorded == s)
        recorded = nullptr;
    for (size_t i = 0; i < streams.size(); i++)
        if (streams[i] == s)
            streams.erase(streams.begin() + (ptrdiff_t)i--);
    for (CUstream t : streams)
        t->behind.erase(s);
    for (auto &w : workspaces)
        if (w.second.stream == s)
            w.second = {};
    delete s;
    return emulator_object(-1), CUDA_SUCCESS;
}
CUresult stream_synchronize(CUstream s)
{
    guard hold(lock);
    if (s->recording) {
        s->invalid = true;
        return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    }
    run_until(s, s->queued);
    return CUDA_SUCCESS;
}

CUresult event_create(CUevent *e, unsigned) { return emulator_object(1), *e = new CUevent_st(), CUDA_SUCCESS; }
CUresult event_destroy(CUevent e) { return emulator_object(-1), delete e, CUDA_SUCCESS; }
CUresult event_record(CUevent e, CUstream s)
{
    guard hold(lock);
    *e = {s, s->queued, s->joined ? s->joined->capture : s->recording ? s->capture : 0, s->latest};
    return CUDA_SUCCESS;
}
/* What follows on this stream waits for what precedes the event on its own. */
CUresult stream_wait(CUstream s, CUevent e, unsigned)
{
    guard hold(lock);
    CUstream other = e->stream;
    const uint64_t ticket = e->ticket;
    if (!other || (s == other && e->capture == (s->recording ? s->capture : 0)))
        return CUDA_SUCCESS;
    if (s->recording && e->capture == s->capture &&
        other->joined == s) { /* all that it was given is recorded before what follows here */
        other->apart = other->apart && e->latest != other->latest;
        s->latest.insert(e->latest.begin(), e->latest.end());
        return CUDA_SUCCESS;
    }
    if (s->recording || (s->joined && e->capture != s->joined->capture)) {
        (s->recording ? s : s->joined)->invalid = true;
        return CUDA_ERROR_STREAM_CAPTURE_ISOLATION;
    }
    if (s->joined) {
        s->latest.insert(e->latest.begin(), e->latest.end());
        return CUDA_SUCCESS;
    }
    if (e->capture) {
        if (!other->recording || other->capture != e->capture)
            emulate_fail("a stream waits for an event of a recording that has ended");
        s->joined = other;
        s->latest = e->latest;
        return CUDA_SUCCESS;
    }
    if (known(other)) {
        for (const auto &further : other->behind)
            s->behind[further.first] = std::max(s->behind[further.first], further.second);
        s->behind[other] = std::max(s->behind[other], ticket);
    }
    return emulator_enqueue(s, [=]() {
        if (known(other))
            run_until(other, ticket);
    });
}
CUresult event_synchronize(CUevent e)
{
    guard hold(lock);
    if (e->capture)
        return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    if (e->stream && known(e->stream))
        run_until(e->stream, e->ticket);
    return CUDA_SUCCESS;
}
CUresult event_elapsed(float *ms, CUevent begin, CUevent end)
{
    guard hold(lock);
    if (!begin->stream || !end->stream || begin->capture || end->capture)
        return CUDA_ERROR_INVALID_HANDLE;
    if (known(end->stream) && end->stream->done < end->ticket)
        return CUDA_ERROR_NOT_READY;
    return *ms = 1, CUDA_SUCCESS;
}

CUresult begin_capture(CUstream s, CUstreamCaptureMode)
{
    guard hold(lock);
    if (s->recording || recorded)
        return CUDA_ERROR_ILLEGAL_STATE;
    s->recording = true;
    s->invalid = false;
    s->latest.clear();
    s->capture = ++captures;
    recorded = s;
    return CUDA_SUCCESS;
}
CUresult end_capture(CUstream s, CUgraph *g)
{
    guard hold(lock);
    *g = nullptr;
    if (!s->recording)
        return CUDA_ERROR_ILLEGAL_STATE;
    if (recorded != s)
        return CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD;
    std::vector<node> nodes;
    nodes.swap(s->nodes);
    s->recording = false;
    s->latest.clear();
    recorded = nullptr;
    bool apart = false;
    for (CUstream t : streams)
        if (t->joined == s) {
            apart = apart || t->apart;
            t->joined = nullptr;
            t->apart = false;
            t->latest.clear();
        }
    if (s->invalid)
        return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
    if (apart)
        return CUDA_ERROR_STREAM_CAPTURE_UNJOINED;
    *g = new CUgraph_st();
    (*g)->nodes.swap(nodes);
    return emulator_object(1), CUDA_SUCCESS;
}
CUresult instantiate(CUgraphExec *e, CUgraph g, unsigned long long)
{
    CUresult r = outside_recordings();
    if (r == CUDA_SUCCESS)
        emulator_object(1), *e = new CUgraphExec_st{g->nodes, 0};
    return r;
}

/* An order of a graph's nodes that their edges allow: in turn, launch after launch, the last recorded of those that may
 * run; from another stream than the one before, if there is one; the first recorded. */
std::vector<size_t> order_of(const std::vector<node> &nodes, int turn)
{
    std::vector<size_t> order, waits(nodes.size());
    std::vector<std::vector<size_t>> next(nodes.size());
    std::set<size_t> ready;
    for (size_t i = 0; i < nodes.size(); i++) {
        if (!(waits[i] = nodes[i].behind.size()))
            ready.insert(i);
        for (size_t before : nodes[i].behind)
            next[before].push_back(i);
    }
    while (!ready.empty()) {
        size_t pick = turn % 3 == 0 ? *ready.rbegin() : *ready.begin();
        for (size_t i : ready)
            if (turn % 3 == 1 && !order.empty() && nodes[i].stream != nodes[order.back()].stream) {
                pick = i;
                break;
            }
        ready.erase(pick);
        order.push_back(pick);
        for (size_t i : next[pick])
            if (--waits[i] == 0)
                ready.insert(i);
    }
    return order;
}

CUresult graph_launch(CUgraphExec e, CUstream s)
{
    guard hold(lock);
    emulator_counters.graph_launches++;
    for (size_t i : order_of(e->nodes, e->launches++)) {
        CUresult r = emulator_enqueue(s, e->nodes[i].work);
        if (r != CUDA_SUCCESS)
            return r;
    }
    return CUDA_SUCCESS;
}
CUresult exec_destroy(CUgraphExec e)
{
    guard hold(lock);
    run_all(); /* a graph under way is destroyed when it has run */
    return emulator_object(-1), delete e, CUDA_SUCCESS;
}
CUresult graph_destroy(CUgraph g) { return emulator_object(-1), delete g, CUDA_SUCCESS; }

/* A function of the driver that fails once a kernel has: before and behind its own work, which may be what runs that
 * kernel. */
template <auto F> struct failing_call;
template <class... A, CUresult (*F)(A...)> struct failing_call<F> {
    static CUresult call(A... a)
    {
        CUresult r = emulator_broken() ? CUDA_ERROR_ILLEGAL_ADDRESS : F(a...);
        return emulator_broken() ? CUDA_ERROR_ILLEGAL_ADDRESS : r;
    }
};
/* The same of one that gives something back, which it does. */
template <auto F> struct failing_return;
template <class... A, CUresult (*F)(A...)> struct failing_return<F> {
    static CUresult call(A... a)
    {
        CUresult r = F(a...);
        return emulator_broken() ? CUDA_ERROR_ILLEGAL_ADDRESS : r;
    }
};
#define FAILING(f) failing_call<f>::call
#define RETURNING(f) failing_return<f>::call

cuda_libraries table;

void fill(void)
{
    table.cuInit = init, table.cuDriverGetVersion = driver_version, table.cuGetErrorString = error_string,
    table.cuDeviceGetCount = device_count;
    table.cuDeviceGet = device_get, table.cuDeviceGetName = device_name, table.cuDeviceTotalMem = device_memory,
    table.cuDeviceGetAttribute = device_attribute;
    table.cuDevicePrimaryCtxRetain = context_retain, table.cuDevicePrimaryCtxRelease = context_release,
    table.cuCtxSetCurrent = context_set;
    table.cuModuleLoadData = FAILING(module_load), table.cuModuleUnload = RETURNING(module_unload),
    table.cuModuleGetFunction = FAILING(module_function), table.cuFuncSetAttribute = FAILING(function_attribute);
    table.cuLaunchKernel = FAILING(launch), table.cuMemAlloc = FAILING(mem_alloc),
    table.cuMemFree = RETURNING(mem_free), table.cuMemGetInfo = FAILING(mem_info),
    table.cuMemHostAlloc = FAILING(host_alloc);
    table.cuMemFreeHost = RETURNING(host_free), table.cuMemcpyHtoDAsync = FAILING(to_device),
    table.cuMemcpyDtoHAsync = FAILING(to_host), table.cuMemcpyDtoDAsync = FAILING(within);
    table.cuMemsetD8Async = FAILING(set_bytes), table.cuMemsetD32Async = FAILING(set_words),
    table.cuStreamCreate = FAILING(stream_create), table.cuStreamDestroy = RETURNING(stream_destroy);
    table.cuStreamSynchronize = FAILING(stream_synchronize), table.cuStreamWaitEvent = FAILING(stream_wait),
    table.cuEventCreate = FAILING(event_create), table.cuEventDestroy = RETURNING(event_destroy);
    table.cuEventRecord = FAILING(event_record), table.cuEventSynchronize = FAILING(event_synchronize),
    table.cuEventElapsedTime = FAILING(event_elapsed);
    table.cuStreamBeginCapture = FAILING(begin_capture), table.cuStreamEndCapture = RETURNING(end_capture),
    table.cuGraphInstantiate = FAILING(instantiate), table.cuGraphLaunch = FAILING(graph_launch);
    table.cuGraphExecDestroy = RETURNING(exec_destroy), table.cuGraphDestroy = RETURNING(graph_destroy);
    emulator_fill_blas(&table);
    emulator_fill_dnn(&table);
    emulator_fill_nccl(&table);
    table.blas = table.dnn = true;
}

} // namespace

extern "C" const cuda_libraries *cuda_emulator(void)
{
    guard hold(lock);
    if (!table.cuInit)
        fill();
    return &table;
}

emulator_hold::emulator_hold(void) { lock.lock(); }
emulator_hold::~emulator_hold() { lock.unlock(); }
int emulator_device(void) { return current - 1; }
void emulator_wait(std::function<bool()> holds)
{
    waiting++;
    while (!holds()) {
        set_others_going();
        changed.wait(lock);
    }
    waiting--;
}
void emulator_changed(void) { changed.notify_all(); }
extern "C" void cuda_emulator_capability(int capability)
{
    guard hold(lock);
    emulator_capability = capability;
}
extern "C" void cuda_emulator_devices(int count)
{
    guard hold(lock);
    device_number = count;
}
extern "C" void cuda_emulator_memory(size_t bytes)
{
    guard hold(lock);
    total = bytes;
}
extern "C" void cuda_emulator_libraries(bool blas, bool dnn) { cuda_emulator(), table.blas = blas, table.dnn = dnn; }
extern "C" void cuda_emulator_fail_allocation(int64_t nth)
{
    guard hold(lock);
    failing = nth;
}
extern "C" void cuda_emulator_fail_kernel(int64_t nth)
{
    guard hold(lock);
    failing_kernel = nth;
}
extern "C" cuda_emulator_counters cuda_emulator_counts(void)
{
    guard hold(lock);
    run_all();
    return emulator_counters;
}
