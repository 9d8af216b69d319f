# What "cmake --install" installs: program, libraries, headers, pkg-config file, man page, completions, the mini models.
include(GNUInstallDirs)

# completions are made by the program itself; the man page too, and its committed copy is held equal by a test
foreach(shell bash zsh fish)
  add_custom_command(OUTPUT ${CMAKE_BINARY_DIR}/completion.${shell} COMMAND flux1 completion ${shell} > ${CMAKE_BINARY_DIR}/completion.${shell}
                     DEPENDS flux1 VERBATIM)
endforeach()
add_custom_target(flux1_completions ALL DEPENDS ${CMAKE_BINARY_DIR}/completion.bash ${CMAKE_BINARY_DIR}/completion.zsh ${CMAKE_BINARY_DIR}/completion.fish)

foreach(kind LIBDIR INCLUDEDIR) # a prefix that moves keeps its .pc file right where the folders lie inside it
  if(IS_ABSOLUTE "${CMAKE_INSTALL_${kind}}")
    set(FLUX1_PC_${kind} "${CMAKE_INSTALL_${kind}}")
  else()
    set(FLUX1_PC_${kind} "\${prefix}/${CMAKE_INSTALL_${kind}}")
  endif()
endforeach()
configure_file(${CMAKE_CURRENT_LIST_DIR}/flux1.pc.in ${CMAKE_BINARY_DIR}/flux1.pc @ONLY)

install(TARGETS flux1 flux1_shared)
install(FILES ${static_library} TYPE LIB)
install(FILES include/flux1.h include/flux1_tools.h TYPE INCLUDE)
install(FILES ${CMAKE_BINARY_DIR}/flux1.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
install(FILES docs/flux1.1 DESTINATION ${CMAKE_INSTALL_MANDIR}/man1)
install(FILES ${CMAKE_BINARY_DIR}/completion.bash DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions RENAME flux1)
install(FILES ${CMAKE_BINARY_DIR}/completion.zsh DESTINATION ${CMAKE_INSTALL_DATADIR}/zsh/site-functions RENAME _flux1)
install(FILES ${CMAKE_BINARY_DIR}/completion.fish DESTINATION ${CMAKE_INSTALL_DATADIR}/fish/vendor_completions.d RENAME flux1.fish)
if(EXISTS ${PROJECT_SOURCE_DIR}/models/mini-schnell/model_index.json)
  install(DIRECTORY models/ DESTINATION ${CMAKE_INSTALL_DATADIR}/flux1/models) # links stay links
else()
  message(STATUS "Mini models: not installed (this checkout has no models/mini-schnell)")
endif()
