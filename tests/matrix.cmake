# The reference system's test matrix (pipeline/test_matrix.c): one test a mesh with ranks that are threads, and some of it over processes.
add_executable(pipeline_test_matrix pipeline/test_matrix.c)
set_target_properties(pipeline_test_matrix PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
target_include_directories(pipeline_test_matrix PRIVATE ${CMAKE_CURRENT_SOURCE_DIR})
target_link_libraries(pipeline_test_matrix PRIVATE support_pipeline module_pipeline PkgConfig::CMOCKA)

foreach(shape 1x2 2x2 2x4sp0tp1 4x8sp0tp1 4x8sp1tp0)
  add_test(NAME pipeline_matrix_${shape} COMMAND pipeline_test_matrix "${shape}_*")
  set_tests_properties(pipeline_matrix_${shape} PROPERTIES TIMEOUT 1800)
endforeach()

# A context a program: each of these is an mpirun. Together they hold every pair of captured or not, cache or none, place of the encoders.
set(matrix_quick
  1x2_captured_cache_encoders_device
  1x2_not_captured_no_cache_encoders_host
  2x2_captured_no_cache_encoders_device
  2x2_not_captured_cache_encoders_host
  2x4sp0tp1_captured_cache_encoders_host
  2x4sp0tp1_not_captured_no_cache_encoders_device)
foreach(shape 1x2 2x2 2x4sp0tp1 4x8sp0tp1 4x8sp1tp0)
  foreach(how captured_cache captured_no_cache not_captured_cache not_captured_no_cache)
    foreach(place device host)
      set(setting ${shape}_${how}_encoders_${place})
      set(part rest)
      if(setting IN_LIST matrix_quick)
        set(part quick)
      endif()
      processes_test(pipeline_matrix_${part}_${setting} 2 $<TARGET_FILE:pipeline_test_matrix> ${setting} processes)
    endforeach()
  endforeach()
endforeach()
