# Labels for "ctest -L": the time that a test takes, the module that it tests.
#   quick      a few seconds each; all together one to two minutes on two cores
#   long       ten seconds or more: pipelines against their goldens, the program interrupted at many moments, the worker for Tenstorrent's cards; in scripts/check
#   allocation every allocation fails once
#   extra      minutes: hosts that fall silent, networks of hosts, flux1 serve with packages of PyPI, behind HAProxy and nginx, and for ten minutes, blocks of true width, the memory of all of them, all of the mesh's matrix, GPU kernels in other orders of warps and lanes, the page in a browser, all of Tenstorrent's machines in mock mode but one; not in scripts/check. When they last ran, docs/mesh.md and
#              docs/performance.md tell
#   valgrind   memcheck of a tiny picture and of quick tests; extra too
#   packages   the Debian packages in a bare root, the wheel in a virtual environment: extra too, they need mirrors
#   emulator   the CUDA backend on the emulated GPU
set(FLUX1_LONG_TESTS
  cli_batch
  cli_interrupt
  cli_processes
  cli_pull
  cli_readme
  cli_run
  cli_serve
  ops_test_checkops
  ops_test_checkops_simde
  pipeline_test_again
  pipeline_test_batch
  pipeline_test_goldens
  pipeline_test_hostile
  pipeline_test_meshes
  pipeline_test_mini
  pipeline_test_peak
  ttnn_device
  ttnn_kit
  ttnn_memory
  ttnn_weights)

# Of a whole check's time these take the most, in one of its two builds.
set(FLUX1_LONGEST_TESTS
  mesh_test_forms_cuda
  ops_test_checkops
  ops_test_checkops_cuda
  ops_test_checkops_simde
  pipeline_test_allocation
  pipeline_test_goldens
  pipeline_test_goldens_cuda
  pipeline_test_peak
  ttnn_device
  ttnn_kit)

set(FLUX1_EXTRA_TESTS
  cli_network
  mesh_processes_network
  mesh_processes_stopped
  packages_debian
  packages_wheel
  pipeline_peak_true_size
  pipeline_test_blocks
  server_page)

get_property(tests DIRECTORY PROPERTY TESTS)
foreach(test ${tests})
  string(REGEX MATCH "^[a-z0-9]+" module ${test})
  if(module MATCHES "layers|circles|sources")
    set(module structure)
  elseif(module STREQUAL header)
    set(module library)
  endif()
  if(module STREQUAL valgrind)
    set(label extra)
  elseif(test MATCHES "_cuda(_mesh)?$")
    set(label emulator)
  elseif(test MATCHES "_test_allocation$")
    set(label allocation)
  elseif(test MATCHES "^ttnn_mock_" AND NOT test MATCHES "_wh-n300_")
    set(label extra long)
  elseif(test IN_LIST FLUX1_EXTRA_TESTS OR test MATCHES "^server_(balancer|clients|nginx|soak)$|^pipeline_matrix_(4x8|rest)|^ops_test_checkops_.*_(reverse|[0-9]+)$")
    set(label extra)
  # instrumented in other tests, waiting, or minutes of products at the trained models' sizes, whose kernels ops_test_checkops and the goldens instrument
  elseif(FLUX1_SANITIZE AND test MATCHES "^pipeline_matrix_|^pipeline_test_(again|mini)$|^server_load$|^cli_(mini_trained|pull|processes|readme|recording|serve)$")
    set(label extra)
  elseif(test IN_LIST FLUX1_LONG_TESTS OR test MATCHES "^ttnn_mock_")
    set(label long)
  else()
    set(label quick)
  endif()
  set_property(TEST ${test} APPEND PROPERTY LABELS ${label} ${module})
  # what takes longest starts first, so that none is left running alone
  if(test IN_LIST FLUX1_LONGEST_TESTS)
    set_property(TEST ${test} PROPERTY COST 200)
  elseif(NOT label STREQUAL quick)
    set_property(TEST ${test} PROPERTY COST 100)
  endif()
endforeach()
