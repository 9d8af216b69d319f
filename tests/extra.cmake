add_subdirectory(fuzz)

# allocations of these programs go through the test's own functions, which can fail
if(TARGET weights_test_allocation)
  target_link_options(weights_test_allocation PRIVATE -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=strdup)
endif()
if(TARGET text_test_allocation)
  target_link_options(text_test_allocation PRIVATE -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=strdup)
endif()
if(TARGET pipeline_test_allocation)
  target_link_options(pipeline_test_allocation PRIVATE -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=strdup,--wrap=posix_memalign,--wrap=aligned_alloc)
endif()

# and those of this one are counted
if(TARGET pipeline_test_steploop)
  target_link_options(pipeline_test_steploop PRIVATE -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=posix_memalign,--wrap=aligned_alloc)
endif()

# twenty steps at true sizes take long when instrumented; a checkout without the models is told apart from a passed test
if(TARGET pipeline_test_mini)
  set_tests_properties(pipeline_test_mini PROPERTIES TIMEOUT 900 SKIP_REGULAR_EXPRESSION "skipped: this checkout has no")
endif()
