# Tests under valgrind's memcheck, label "valgrind": errors and leaks fail them. By hand (ctest -L valgrind), a minute or two; scripts/check leaves them out, for
# AddressSanitizer sees the same but for values that were never set. valgrind 3.19 knows no AVX-512, so the program takes its AVX2 or portable kernels.
find_program(FLUX1_VALGRIND valgrind)
mark_as_advanced(FLUX1_VALGRIND)
if(NOT FLUX1_VALGRIND OR FLUX1_SANITIZE)
  return()
endif()
set(memcheck ${FLUX1_VALGRIND} -q --error-exitcode=9 --leak-check=full --show-leak-kinds=definite,indirect,possible --errors-for-leak-kinds=definite,indirect,possible)

foreach(isa avx2 portable)
  add_test(NAME valgrind_generate_${isa}
           COMMAND ${memcheck} $<TARGET_FILE:flux1> generate -m ${FLUX1_TEST_DATA}/pipelines/schnell -p "a red fox" -S 1 -W 32 -H 32 -s 1 -q
                   -o ${CMAKE_CURRENT_BINARY_DIR}/valgrind_${isa}.png)
  set_tests_properties(valgrind_generate_${isa} PROPERTIES ENVIRONMENT FLUX1_CPU_ISA=${isa})
endforeach()
foreach(test
    base_test_arena
    base_test_builder
    base_test_hub
    base_test_json
    base_test_json_write
    base_test_status
    base_test_units
    base_test_utf8
    weights_test_adapter
    weights_test_gguf
    weights_test_recipe
    weights_test_safetensors
    text_test_clip)
  add_test(NAME valgrind_${test} COMMAND ${memcheck} $<TARGET_FILE:${test}>)
  list(APPEND valgrind_tests valgrind_${test})
endforeach()
set_tests_properties(valgrind_generate_avx2 valgrind_generate_portable ${valgrind_tests} PROPERTIES TIMEOUT 900)
