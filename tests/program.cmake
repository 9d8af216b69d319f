# Tests of what is built on the modules: the libraries, their packages, the command line, the demo.
find_program(FLUX1_TEST_CXX NAMES c++ g++ clang++)
if(NOT FLUX1_TEST_CXX)
  message(STATUS "Public headers as C++: not tested (no C++ compiler)")
  set(FLUX1_TEST_CXX "")
endif()
add_test(NAME header COMMAND sh ${CMAKE_CURRENT_SOURCE_DIR}/library/header.sh ${CMAKE_SOURCE_DIR}/include ${CMAKE_C_COMPILER} ${FLUX1_TEST_CXX})

if(FLUX1_SANITIZE)
  message(STATUS "Tests of exports and installation: left out (a sanitizer adds symbols of its own, and its run-time library to every link)")
else()
  add_test(NAME library_exports COMMAND sh ${CMAKE_CURRENT_SOURCE_DIR}/library/exports.sh ${CMAKE_BINARY_DIR}/libflux1.a $<TARGET_FILE:flux1_shared>
                                        ${CMAKE_SOURCE_DIR}/include)
  add_test(NAME library_install COMMAND sh ${CMAKE_CURRENT_SOURCE_DIR}/library/install.sh ${CMAKE_BINARY_DIR} ${CMAKE_SOURCE_DIR}/examples/generate.c
                                        ${FLUX1_TEST_DATA}/pipelines/schnell ${CMAKE_C_COMPILER} ${CMAKE_SOURCE_DIR}/models)
endif()

add_test(NAME library_preview COMMAND sh ${CMAKE_CURRENT_SOURCE_DIR}/library/preview.sh $<TARGET_FILE:example_preview> $<TARGET_FILE:flux1>
                                      ${FLUX1_TEST_DATA}/pipelines/schnell)
add_executable(library_structs library/structs.c)
set_target_properties(library_structs PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
target_link_libraries(library_structs PRIVATE flux1_shared PkgConfig::CMOCKA)
add_test(NAME library_structs COMMAND library_structs)
add_test(NAME library_release COMMAND sh ${CMAKE_CURRENT_SOURCE_DIR}/library/release.sh ${CMAKE_SOURCE_DIR})
set_tests_properties(library_release PROPERTIES SKIP_RETURN_CODE 77)
if(NOT FLUX1_SANITIZE)
  add_test(NAME library_version COMMAND sh ${CMAKE_CURRENT_SOURCE_DIR}/library/version.sh ${CMAKE_SOURCE_DIR} $<TARGET_FILE:flux1> $<TARGET_FILE:flux1_shared>
                                        ${CMAKE_BINARY_DIR}/flux1.pc)
  add_test(NAME library_abi COMMAND sh ${CMAKE_CURRENT_SOURCE_DIR}/library/abi.sh $<TARGET_FILE:flux1_shared> ${CMAKE_SOURCE_DIR}/include
                                    ${CMAKE_CURRENT_SOURCE_DIR}/library/flux1.abi)
  add_test(NAME packages_debian COMMAND bash ${CMAKE_CURRENT_SOURCE_DIR}/packages/root.sh ${CMAKE_BINARY_DIR} ${CMAKE_SOURCE_DIR} ${CMAKE_C_COMPILER})
  set_tests_properties(library_abi packages_debian PROPERTIES SKIP_RETURN_CODE 77)
  set_tests_properties(packages_debian PROPERTIES RESOURCE_LOCK build) # it builds in this very folder, as packages_wheel does
endif()

if(FLUX1_PYTHON AND NOT FLUX1_SANITIZE AND NOT CMAKE_CROSSCOMPILING)
  set(python_test ${CMAKE_CURRENT_SOURCE_DIR}/python/test_flux1.py)
  set(python_environment PYTHONPATH=${CMAKE_BINARY_DIR}/python FLUX1=$<TARGET_FILE:flux1> PIPELINE=${FLUX1_TEST_DATA}/pipelines/schnell
                         LORA=${FLUX1_TEST_DATA}/files/lora/kohya.safetensors SOURCE=${CMAKE_SOURCE_DIR} PYTHONDONTWRITEBYTECODE=1)
  add_test(NAME library_python COMMAND ${FLUX1_PYTHON} ${python_test})
  add_test(NAME packages_wheel COMMAND sh ${CMAKE_CURRENT_SOURCE_DIR}/packages/wheel.sh ${CMAKE_BINARY_DIR} ${FLUX1_PYTHON} ${python_test})
  set_tests_properties(packages_wheel PROPERTIES RESOURCE_LOCK build)
  set_tests_properties(library_python packages_wheel PROPERTIES ENVIRONMENT "${python_environment}" SKIP_RETURN_CODE 77)
else()
  message(STATUS "The Python package: not tested (no python3, another processor's library, or a sanitizer, which would have to be loaded first)")
endif()

add_executable(json_value cli/json_value.c)
target_link_libraries(json_value PRIVATE module_base)
add_executable(picture_info cli/picture_info.c)
target_include_directories(picture_info PRIVATE ${CMAKE_CURRENT_SOURCE_DIR})
target_link_libraries(picture_info PRIVATE module_image)
add_library(no_links MODULE cli/no_links.c)
add_executable(cli_relay cli/relay.c ${CMAKE_SOURCE_DIR}/src/cli/relay.c)
target_include_directories(cli_relay PRIVATE ${CMAKE_SOURCE_DIR}/src)
target_link_libraries(cli_relay PRIVATE PkgConfig::CMOCKA)
add_test(NAME cli_relay COMMAND cli_relay)
set_target_properties(json_value picture_info cli_relay PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
set(cli_environment FLUX1=$<TARGET_FILE:flux1> VALUE=$<TARGET_FILE:json_value> PICTURE=$<TARGET_FILE:picture_info> PIPELINES=${FLUX1_TEST_DATA}/pipelines
                    DOCS=${CMAKE_SOURCE_DIR}/docs DEMO=${CMAKE_SOURCE_DIR}/scripts/demo SHEET=$<TARGET_FILE:contact_sheet> MODELS=${CMAKE_SOURCE_DIR}/models NO_LINKS=$<TARGET_FILE:no_links> HAS_PLUGIN=${FLUX1_HAS_MPI} HAS_PULL=${FLUX1_HAS_PULL} HAS_SERVE=${FLUX1_HAS_SERVE})
foreach(script
    cli/bad_input.sh
    cli/batch.sh
    cli/cache.sh
    cli/convert.sh
    cli/demo.sh
    cli/doctor.sh
    cli/folders.sh
    cli/interrupt.sh
    cli/jsonl.sh
    cli/latents.sh
    cli/mini.sh
    cli/mini_trained.sh
    cli/peers.sh
    cli/pictures.sh
    cli/processes.sh
    cli/pull.sh
    cli/readme.sh
    cli/recording.sh
    cli/run.sh
    cli/serve.sh
    cli/terminal.sh
    cli/tokenize.sh
    cli/usage.sh)
  get_filename_component(name ${script} NAME_WE)
  add_test(NAME cli_${name} COMMAND sh ${CMAKE_CURRENT_SOURCE_DIR}/${script})
  set_tests_properties(cli_${name} PROPERTIES ENVIRONMENT "${cli_environment}" TIMEOUT 600 SKIP_RETURN_CODE 77)
endforeach()
add_test(NAME cli_network COMMAND bash ${CMAKE_CURRENT_SOURCE_DIR}/cli/network.sh)
set_tests_properties(cli_network PROPERTIES ENVIRONMENT "${cli_environment};FLUX1_PLUGINS=${CMAKE_BINARY_DIR}" TIMEOUT 900 SKIP_RETURN_CODE 77 RUN_SERIAL TRUE)
