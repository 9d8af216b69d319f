# Allocations of these programs go through the test's own functions, which can fail …
set(wrap_malloc -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc)
set(wrap_aligned -Wl,--wrap=posix_memalign,--wrap=aligned_alloc)
target_link_options(weights_test_allocation PRIVATE ${wrap_malloc} -Wl,--wrap=strdup)
target_link_options(text_test_allocation PRIVATE ${wrap_malloc} -Wl,--wrap=strdup)
target_link_options(pipeline_test_allocation PRIVATE ${wrap_malloc} ${wrap_aligned} -Wl,--wrap=strdup)

# … and those of this one are counted.
target_link_options(pipeline_test_steploop PRIVATE ${wrap_malloc} ${wrap_aligned})
