# Tests of what stands around the rooms: the order of includes, the libraries, the command line. Shell scripts; no Python.
add_test(NAME layers COMMAND sh ${CMAKE_CURRENT_SOURCE_DIR}/layers.sh ${CMAKE_SOURCE_DIR})
add_test(NAME layers_finds_violations COMMAND sh ${CMAKE_CURRENT_SOURCE_DIR}/layers.sh ${CMAKE_SOURCE_DIR} --self-test)
find_program(FLUX1_TEST_CXX NAMES c++ g++ clang++)
if(NOT FLUX1_TEST_CXX)
  set(FLUX1_TEST_CXX "")
endif()
add_test(NAME header COMMAND sh ${CMAKE_CURRENT_SOURCE_DIR}/library/header.sh ${CMAKE_SOURCE_DIR}/include ${CMAKE_C_COMPILER} ${FLUX1_TEST_CXX})

if(NOT TARGET flux1)
  return()
endif()

if(NOT FLUX1_SANITIZE) # a sanitizer adds symbols of its own, and its run-time library to every link
  add_test(NAME library_exports COMMAND sh ${CMAKE_CURRENT_SOURCE_DIR}/library/exports.sh ${CMAKE_BINARY_DIR}/libflux1.a $<TARGET_FILE:flux1_shared>
                                        ${CMAKE_SOURCE_DIR}/include)
  add_test(NAME library_install COMMAND sh ${CMAKE_CURRENT_SOURCE_DIR}/library/install.sh ${CMAKE_BINARY_DIR} ${CMAKE_SOURCE_DIR}/examples/generate.c
                                        ${FLUX1_TEST_DATA}/pipelines/schnell ${CMAKE_C_COMPILER} ${CMAKE_SOURCE_DIR}/models)
endif()

add_executable(json_value cli/json_value.c)
target_link_libraries(json_value PRIVATE PkgConfig::JANSSON)
add_executable(picture_info cli/picture_info.c)
target_link_libraries(picture_info PRIVATE room_image)
set_target_properties(json_value picture_info PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
set(cli_environment FLUX1=$<TARGET_FILE:flux1> VALUE=$<TARGET_FILE:json_value> PICTURE=$<TARGET_FILE:picture_info> PIPELINES=${FLUX1_TEST_DATA}/pipelines
                    DOCS=${CMAKE_SOURCE_DIR}/docs DEMO=${CMAKE_SOURCE_DIR}/scripts/demo SHEET=$<TARGET_FILE:contact_sheet> MODELS=${CMAKE_SOURCE_DIR}/models)
foreach(script usage run batch tokenize bad_input interrupt mini mini_trained demo)
  add_test(NAME cli_${script} COMMAND sh ${CMAKE_CURRENT_SOURCE_DIR}/cli/${script}.sh)
  set_tests_properties(cli_${script} PROPERTIES ENVIRONMENT "${cli_environment}" TIMEOUT 600 SKIP_RETURN_CODE 77)
endforeach()
