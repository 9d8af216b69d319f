/* The last lines of each kernels_<isa>.c: one row of the dispatch. */
#if !defined(TASK) /* a task that needs something around it */
#define TASK(f) f
#endif
const cpu_kernels KERNELS = {
    .bf16 = PER_WORD == 2,
    .tile_cols = TILE_COLS,
    .product_cols = PRODUCT_COLS,
    .cut_cols = CUT_COLS,
    .cut_beside = CUT_BESIDE,
    .finish = finish_row,
    .lay = lay,
    .product = TASK(product),
    .gemv = gemv,
    .lay_line = lay_line,
    .conv = TASK(conv),
#if !defined(SIMD_BF16)
    .winograd = winograd,
    .winograd_panels = WINOGRAD_PANELS,
#endif
    .attention = TASK(attention),
    .attention_merge = attention_merge,
    .layer_norm = layer_norm,
    .rms_norm = rms_norm,
    .head_norm_rope = head_norm_rope,
    .embed = embed,
    .activate = activate,
    .add = add,
    .copy = copy,
    .finite = not_finite,
    .group_stats = group_stats,
    .group_apply = group_apply,
    .upsample = upsample,
};
