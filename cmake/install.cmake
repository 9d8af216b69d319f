# What "cmake --install" installs: program, libraries, headers, pkg-config file, CMake package, man page, completions, the mini models.

# completions are made by the program itself; the man page too, and its committed copy is held equal by a test
foreach(shell bash zsh fish)
  add_custom_command(OUTPUT ${CMAKE_BINARY_DIR}/completion.${shell} COMMAND flux1 completion ${shell} > ${CMAKE_BINARY_DIR}/completion.${shell}
                     DEPENDS flux1 VERBATIM)
endforeach()
add_custom_target(flux1_completions ALL DEPENDS ${CMAKE_BINARY_DIR}/completion.bash ${CMAKE_BINARY_DIR}/completion.zsh ${CMAKE_BINARY_DIR}/completion.fish)

# What a program needs beside libflux1.a. Named in Libs.private, not as Requires.private, whose compiler flags pkg-config would give everyone.
set(FLUX1_STATIC_NEEDS ${PNG_STATIC_LIBRARIES} ${FLUX1_PICTURE_LIBRARIES} ${ZLIB_STATIC_LIBRARIES} ${UTF8PROC_STATIC_LIBRARIES})
list(REMOVE_ITEM FLUX1_STATIC_NEEDS m)
list(REMOVE_DUPLICATES FLUX1_STATIC_NEEDS)
list(TRANSFORM FLUX1_STATIC_NEEDS PREPEND "-l" OUTPUT_VARIABLE needs)
list(JOIN needs " " FLUX1_PC_NEEDS)
string(APPEND FLUX1_PC_NEEDS " -pthread -lm -ldl")

# The pkg-config file and the CMake package find the prefix from where they lie, so that it may be another one at installation or move later.
foreach(kind LIBDIR INCLUDEDIR)
  if(IS_ABSOLUTE "${CMAKE_INSTALL_${kind}}")
    set(FLUX1_PC_${kind} "${CMAKE_INSTALL_${kind}}")
  else()
    set(FLUX1_PC_${kind} "\${prefix}/${CMAKE_INSTALL_${kind}}")
  endif()
endforeach()
if(IS_ABSOLUTE "${CMAKE_INSTALL_LIBDIR}")
  set(FLUX1_PC_PREFIX "${CMAKE_INSTALL_PREFIX}")
else()
  file(RELATIVE_PATH up "/prefix/${CMAKE_INSTALL_LIBDIR}/pkgconfig" "/prefix")
  set(FLUX1_PC_PREFIX "\${pcfiledir}/${up}")
  string(REGEX REPLACE "/$" "" FLUX1_PC_PREFIX "${FLUX1_PC_PREFIX}")
endif()
configure_file(${CMAKE_CURRENT_LIST_DIR}/flux1.pc.in ${CMAKE_BINARY_DIR}/flux1.pc @ONLY)
include(CMakePackageConfigHelpers)
set(package ${CMAKE_INSTALL_LIBDIR}/cmake/flux1)
configure_package_config_file(${CMAKE_CURRENT_LIST_DIR}/flux1-config.cmake.in ${CMAKE_BINARY_DIR}/flux1-config.cmake.in INSTALL_DESTINATION ${package}
                              PATH_VARS CMAKE_INSTALL_LIBDIR CMAKE_INSTALL_INCLUDEDIR)
file(GENERATE OUTPUT ${CMAKE_BINARY_DIR}/flux1-config.cmake INPUT ${CMAKE_BINARY_DIR}/flux1-config.cmake.in)
write_basic_package_version_file(${CMAKE_BINARY_DIR}/flux1-config-version.cmake COMPATIBILITY SameMinorVersion)

# Each has the package that it goes into (package.cmake).
install(TARGETS flux1 RUNTIME COMPONENT program)
install(TARGETS flux1_shared LIBRARY COMPONENT library NAMELINK_COMPONENT development)
if(FLUX1_HAS_MPI)
  install(TARGETS flux1_mpi LIBRARY DESTINATION ${FLUX1_PLUGIN_FOLDER} COMPONENT mpi)
endif()
install(FILES ${static_library} DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT development)
install(FILES include/flux1.h include/flux1_tools.h TYPE INCLUDE COMPONENT development)
install(FILES ${CMAKE_BINARY_DIR}/flux1.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig COMPONENT development)
install(FILES ${CMAKE_BINARY_DIR}/flux1-config.cmake ${CMAKE_BINARY_DIR}/flux1-config-version.cmake DESTINATION ${package} COMPONENT development)
install(FILES LICENSE NOTICE CHANGELOG.md TYPE DOC COMPONENT licences) # of each Debian package: copyright, changelog
install(FILES docs/jsonl.schema.json TYPE DOC COMPONENT program)
install(FILES tools/ttnn/flux1_ttnn.py tools/ttnn/flux1_ttnn_kit.py tools/ttnn/flux1_ttnn_cases.py DESTINATION ${CMAKE_INSTALL_DATADIR}/flux1 COMPONENT program)
install(FILES docs/flux1.1 DESTINATION ${CMAKE_INSTALL_MANDIR}/man1 COMPONENT program)
install(FILES ${CMAKE_BINARY_DIR}/completion.bash DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions RENAME flux1 COMPONENT program)
install(FILES ${CMAKE_BINARY_DIR}/completion.zsh DESTINATION ${CMAKE_INSTALL_DATADIR}/zsh/site-functions RENAME _flux1 COMPONENT program)
install(FILES ${CMAKE_BINARY_DIR}/completion.fish DESTINATION ${CMAKE_INSTALL_DATADIR}/fish/vendor_completions.d RENAME flux1.fish COMPONENT program)
if(FLUX1_HAS_SERVE)
  # the unit names the program by its whole path, which is known when it is installed: --prefix, and packages' own
  # (in a function: a variable "program" would change what the script's if(… STREQUAL "program") mean)
  if(IS_ABSOLUTE "${CMAKE_INSTALL_BINDIR}")
    set(program_folder "${CMAKE_INSTALL_BINDIR}")
  else()
    set(program_folder "\${CMAKE_INSTALL_PREFIX}/${CMAKE_INSTALL_BINDIR}")
  endif()
  install(CODE "function(write_unit)
  set(program \"${program_folder}/flux1\")
  configure_file(\"${PROJECT_SOURCE_DIR}/packaging/flux1.service.in\" \"${CMAKE_BINARY_DIR}/flux1.service\" @ONLY)
endfunction()
write_unit()" COMPONENT program)
  install(FILES ${CMAKE_BINARY_DIR}/flux1.service DESTINATION lib/systemd/system COMPONENT program) # systemd looks here below /usr and /usr/local, whatever the libraries' folder is
  install(FILES docs/serve.md docs/deploy.md packaging/haproxy.cfg packaging/nginx.conf TYPE DOC COMPONENT program)
endif()
if(EXISTS ${PROJECT_SOURCE_DIR}/models/mini-schnell/model_index.json)
  install(DIRECTORY models/ DESTINATION ${CMAKE_INSTALL_DATADIR}/flux1/models COMPONENT models) # links stay links
else()
  message(STATUS "Mini models: not installed (this checkout has no models/mini-schnell)")
endif()
