# The CUDA backend's tests run on an emulated GPU: the same kernels compiled for this processor and NVIDIA's libraries made of plain C (ops/cuda_emulator), so they
# need neither GPU nor driver. On a machine that has one: FLUX1_TEST_GPU=1 (pipeline tests) and --gpu (ops_test_checkops_cuda, _failures_cuda, _packed_cuda, _weights_cuda) use the real one.
add_test(NAME library_cuda_headers COMMAND ${CMAKE_COMMAND} -DFOLDER=${CMAKE_CURRENT_BINARY_DIR}/cuda_headers -P ${CMAKE_CURRENT_SOURCE_DIR}/cuda_headers.cmake)
if(NOT FLUX1_HAS_CUDA)
  return()
endif()
get_property(kernels_log GLOBAL PROPERTY FLUX1_KERNELS_LOG)
add_test(NAME ops_ptxas COMMAND sh ${CMAKE_CURRENT_SOURCE_DIR}/ptxas.sh ${kernels_log} ${CMAKE_SOURCE_DIR}/src/ops/cuda/kernels.h)
add_test(NAME ops_ptxas_self_test COMMAND sh ${CMAKE_CURRENT_SOURCE_DIR}/ptxas.sh --self-test)

# The search for NVIDIA's libraries, on small ones that stand in for them.
function(cuda_stub name list) # then compile definitions
  if(list)
    add_library(cuda_stub_${name} MODULE ops/cuda_stubs/functions.c ops/cuda_stubs/versions.c)
    target_compile_definitions(cuda_stub_${name} PRIVATE LIST=${list} ${ARGN} $<TARGET_PROPERTY:module_ops,INTERFACE_COMPILE_DEFINITIONS>)
    target_include_directories(cuda_stub_${name} SYSTEM PRIVATE $<TARGET_PROPERTY:module_ops,INTERFACE_INCLUDE_DIRECTORIES>)
  else()
    add_library(cuda_stub_${name} MODULE ops/cuda_stubs/versions.c)
  endif()
  string(TOUPPER ${name} upper)
  target_compile_definitions(ops_test_libraries PRIVATE STUB_${upper}="$<TARGET_FILE:cuda_stub_${name}>")
  add_dependencies(ops_test_libraries cuda_stub_${name})
endfunction()
module_tests(ops
  ops/test_algorithms.c
  ops/test_libraries.c
  ops/test_race.c)
cuda_stub(driver CUDA_DRIVER_FUNCTIONS)
cuda_stub(driver_before_12_8 CUDA_DRIVER_FUNCTIONS BEFORE_12_8=1)
cuda_stub(blas CUDA_BLAS_FUNCTIONS)
cuda_stub(dnn CUDA_DNN_FUNCTIONS)
if(FLUX1_HAS_NCCL)
  cuda_stub(nccl CUDA_NCCL_FUNCTIONS)
endif()
cuda_stub(old "")

if(FLUX1_SANITIZE)
  message(STATUS "Tests on the emulated GPU: left out (the emulator's fibers and AddressSanitizer do not know of each other)")
  return()
endif()
include(CheckLanguage)
check_language(CXX)
if(NOT CMAKE_CXX_COMPILER)
  message(STATUS "Tests on the emulated GPU: left out (no C++ compiler)")
  return()
endif()
enable_language(CXX)
add_library(cuda_emulator STATIC
  ops/cuda_emulator/blas.cpp
  ops/cuda_emulator/dnn.cpp
  ops/cuda_emulator/driver.cpp
  ops/cuda_emulator/emulate.cpp
  ops/cuda_emulator/kernels.cpp
  ops/cuda_emulator/nccl.cpp)
target_compile_options(cuda_emulator PRIVATE -O2)
set_target_properties(cuda_emulator PROPERTIES CXX_STANDARD 17)
target_include_directories(cuda_emulator PUBLIC ${CMAKE_CURRENT_SOURCE_DIR})
target_link_libraries(cuda_emulator PUBLIC module_ops)

test_program(ops_test_emulator ops/cuda_emulator/self_test.cpp ops cuda_emulator)

test_program(ops_test_checkops_cuda ops/test_checkops_cuda.c ops cuda_emulator)
set_target_properties(ops_test_checkops_cuda PROPERTIES LINKER_LANGUAGE CXX)
target_compile_definitions(ops_test_checkops_cuda PRIVATE FLUX1_CHECK_CALLS=1)
test_program(ops_test_failures_cuda ops/test_failures_cuda.c ops cuda_emulator)
test_program(ops_test_packed_cuda ops/test_packed_cuda.c ops cuda_emulator)
test_program(ops_test_weights_cuda ops/test_weights_cuda.c ops cuda_emulator)
set_target_properties(ops_test_failures_cuda ops_test_packed_cuda ops_test_weights_cuda PROPERTIES LINKER_LANGUAGE CXX)
foreach(order reverse 1 2 3) # of warps and lanes; elsewhere forward
  foreach(part every_entry products_in_fp8)
    set(name ops_test_checkops_${part}_${order})
    add_test(NAME ${name} COMMAND ops_test_checkops_cuda --only ${part}*)
    set_tests_properties(${name} PROPERTIES ENVIRONMENT CUDA_EMULATOR_ORDER=${order} TIMEOUT 900)
  endforeach()
endforeach()

test_program(pipeline_test_packed_cuda pipeline/test_packed_cuda.c pipeline cuda_emulator)
set_target_properties(pipeline_test_packed_cuda PROPERTIES LINKER_LANGUAGE CXX)
target_compile_definitions(pipeline_test_packed_cuda PRIVATE TEST_DEVICE="cuda")

foreach(test forms session)
  set(target mesh_test_${test}_cuda)
  test_program(${target} mesh/test_${test}.c mesh cuda_emulator)
  set_target_properties(${target} PROPERTIES LINKER_LANGUAGE CXX)
  target_compile_definitions(${target} PRIVATE TEST_DEVICE="cuda")
endforeach()

# the pipeline's goldens again, on device "cuda"
foreach(test batch bf16 cfg fp8 goldens lora prepared step_cache)
  set(target pipeline_test_${test}_cuda)
  test_program(${target} pipeline/test_${test}.c pipeline cuda_emulator)
  set_target_properties(${target} PROPERTIES LINKER_LANGUAGE CXX)
  target_compile_definitions(${target} PRIVATE TEST_DEVICE="cuda")
  set_tests_properties(${target} PROPERTIES TIMEOUT 600)
endforeach()
target_link_libraries(pipeline_test_prepared_cuda PRIVATE support_failing)
add_test(NAME pipeline_test_goldens_cuda_mesh COMMAND pipeline_test_goldens_cuda mesh)
set_tests_properties(pipeline_test_goldens_cuda_mesh PROPERTIES TIMEOUT 600)
add_test(NAME bench_cuda_scripts COMMAND bash ${CMAKE_CURRENT_SOURCE_DIR}/bench_cuda.sh ${CMAKE_SOURCE_DIR} ${CMAKE_BINARY_DIR})
