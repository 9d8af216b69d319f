# Allocations of these programs go through the test's own functions, which can fail …
set(wrap_malloc -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc)
set(wrap_aligned -Wl,--wrap=posix_memalign,--wrap=aligned_alloc)
add_library(support_failing STATIC support/failing.c)
target_include_directories(support_failing PUBLIC ${CMAKE_CURRENT_SOURCE_DIR})
target_link_libraries(support_failing PUBLIC module_base PkgConfig::CMOCKA)
target_link_options(support_failing INTERFACE ${wrap_malloc} ${wrap_aligned} -Wl,--wrap=strdup)
foreach(program base_test_allocation weights_test_allocation weights_test_small_cache weights_test_prepared text_test_allocation pipeline_test_allocation pipeline_test_again
        pipeline_test_prepared tools_test_allocation)
  target_link_libraries(${program} PRIVATE support_failing)
endforeach()
if(FLUX1_HAS_SERVE)
  target_link_libraries(server_test_history PRIVATE support_failing)
endif()
foreach(program weights_test_small_cache weights_test_prepared)
  target_link_options(${program} PRIVATE -Wl,--wrap=rename) # they also die before a rename
endforeach()
target_link_options(weights_test_prepared PRIVATE -Wl,--wrap=flock,--wrap=posix_fallocate) # and this one changes what locks do
target_link_options(pipeline_test_again PRIVATE -Wl,--wrap=ops_begin) # it also disturbs operations

# … and those of this one are counted.
target_link_options(pipeline_test_steploop PRIVATE ${wrap_malloc} ${wrap_aligned})

# Here what malloc and aligned_alloc have given is added up; so is what ranks exchange.
target_link_options(pipeline_test_memory PRIVATE -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc -Wl,--wrap=aligned_alloc,--wrap=free,--wrap=comm_threads_create
                                                 -Wl,--wrap=large_alloc,--wrap=large_free,--wrap=limits_resident)
