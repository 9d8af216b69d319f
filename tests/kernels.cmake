# Under sanitizers: the programs whose CPU kernels are instrumented too (src/ops/CMakeLists.txt). They call every kernel at odd sizes, and every stage of the pipeline
# in each arithmetic; what calls the kernels is instrumented in all programs. Objects of a program take the place of those in module_ops.
if(NOT FLUX1_SANITIZE)
  return()
endif()
foreach(program
    mesh_test_forms
    ops_test_checkops
    ops_test_cut
    ops_test_decode
    ops_test_int8
    ops_test_kept
    ops_test_record
    ops_test_share
    pipeline_test_bands
    pipeline_test_bf16
    pipeline_test_cfg
    pipeline_test_goldens
    pipeline_test_int8
    pipeline_test_stages)
  target_sources(${program} PRIVATE $<TARGET_OBJECTS:instrumented_kernels>)
endforeach()
