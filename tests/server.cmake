# flux1 serve and the programs that use it. Python's standard library alone, but for server_clients.
if(FLUX1_HAS_SERVE AND FLUX1_TEST_PYTHON)
  set(here ${CMAKE_CURRENT_SOURCE_DIR}/server)
  set(served $<TARGET_FILE:flux1> ${FLUX1_TEST_DATA}/pipelines/schnell)
  set(run ${FLUX1_TEST_PYTHON} -B)
  add_test(NAME server_shapes COMMAND ${run} ${here}/shapes.py ${served})
  add_test(NAME server_clients COMMAND sh ${here}/clients.sh ${FLUX1_TEST_PYTHON} ${CMAKE_BINARY_DIR}/tests/clients ${served}
                                       ${FLUX1_TEST_DATA}/files/lora/kohya.safetensors)
  add_test(NAME server_balancer COMMAND ${run} ${here}/balancer.py ${served} ${CMAKE_SOURCE_DIR}/packaging/haproxy.cfg)
  set_tests_properties(server_shapes server_clients server_balancer PROPERTIES TIMEOUT 600 SKIP_RETURN_CODE 77)
else()
  message(STATUS "flux1 serve with its clients: not tested (no flux1 serve, or no python3)")
endif()
