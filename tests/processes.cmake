# Tests on several processes, under Open MPI's mpirun: <test>_<processes>. Skipped where there is no plug-in or no mpirun.
function(processes_program target source)
  add_executable(${target} ${source})
  set_target_properties(${target} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
  target_include_directories(${target} PRIVATE ${CMAKE_CURRENT_SOURCE_DIR})
  target_compile_definitions(${target} PRIVATE TEST_PROCESSES=1)
  target_link_libraries(${target} PRIVATE support_mesh module_mesh PkgConfig::CMOCKA)
endfunction()

# processes_test(NAME PROCESSES COMMAND…)
function(processes_test name processes)
  add_test(NAME ${name}_${processes} COMMAND sh ${CMAKE_CURRENT_SOURCE_DIR}/mesh/mpirun.sh ${processes} ${ARGN})
  set_tests_properties(${name}_${processes} PROPERTIES TIMEOUT 300 SKIP_RETURN_CODE 77 PROCESSORS 2
                       ENVIRONMENT "FLUX1_PLUGINS=${CMAKE_BINARY_DIR};HAS_PLUGIN=${FLUX1_HAS_MPI}")
endfunction()

processes_program(mesh_processes mesh/test_processes.c)
target_link_options(mesh_processes PRIVATE -Wl,--wrap=clock_seconds)
processes_program(mesh_processes_comm mesh/test_processes_comm.c)
processes_program(mesh_processes_forms mesh/test_forms.c)
processes_program(mesh_processes_session mesh/test_session.c)
foreach(processes 1 2 3)
  processes_test(mesh_processes ${processes} $<TARGET_FILE:mesh_processes>)
  processes_test(mesh_processes_comm ${processes} $<TARGET_FILE:mesh_processes_comm>)
endforeach()
processes_test(mesh_processes_session 2 $<TARGET_FILE:mesh_processes_session>)
processes_test(mesh_processes_forms 2 $<TARGET_FILE:mesh_processes_forms>)
processes_test(mesh_processes_forms 3 $<TARGET_FILE:mesh_processes_forms>)

# processes that end badly
processes_program(mesh_processes_scenario mesh/processes_scenario.c)
foreach(how killed stopped versions)
  add_test(NAME mesh_processes_${how} COMMAND sh ${CMAKE_CURRENT_SOURCE_DIR}/mesh/processes_end.sh $<TARGET_FILE:mesh_processes_scenario> ${how})
  set_tests_properties(mesh_processes_${how} PROPERTIES TIMEOUT 300 SKIP_RETURN_CODE 77
                       ENVIRONMENT "FLUX1_PLUGINS=${CMAKE_BINARY_DIR};HAS_PLUGIN=${FLUX1_HAS_MPI}")
endforeach()
add_test(NAME mesh_processes_network COMMAND bash ${CMAKE_CURRENT_SOURCE_DIR}/mesh/processes_network.sh $<TARGET_FILE:mesh_processes_scenario>)
set_tests_properties(mesh_processes_network PROPERTIES TIMEOUT 300 SKIP_RETURN_CODE 77
                     ENVIRONMENT "FLUX1_PLUGINS=${CMAKE_BINARY_DIR};HAS_PLUGIN=${FLUX1_HAS_MPI}")

target_link_options(pipeline_test_hosts PRIVATE -Wl,--wrap=processes_count,--wrap=processes_index -Wl,--wrap=processes_info,--wrap=processes_ranks,--wrap=session_reserve,--wrap=text_cache_limit)

# the pipeline
add_executable(pipeline_processes pipeline/test_processes.c)
set_target_properties(pipeline_processes PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
target_include_directories(pipeline_processes PRIVATE ${CMAKE_CURRENT_SOURCE_DIR})
target_link_options(pipeline_processes PRIVATE -Wl,--wrap=ops_begin,--wrap=store_sample,--wrap=ops_cpu_multiplies_bf16)
target_link_libraries(pipeline_processes PRIVATE support_pipeline module_pipeline PkgConfig::CMOCKA)
foreach(run "2;2x1;host" "2;1x2;" "2;2x2;" "4;2x2;")
  list(GET run 0 processes)
  list(GET run 1 shape)
  list(GET run 2 encoders)
  processes_test(pipeline_processes_${shape} ${processes} $<TARGET_FILE:pipeline_processes> ${shape} ${encoders})
endforeach()
foreach(mixed mixed-int8 mixed-bf16)
  processes_test(pipeline_processes_${mixed} 2 $<TARGET_FILE:pipeline_processes> 2x1 ${mixed})
endforeach()

# the tools
target_link_options(tools_test_profile PRIVATE -Wl,--wrap=clock_seconds)
foreach(shape 2x1 2x2)
  processes_test(tools_profile_${shape} 2 $<TARGET_FILE:tools_test_profile> ${shape})
endforeach()
