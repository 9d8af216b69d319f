/* Image planes: group statistics and normalisation, nearest ×2, patches for a convolution as a product. Bound by
 * memory.
 *
 * A group of FLUX's VAE is 4 to 16 channels, 8 to 32 bytes of a pixel: read group by group, most of each 128-byte line
 * would be fetched for nothing. So a block takes 64 channels, a whole line of bf16: eight lanes a pixel, eight channels
 * a lane, 32 pixels a turn, and the statistics run per channel in registers (Welford 1962), merged by Chan, Golub,
 * LeVeque 1979 over lanes, warps and the channels of a group. The grid's y-axis, which has one place a group, is used
 * for the slices of 64 channels first; what is left shares out pixels (group_apply) or leaves at once (group_stats).
 * Other shapes go element by element. */
#include "ops/cuda/kernels_device.h"

enum {
    SLICE_CHANNELS = 64,
    SLICE_LANES = SLICE_CHANNELS / 8,
    SLICE_PIXELS = CUDA_GROUP_THREADS / SLICE_LANES, /* a turn */
    GROUP_WARPS = CUDA_GROUP_THREADS / WARP,
    LEAST_PIXELS = 256, /* of a block of group_apply */
};

struct moments {
    float count, mean, m2;
};

INLINE void add_value(moments &s, float x)
{
    s.count += 1;
    float d = x - s.mean;
    s.mean += d / s.count;
    s.m2 += d * (x - s.mean);
}

INLINE moments merged(const moments &a, const moments &b)
{
    const float count = a.count + b.count, d = b.mean - a.mean, share = count > 0 ? b.count / count : 0;
    return {count, a.mean + d * share, a.m2 + b.m2 + d * d * a.count * share};
}

/* The block's union, in thread 0. part: shared, one a warp. */
INLINE moments merged_over_block(moments s, moments *part)
{
    UNROLL for (int o = WARP / 2; o > 0; o /= 2)
    {
        moments other = {__shfl_xor_sync(ALL_LANES, s.count, o), __shfl_xor_sync(ALL_LANES, s.mean, o),
                         __shfl_xor_sync(ALL_LANES, s.m2, o)};
        s = merged(s, other);
    }
    if (threadIdx.x % WARP == 0)
        part[threadIdx.x / WARP] = s;
    __syncthreads();
    if (threadIdx.x == 0)
        for (int w = 1; w < GROUP_WARPS; w++)
            s = merged(s, part[w]);
    return s;
}

INLINE bool in_slices(const cuda_view &v, int64_t width)
{
    return v.wide && v.cols % SLICE_CHANNELS == 0 && SLICE_CHANNELS % width == 0;
}

INLINE void write_partial(const cuda_group_args &a, int64_t group, const moments &s)
{
    float *to = a.partial + ((blockIdx.z * a.chunks + blockIdx.x) * a.groups + group) * 3;
    to[0] = s.count, to[1] = s.mean, to[2] = s.m2;
}

struct slice_room {
    float mean[GROUP_WARPS][SLICE_CHANNELS], m2[GROUP_WARPS][SLICE_CHANNELS], count[GROUP_WARPS];
    moments channel[SLICE_CHANNELS];
};

INLINE void add_pixel(float &count, float (&mean)[8], float (&m2)[8], const pack<8> &x)
{
    count += 1;
    const float share = 1 / count;
    UNROLL for (int j = 0; j < 8; j++)
    {
        float d = x.v[j] - mean[j];
        mean[j] += d * share;
        m2[j] += d * (x.v[j] - mean[j]);
    }
}

INLINE void stats_of_slice(const cuda_group_args &a, int width, slice_room &room)
{
    const int lane = (int)threadIdx.x % SLICE_LANES, warp = (int)threadIdx.x / WARP;
    const int col = (int)blockIdx.y * SLICE_CHANNELS + 8 * lane;
    const int64_t begin = blockIdx.x * (int64_t)CUDA_GROUP_ROWS,
                  end = begin + CUDA_GROUP_ROWS < a.in.rows ? begin + CUDA_GROUP_ROWS : a.in.rows;
    float count = 0, mean[8] = {}, m2[8] = {};
    for (int64_t r = begin + threadIdx.x / SLICE_LANES; r < end; r += 2 * SLICE_PIXELS) { /* two loads under way */
        const bool two = r + SLICE_PIXELS < end;
        pack<8> x = load<8>(a.in, blockIdx.z, r, col), y = {};
        if (two)
            y = load<8>(a.in, blockIdx.z, r + SLICE_PIXELS, col);
        add_pixel(count, mean, m2, x);
        if (two)
            add_pixel(count, mean, m2, y);
    }
    UNROLL for (int o = SLICE_LANES; o < WARP; o *= 2)
    {
        const float other = __shfl_xor_sync(ALL_LANES, count, o), sum = count + other,
                    share = sum > 0 ? other / sum : 0, cross = count * share;
        UNROLL for (int j = 0; j < 8; j++)
        {
            const float d = __shfl_xor_sync(ALL_LANES, mean[j], o) - mean[j];
            m2[j] += __shfl_xor_sync(ALL_LANES, m2[j], o) + d * d * cross;
            mean[j] += d * share;
        }
        count = sum;
    }
    if (threadIdx.x % WARP < SLICE_LANES) {
        UNROLL for (int j = 0; j < 8; j++)
        {
            room.mean[warp][8 * lane + j] = mean[j];
            room.m2[warp][8 * lane + j] = m2[j];
        }
        if (lane == 0)
            room.count[warp] = count;
    }
    __syncthreads();
    if (threadIdx.x < SLICE_CHANNELS) {
        moments s = {0, 0, 0};
        for (int w = 0; w < GROUP_WARPS; w++)
            s = merged(s, {room.count[w], room.mean[w][threadIdx.x], room.m2[w][threadIdx.x]});
        room.channel[threadIdx.x] = s;
    }
    __syncthreads();
    if ((int)threadIdx.x < SLICE_CHANNELS / width) {
        moments s = room.channel[threadIdx.x * width];
        for (int c = 1; c < width; c++)
            s = merged(s, room.channel[threadIdx.x * width + c]);
        write_partial(a, blockIdx.y * (SLICE_CHANNELS / width) + threadIdx.x, s);
    }
}

KERNEL(group_stats, cuda_group_args, CUDA_GROUP_THREADS)
{
    __shared__ slice_room room;
    __shared__ moments part[GROUP_WARPS];
    const int64_t width = a.in.cols / a.groups;
    if (in_slices(a.in, width)) {
        if (blockIdx.y < a.in.cols / SLICE_CHANNELS)
            stats_of_slice(a, (int)width, room);
        return;
    }
    const int64_t begin = blockIdx.x * (int64_t)CUDA_GROUP_ROWS, left = a.in.rows - begin,
                  count = (left < CUDA_GROUP_ROWS ? left : (int64_t)CUDA_GROUP_ROWS) * width;
    moments s = {0, 0, 0};
    for (int64_t i = threadIdx.x; i < count; i += CUDA_GROUP_THREADS) {
        int64_t r = quotient(i, width);
        add_value(s, load<1>(a.in, blockIdx.z, begin + r, (int)(blockIdx.y * width + (i - r * width))).v[0]);
    }
    s = merged_over_block(s, part);
    if (threadIdx.x == 0)
        write_partial(a, blockIdx.y, s);
}

/* A block for a group at a time: groups are shared out by the grid's x-axis, y is the batch. */
KERNEL(group_merge, cuda_group_args, CUDA_GROUP_THREADS)
{
    __shared__ moments part[GROUP_WARPS];
    for (int64_t group = blockIdx.x; group < a.groups; group += gridDim.x) {
        moments s = {0, 0, 0};
        for (int64_t chunk = threadIdx.x; chunk < a.chunks; chunk += CUDA_GROUP_THREADS) {
            const float *from = a.partial + ((blockIdx.y * a.chunks + chunk) * a.groups + group) * 3;
            s = merged(s, {from[0], from[1], from[2]});
        }
        s = merged_over_block(s, part);
        if (threadIdx.x == 0) {
            float *to = (float *)a.stats.data + place(a.stats, blockIdx.y, group);
            to[0] = s.count, to[1] = s.mean, to[2] = s.m2;
        }
        __syncthreads(); /* part is free again */
    }
}

/* Mean and 1/√(var + eps) of a group: the union of its sets. */
INLINE float2 mean_and_inverse(const cuda_group_args &a, int64_t group)
{
    moments s = {0, 0, 0};
    for (int64_t set = 0; set < a.sets; set++) {
        const float *from = (const float *)a.stats.data + place(a.stats, blockIdx.z, set * a.groups + group);
        s = merged(s, {from[0], from[1], from[2]});
    }
    const float variance = s.count > 0 ? s.m2 / s.count : 0;
    return make_float2(s.mean, 1 / sqrtf(variance + a.eps));
}

struct apply_room {
    float mean[SLICE_CHANNELS], scale[SLICE_CHANNELS], shift[SLICE_CHANNELS];
};

INLINE void apply_to_slice(const cuda_group_args &a, int64_t width, apply_room &room)
{
    const unsigned slices = (unsigned)(a.in.cols / SLICE_CHANNELS), slice = blockIdx.y % slices;
    unsigned parts = gridDim.y / slices, part = blockIdx.y / slices; /* of the chunk's pixels */
    if (parts > CUDA_GROUP_ROWS / LEAST_PIXELS)
        parts = CUDA_GROUP_ROWS / LEAST_PIXELS;
    if (part >= parts)
        return;
    if (threadIdx.x < SLICE_CHANNELS) {
        const int64_t channel = slice * (int64_t)SLICE_CHANNELS + threadIdx.x;
        const float2 m = mean_and_inverse(a, quotient(channel, width));
        room.mean[threadIdx.x] = m.x;
        room.scale[threadIdx.x] = m.y * a.w[channel];
        room.shift[threadIdx.x] = a.b ? a.b[channel] : 0;
    }
    __syncthreads();
    const int lane = (int)threadIdx.x % SLICE_LANES, col = (int)slice * SLICE_CHANNELS + 8 * lane;
    float mean[8], scale[8], shift[8];
    UNROLL for (int j = 0; j < 8; j++)
    {
        mean[j] = room.mean[8 * lane + j];
        scale[j] = room.scale[8 * lane + j];
        shift[j] = room.shift[8 * lane + j];
    }
    const int64_t begin = blockIdx.x * (int64_t)CUDA_GROUP_ROWS,
                  end = begin + CUDA_GROUP_ROWS < a.in.rows ? begin + CUDA_GROUP_ROWS : a.in.rows;
    for (int64_t r = begin + part * SLICE_PIXELS + threadIdx.x / SLICE_LANES; r < end; r += parts * SLICE_PIXELS) {
        pack<8> x = load<8>(a.in, blockIdx.z, r, col);
        UNROLL for (int j = 0; j < 8; j++)
        {
            float y = (x.v[j] - mean[j]) * scale[j] + shift[j];
            x.v[j] = a.silu ? silu(y) : y;
        }
        store<8>(a.out, blockIdx.z, r, col, x);
    }
}

KERNEL(group_apply, cuda_group_args, CUDA_GROUP_THREADS)
{
    __shared__ apply_room room;
    const int64_t width = a.in.cols / a.groups;
    if (in_slices(a.in, width) && a.out.wide)
        return apply_to_slice(a, width, room);
    const float2 m = mean_and_inverse(a, blockIdx.y);
    const int64_t begin = blockIdx.x * (int64_t)CUDA_GROUP_ROWS, left = a.in.rows - begin,
                  count = (left < CUDA_GROUP_ROWS ? left : (int64_t)CUDA_GROUP_ROWS) * width;
    for (int64_t i = threadIdx.x; i < count; i += CUDA_GROUP_THREADS) {
        const int64_t r = quotient(i, width);
        const int c = (int)(blockIdx.y * width + (i - r * width));
        float y = (load<1>(a.in, blockIdx.z, begin + r, c).v[0] - m.x) * m.y * a.w[c] + (a.b ? a.b[c] : 0);
        store<1>(a.out, blockIdx.z, begin + r, c, {{a.silu ? silu(y) : y}});
    }
}

/* ---- moves ---- */

/* Each element is read once and written four times; y of the grid is the batch. */
template <int N> INLINE void upsample(const cuda_upsample_args &a)
{
    const int64_t groups = a.in.cols / N, total = a.height * a.width * groups, stride = threads_of_grid();
    if (total == 0)
        return;
    counter<3> c; /* y, x, column */
    c.radix[0] = 0, c.radix[1] = (int)a.width, c.radix[2] = (int)groups;
    c.begin(thread_of_grid(), stride);
    for (int64_t i = thread_of_grid(); i < total; i += stride, c.advance()) {
        const pack<N> x = load<N>(a.in, blockIdx.y, c.at[0] * a.width + c.at[1], c.at[2] * N);
        const int64_t to = 4 * c.at[0] * a.width + 2 * c.at[1]; /* row 2y of 2·width, column 2x */
        UNROLL for (int j = 0; j < 4; j++)
            store<N>(a.out, blockIdx.y, to + j / 2 * 2 * a.width + j % 2, c.at[2] * N, x);
    }
}

KERNEL(upsample, cuda_upsample_args, CUDA_ROW_THREADS)
{
    if (a.in.wide && a.out.wide)
        upsample<8>(a);
    else
        upsample<1>(a);
}

/* Where the plane's pixel (y, x) of batch b begins: in the plane, in a neighbour's row, or (NULL) among the zeros. */
INLINE const char *pixel(const cuda_im2col_args &a, int64_t b, int64_t y, int64_t x)
{
    const cuda_view &v = y < 0 ? a.top : y >= a.height ? a.bottom : a.in;
    if (x < 0 || x >= a.width || !v.data)
        return nullptr;
    return (const char *)v.data + place(v, b, y < 0 || y >= a.height ? x : y * a.width + x) * (v.bf16 ? 2 : 4);
}

template <int N> INLINE void im2col(const cuda_im2col_args &a)
{
    const int64_t groups = a.channels / N, taps = a.kernel * a.kernel, per_pixel = taps * groups,
                  stride = threads_of_grid(), end = (a.first + a.count) * per_pixel;
    const int before = a.kernel == 3 && a.stride == 1 ? 1 : 0;
    if (a.count * per_pixel == 0)
        return;
    counter<5> c; /* batch, y, x, tap, column */
    c.radix[0] = 0, c.radix[1] = (int)a.out_height, c.radix[2] = (int)a.out_width, c.radix[3] = (int)taps,
    c.radix[4] = (int)groups;
    const int64_t start = a.first * per_pixel + thread_of_grid();
    c.begin(start, stride);
    for (int64_t i = start; i < end; i += stride, c.advance()) {
        const int ky = c.at[3] / a.kernel, kx = c.at[3] - ky * a.kernel;
        const char *from =
            pixel(a, c.at[0], c.at[1] * (int64_t)a.stride + ky - before, c.at[2] * (int64_t)a.stride + kx - before);
        pack<N> x = {};
        if (from)
            x = load<N>(from, a.in.bf16, c.at[4] * N);
        store<N>(a.patches, a.in.bf16, (i - a.first * per_pixel) * N, x);
    }
}

KERNEL(im2col, cuda_im2col_args, CUDA_ROW_THREADS)
{
    if (a.in.wide && wide(a.top) && wide(a.bottom) && (uintptr_t)a.patches % 16 == 0)
        im2col<8>(a);
    else
        im2col<1>(a);
}
