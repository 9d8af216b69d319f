# The worker for Tenstorrent's cards: what needs no library, and the vendor's library in mock mode where it is (docs/tenstorrent.md).
if(FLUX1_PYTHON AND NOT FLUX1_SANITIZE AND NOT CMAKE_CROSSCOMPILING)
  add_test(NAME ttnn_worker COMMAND ${FLUX1_PYTHON} -B ${CMAKE_CURRENT_SOURCE_DIR}/ttnn/worker.py)
  add_test(NAME ttnn_same_numbers COMMAND sh ${CMAKE_CURRENT_SOURCE_DIR}/ttnn/same_numbers.sh $<TARGET_FILE:flux1> ${FLUX1_TEST_DATA}/pipelines/patchwork)
  set_tests_properties(ttnn_same_numbers PROPERTIES SKIP_RETURN_CODE 77)
  function(ttnn_mock machine weights links most) # MB of a bank
    add_test(NAME ttnn_mock_${machine}_${weights} COMMAND sh ${CMAKE_CURRENT_SOURCE_DIR}/ttnn/mock.sh $<TARGET_FILE:flux1> ${machine} ${weights} ${links} ${most})
    set_tests_properties(ttnn_mock_${machine}_${weights} PROPERTIES SKIP_RETURN_CODE 77 TIMEOUT 1800)
  endfunction()
  ttnn_mock(wh-t3k mistakes 1 0)
  ttnn_mock(wh-n300 bfloat8_b 1 850)
  ttnn_mock(wh-t3k bfloat16 1 640)
endif()
