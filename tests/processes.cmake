# Tests on several processes, under Open MPI's mpirun: <test>_<processes>. Skipped where there is no plug-in or no mpirun.
add_executable(mesh_processes mesh/test_processes.c)
set_target_properties(mesh_processes PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
target_include_directories(mesh_processes PRIVATE ${CMAKE_CURRENT_SOURCE_DIR})
target_link_libraries(mesh_processes PRIVATE support_mesh module_mesh PkgConfig::CMOCKA)

# processes_test(NAME PROCESSES COMMAND…)
function(processes_test name processes)
  add_test(NAME ${name}_${processes} COMMAND sh ${CMAKE_CURRENT_SOURCE_DIR}/mesh/mpirun.sh ${processes} ${ARGN})
  set_tests_properties(${name}_${processes} PROPERTIES TIMEOUT 300 SKIP_RETURN_CODE 77 PROCESSORS 2
                       ENVIRONMENT "FLUX1_PLUGINS=${CMAKE_BINARY_DIR};HAS_PLUGIN=${FLUX1_HAS_MPI}")
endfunction()

processes_test(mesh_processes 1 $<TARGET_FILE:mesh_processes>)
processes_test(mesh_processes 2 $<TARGET_FILE:mesh_processes>)
processes_test(mesh_processes 3 $<TARGET_FILE:mesh_processes>)
