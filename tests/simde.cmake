# AVX-512 on machines that don't have it: the kernels' sources compiled over SIMDe's portable forms of the instructions, as further instruction sets of
# checkops. Their speed means nothing.
if(NOT CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  return()
endif()
if(FLUX1_SANITIZE) # minutes to compile and to run, and the same sources are instrumented as AVX2 kernels
  return()
endif()
find_path(FLUX1_SIMDE simde/x86/avx512.h)
if(NOT FLUX1_SIMDE)
  add_test(NAME ops_test_checkops_simde COMMAND ${CMAKE_COMMAND} -E echo "skipped: SIMDe (Debian: libsimde-dev) is not installed")
else()
  test_program(ops_test_checkops_simde ops/test_checkops.c ops)
  set(avx512 ops/simde/kernels_avx512.c ops/simde/kernels_avx512bf16.c ops/simde/kernels_avx512amx.c ops/simde/int8_avx512amx.c)
  target_sources(ops_test_checkops_simde PRIVATE ${avx512} ops/simde/decode_avx512.c ops/simde/sets.c)
  target_compile_definitions(ops_test_checkops_simde PRIVATE FLUX1_CHECK_CALLS=1 CHECKOPS_SIMDE=1)
  target_link_options(ops_test_checkops_simde PRIVATE -Wl,--wrap=cpu_instruction_set_choose) # ops/simde/sets.c
  set(options -I${CMAKE_CURRENT_SOURCE_DIR}/ops/simde -isystem ${FLUX1_SIMDE} -mavx2 -mfma -mf16c -Wno-psabi -Wno-undef)
  # O2 takes several times as long to compile what is emulated, and g as long again as O1
  set_source_files_properties(${avx512} PROPERTIES COMPILE_OPTIONS "${options};-O1;-g1;-ffp-contract=fast")
  set_source_files_properties(ops/simde/decode_avx512.c PROPERTIES COMPILE_OPTIONS "${options};-O2;-g1;-ffp-contract=off")
endif()
set_tests_properties(ops_test_checkops_simde PROPERTIES SKIP_REGULAR_EXPRESSION "skipped: ")
