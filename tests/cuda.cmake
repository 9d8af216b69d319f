# The CUDA backend's tests run on an emulated GPU: the same kernels compiled for this processor and NVIDIA's libraries made of plain C (ops/cuda_emulator), so they
# need neither GPU nor driver. On a machine that has one: FLUX1_TEST_GPU=1 (pipeline tests) and ops_test_checkops_cuda --gpu use the real one.
if(NOT FLUX1_HAS_CUDA OR FLUX1_SANITIZE OR FLUX1_FUZZ) # the emulator's fibers and AddressSanitizer do not know of each other
  return()
endif()
enable_language(CXX)
file(GLOB emulator_sources CONFIGURE_DEPENDS ops/cuda_emulator/*.c ops/cuda_emulator/*.cpp)
add_library(cuda_emulator STATIC ${emulator_sources})
set_source_files_properties(${emulator_sources} PROPERTIES COMPILE_OPTIONS "-O2")
set_target_properties(cuda_emulator PROPERTIES CXX_STANDARD 17)
target_include_directories(cuda_emulator PUBLIC ${CMAKE_CURRENT_SOURCE_DIR})
target_link_libraries(cuda_emulator PUBLIC room_ops)
target_link_libraries(ops_test_checkops_cuda PRIVATE cuda_emulator)
set_target_properties(ops_test_checkops_cuda PROPERTIES LINKER_LANGUAGE CXX)

# the pipeline's goldens again, on device "cuda"
foreach(test goldens bf16 fp8)
  set(target pipeline_test_${test}_cuda)
  add_executable(${target} pipeline/test_${test}.c)
  set_target_properties(${target} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests LINKER_LANGUAGE CXX)
  target_include_directories(${target} PRIVATE ${CMAKE_CURRENT_SOURCE_DIR})
  target_compile_definitions(${target} PRIVATE TEST_DATA="${FLUX1_TEST_DATA}" SHARED_DATA="${FLUX1_SHARED_DATA}"
                                               SOURCE_MODELS="${CMAKE_SOURCE_DIR}/models" TEST_DEVICE="cuda")
  target_link_libraries(${target} PRIVATE room_pipeline cuda_emulator PkgConfig::CMOCKA)
  add_test(NAME ${target} COMMAND ${target})
  set_tests_properties(${target} PROPERTIES TIMEOUT 600)
endforeach()
