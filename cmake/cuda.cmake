# The CUDA backend, where CUDA's compiler and headers are: src/ops/cuda and its kernels, one fat binary for all architectures, linked in as bytes. NVIDIA's libraries
# are found at run time (src/ops/cuda/libraries.c), so the same program runs where there are none.
set(FLUX1_CUDA AUTO CACHE STRING "CUDA backend: AUTO (if CUDA is installed), ON, OFF")
set(FLUX1_CUDA_ARCHITECTURES "80;89;90a;100" CACHE STRING "GPU architectures to compile for")
set_property(CACHE FLUX1_CUDA PROPERTY STRINGS AUTO ON OFF)
set(FLUX1_HAS_CUDA OFF)
set(FLUX1_HAS_NCCL OFF)
if(FLUX1_CUDA STREQUAL OFF)
  return()
endif()

find_program(FLUX1_NVCC nvcc HINTS $ENV{CUDA_HOME}/bin /usr/local/cuda/bin)
find_path(FLUX1_CUDA_INCLUDE cuda.h HINTS $ENV{CUDA_HOME}/include /usr/local/cuda/include)
find_path(FLUX1_CUBLAS_INCLUDE cublasLt.h HINTS ${FLUX1_CUDA_INCLUDE})
find_path(FLUX1_CUDNN_INCLUDE cudnn.h HINTS ${FLUX1_CUDA_INCLUDE})
if(NOT FLUX1_NVCC OR NOT FLUX1_CUDA_INCLUDE OR NOT FLUX1_CUBLAS_INCLUDE OR NOT FLUX1_CUDNN_INCLUDE)
  if(FLUX1_CUDA STREQUAL ON)
    message(FATAL_ERROR "FLUX1_CUDA=ON: nvcc, cuda.h, cublasLt.h and cudnn.h are needed (CUDA 12.9 or later, cuDNN 9); set CUDA_HOME, or build with FLUX1_CUDA=OFF.")
  endif()
  return()
endif()

set(generate "")
foreach(architecture ${FLUX1_CUDA_ARCHITECTURES})
  list(APPEND generate -gencode arch=compute_${architecture},code=sm_${architecture})
endforeach()
file(GLOB kernel_sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/src/ops/cuda/*.cu)
file(GLOB kernel_headers CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/src/ops/cuda/kernels*.h)
set(FLUX1_FATBIN ${CMAKE_BINARY_DIR}/kernels.fatbin)
add_custom_command(
  OUTPUT ${FLUX1_FATBIN}
  COMMAND ${FLUX1_NVCC} -fatbin -std=c++17 -O3 -Xcompiler -Wall,-Wextra ${generate} -I${CMAKE_SOURCE_DIR}/src -I${CMAKE_SOURCE_DIR}/include -o ${FLUX1_FATBIN}
          ${CMAKE_SOURCE_DIR}/src/ops/cuda/kernels.cu
  DEPENDS ${kernel_sources} ${kernel_headers}
  COMMENT "Compiling kernels for ${FLUX1_CUDA_ARCHITECTURES}" VERBATIM)
set_source_files_properties(${CMAKE_SOURCE_DIR}/src/ops/cuda/embedded.c PROPERTIES OBJECT_DEPENDS ${FLUX1_FATBIN} COMPILE_DEFINITIONS FATBIN="${FLUX1_FATBIN}")
set(FLUX1_HAS_CUDA ON)
find_path(FLUX1_NCCL_INCLUDE nccl.h HINTS ${FLUX1_CUDA_INCLUDE}) # between GPUs; without it they exchange through the host
if(FLUX1_NCCL_INCLUDE)
  set(FLUX1_HAS_NCCL ON)
endif()
