/* The driver's functions over this process's memory. */
#include "ops/cuda_emulator/device.h"
#include "ops/cuda_emulator/emulate.h"

#include <map>
#include <mutex>
#include <sys/mman.h>
#include <unistd.h>
#include <vector>

cuda_emulator_counters emulator_counters;

namespace {

enum : size_t { PAGE = 4096, ALIGNMENT = 256, POISON_MOST = (size_t)32 << 20 };

struct allocation {
    size_t bytes;
    void *mapping;
    size_t mapped;
};

std::recursive_mutex lock;
std::map<uintptr_t, allocation> memory;
size_t total = (size_t)64 << 30;
int64_t failing; /* allocations until one fails */

typedef std::lock_guard<std::recursive_mutex> guard;

bool fails_now(void) { return failing > 0 && --failing == 0; }

} // namespace

struct CUstream_st {
    bool recording;
    std::vector<std::function<void()>> calls;
};
struct CUgraph_st {
    std::vector<std::function<void()>> calls;
};
struct CUgraphExec_st {
    std::vector<std::function<void()>> calls;
};
struct CUevent_st {
    int unused;
};

void emulator_check(const void *p, size_t bytes, const char *what)
{
    guard hold(lock);
    auto at = memory.upper_bound((uintptr_t)p);
    if (at == memory.begin() || bytes == 0)
        return bytes ? emulate_fail("%s: %p is no device memory", what, p) : (void)0;
    --at;
    if ((uintptr_t)p + bytes > at->first + at->second.bytes)
        emulate_fail("%s: %zu bytes from offset %zu of an allocation of %zu", what, bytes, (size_t)((uintptr_t)p - at->first), at->second.bytes);
}

CUresult emulator_enqueue(CUstream stream, std::function<void()> work)
{
    guard hold(lock);
    if (stream && stream->recording)
        stream->calls.push_back(std::move(work));
    else
        work();
    return CUDA_SUCCESS;
}

namespace {

CUresult init(unsigned) { return CUDA_SUCCESS; }
CUresult driver_version(int *v) { return *v = 13000, CUDA_SUCCESS; }
CUresult error_string(CUresult r, const char **text) { return *text = r == CUDA_ERROR_OUT_OF_MEMORY ? "out of memory" : "an emulated failure", CUDA_SUCCESS; }
CUresult device_count(int *n) { return *n = 1, CUDA_SUCCESS; }
CUresult device_get(CUdevice *d, int) { return *d = 0, CUDA_SUCCESS; }
CUresult device_name(char *name, int room, CUdevice) { return snprintf(name, (size_t)room, "emulated GPU"), CUDA_SUCCESS; }
CUresult device_memory(size_t *bytes, CUdevice) { return *bytes = total, CUDA_SUCCESS; }
CUresult device_attribute(int *value, CUdevice_attribute a, CUdevice)
{
    *value = a == CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR ? 9 : a == CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT ? 132 : 0;
    return CUDA_SUCCESS;
}
CUresult context_retain(CUcontext *c, CUdevice) { return *c = (CUcontext)1, CUDA_SUCCESS; }
CUresult context_release(CUdevice) { return CUDA_SUCCESS; }
CUresult context_set(CUcontext) { return CUDA_SUCCESS; }

CUresult module_load(CUmodule *m, const void *) { return emulator_counters.live_objects++, *m = (CUmodule)1, CUDA_SUCCESS; }
CUresult module_unload(CUmodule) { return emulator_counters.live_objects--, CUDA_SUCCESS; }
CUresult module_function(CUfunction *f, CUmodule, const char *name)
{
    for (const emulated_kernel *k = emulated_kernels; k->name; k++)
        if (!strcmp(k->name, name)) {
            *f = (CUfunction)(uintptr_t)k;
            return CUDA_SUCCESS;
        }
    return CUDA_ERROR_NOT_FOUND;
}
CUresult function_attribute(CUfunction, CUfunction_attribute, int) { return CUDA_SUCCESS; }

CUresult launch(CUfunction f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned, CUstream stream, void **parameters, void **)
{
    const emulated_kernel *k = (const emulated_kernel *)(uintptr_t)f;
    if (!gx || !gy || !gz || bx > 1024 || gy > 65535 || gz > 65535)
        return CUDA_ERROR_INVALID_VALUE;
    std::vector<char> args((const char *)parameters[0], (const char *)parameters[0] + k->bytes);
    return emulator_enqueue(stream, [=]() {
        emulator_counters.kernels++;
        emulator_counters.kernel[k - emulated_kernels]++;
        alignas(16) char copy[1024];
        memcpy(copy, args.data(), args.size());
        emulate_launch(k->name, k->body, copy, {gx, gy, gz}, {bx, by, bz});
    });
}

void *map_memory(size_t bytes, bool poison)
{
    size_t used = (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT, mapped = (used + PAGE - 1) / PAGE * PAGE + PAGE;
    char *base = (char *)mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED)
        return nullptr;
    mprotect(base + mapped - PAGE, PAGE, PROT_NONE);
    char *p = base + mapped - PAGE - used;
    if (poison)
        memset(p, 0xff, bytes);
    memory[(uintptr_t)p] = {bytes, base, mapped};
    emulator_counters.live_allocations++;
    return p;
}

void unmap_memory(void *p)
{
    auto at = memory.find((uintptr_t)p);
    if (at == memory.end())
        emulate_fail("%p is freed, but was not allocated", p);
    munmap(at->second.mapping, at->second.mapped);
    memory.erase(at);
    emulator_counters.live_allocations--;
}

CUresult mem_alloc(CUdeviceptr *p, size_t bytes)
{
    guard hold(lock);
    if (fails_now() || bytes > total || emulator_counters.device_bytes > total - bytes)
        return CUDA_ERROR_OUT_OF_MEMORY;
    void *m = map_memory(bytes, bytes <= POISON_MOST);
    if (!m)
        return CUDA_ERROR_OUT_OF_MEMORY;
    emulator_counters.device_bytes += bytes;
    *p = (CUdeviceptr)(uintptr_t)m;
    return CUDA_SUCCESS;
}
CUresult mem_free(CUdeviceptr p)
{
    guard hold(lock);
    auto at = memory.find((uintptr_t)p);
    if (at != memory.end())
        emulator_counters.device_bytes -= at->second.bytes;
    unmap_memory((void *)(uintptr_t)p);
    return CUDA_SUCCESS;
}
CUresult mem_info(size_t *left, size_t *all)
{
    guard hold(lock);
    *all = total;
    *left = total > emulator_counters.device_bytes ? total - emulator_counters.device_bytes : 0;
    return CUDA_SUCCESS;
}
CUresult host_alloc(void **p, size_t bytes, unsigned)
{
    guard hold(lock);
    return fails_now() || !(*p = map_memory(bytes, false)) ? CUDA_ERROR_OUT_OF_MEMORY : CUDA_SUCCESS;
}
CUresult host_free(void *p)
{
    guard hold(lock);
    unmap_memory(p);
    return CUDA_SUCCESS;
}

CUresult to_device(CUdeviceptr to, const void *from, size_t bytes, CUstream s)
{
    emulator_check((void *)(uintptr_t)to, bytes, "copy to the device");
    return emulator_enqueue(s, [=]() { emulator_counters.uploaded_bytes += bytes, memcpy((void *)(uintptr_t)to, from, bytes); });
}
CUresult to_host(void *to, CUdeviceptr from, size_t bytes, CUstream s)
{
    emulator_check((void *)(uintptr_t)from, bytes, "copy to the host");
    return emulator_enqueue(s, [=]() { emulator_counters.downloaded_bytes += bytes, memcpy(to, (void *)(uintptr_t)from, bytes); });
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

CUresult stream_create(CUstream *s, unsigned) { return emulator_counters.live_objects++, *s = new CUstream_st(), CUDA_SUCCESS; }
CUresult stream_destroy(CUstream s) { return emulator_counters.live_objects--, delete s, CUDA_SUCCESS; }
CUresult stream_synchronize(CUstream s) { return s->recording ? CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED : CUDA_SUCCESS; }
CUresult stream_wait(CUstream, CUevent, unsigned) { return CUDA_SUCCESS; }
CUresult event_create(CUevent *e, unsigned) { return emulator_counters.live_objects++, *e = new CUevent_st(), CUDA_SUCCESS; }
CUresult event_destroy(CUevent e) { return emulator_counters.live_objects--, delete e, CUDA_SUCCESS; }
CUresult event_record(CUevent, CUstream) { return CUDA_SUCCESS; }
CUresult event_synchronize(CUevent) { return CUDA_SUCCESS; }
CUresult event_elapsed(float *ms, CUevent, CUevent) { return *ms = 1, CUDA_SUCCESS; }

CUresult begin_capture(CUstream s, CUstreamCaptureMode)
{
    if (s->recording)
        return CUDA_ERROR_ILLEGAL_STATE;
    s->recording = true;
    return CUDA_SUCCESS;
}
CUresult end_capture(CUstream s, CUgraph *g)
{
    if (!s->recording)
        return CUDA_ERROR_ILLEGAL_STATE;
    s->recording = false;
    *g = new CUgraph_st();
    (*g)->calls.swap(s->calls);
    return emulator_counters.live_objects++, CUDA_SUCCESS;
}
CUresult instantiate(CUgraphExec *e, CUgraph g, unsigned long long) { return emulator_counters.live_objects++, *e = new CUgraphExec_st{g->calls}, CUDA_SUCCESS; }
CUresult graph_launch(CUgraphExec e, CUstream s)
{
    emulator_counters.graph_launches++;
    for (auto &call : e->calls)
        emulator_enqueue(s, call);
    return CUDA_SUCCESS;
}
CUresult exec_destroy(CUgraphExec e) { return emulator_counters.live_objects--, delete e, CUDA_SUCCESS; }
CUresult graph_destroy(CUgraph g) { return emulator_counters.live_objects--, delete g, CUDA_SUCCESS; }

cuda_libraries table;

void fill(void)
{
    table.cuInit = init, table.cuDriverGetVersion = driver_version, table.cuGetErrorString = error_string, table.cuDeviceGetCount = device_count;
    table.cuDeviceGet = device_get, table.cuDeviceGetName = device_name, table.cuDeviceTotalMem = device_memory, table.cuDeviceGetAttribute = device_attribute;
    table.cuDevicePrimaryCtxRetain = context_retain, table.cuDevicePrimaryCtxRelease = context_release, table.cuCtxSetCurrent = context_set;
    table.cuModuleLoadData = module_load, table.cuModuleUnload = module_unload, table.cuModuleGetFunction = module_function, table.cuFuncSetAttribute = function_attribute;
    table.cuLaunchKernel = launch, table.cuMemAlloc = mem_alloc, table.cuMemFree = mem_free, table.cuMemGetInfo = mem_info, table.cuMemHostAlloc = host_alloc;
    table.cuMemFreeHost = host_free, table.cuMemcpyHtoDAsync = to_device, table.cuMemcpyDtoHAsync = to_host, table.cuMemcpyDtoDAsync = within;
    table.cuMemsetD8Async = set_bytes, table.cuMemsetD32Async = set_words, table.cuStreamCreate = stream_create, table.cuStreamDestroy = stream_destroy;
    table.cuStreamSynchronize = stream_synchronize, table.cuStreamWaitEvent = stream_wait, table.cuEventCreate = event_create, table.cuEventDestroy = event_destroy;
    table.cuEventRecord = event_record, table.cuEventSynchronize = event_synchronize, table.cuEventElapsedTime = event_elapsed;
    table.cuStreamBeginCapture = begin_capture, table.cuStreamEndCapture = end_capture, table.cuGraphInstantiate = instantiate, table.cuGraphLaunch = graph_launch;
    table.cuGraphExecDestroy = exec_destroy, table.cuGraphDestroy = graph_destroy;
    emulator_fill_blas(&table);
    emulator_fill_dnn(&table);
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

extern "C" void cuda_emulator_memory(size_t bytes) { total = bytes; }
extern "C" void cuda_emulator_libraries(bool blas, bool dnn) { cuda_emulator(), table.blas = blas, table.dnn = dnn; }
extern "C" void cuda_emulator_fail_allocation(int64_t nth) { failing = nth; }
extern "C" cuda_emulator_counters cuda_emulator_counts(void) { return emulator_counters; }
