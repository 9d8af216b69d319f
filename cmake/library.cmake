# libflux1 in both kinds, the executable on top of it, and what is installed. Both libraries export flux1_* only.
if(NOT TARGET room_pipeline)
  return()
endif()
include(GNUInstallDirs)

set(library_objects "")
foreach(room ${room_objects})
  list(APPEND library_objects $<TARGET_OBJECTS:${room}>)
endforeach()
set(library_needs Threads::Threads m ${CMAKE_DL_LIBS} PkgConfig::JANSSON PkgConfig::PNG PkgConfig::UTF8PROC)

# shared: the version script hides everything else
add_library(flux1_shared SHARED ${library_objects})
set_target_properties(flux1_shared PROPERTIES OUTPUT_NAME flux1 LINKER_LANGUAGE C VERSION ${PROJECT_VERSION} SOVERSION ${PROJECT_VERSION_MAJOR}
                      LINK_DEPENDS ${CMAKE_CURRENT_LIST_DIR}/flux1.map)
target_include_directories(flux1_shared INTERFACE include)
target_link_libraries(flux1_shared PRIVATE ${library_needs})
target_link_options(flux1_shared PRIVATE -Wl,--version-script=${CMAKE_CURRENT_LIST_DIR}/flux1.map)

# static: one object out of all rooms, in which every other symbol is made local
set(static_library ${CMAKE_BINARY_DIR}/libflux1.a)
add_custom_command(
  OUTPUT ${static_library}
  COMMAND ${CMAKE_LINKER} -r -o flux1_whole.o ${library_objects}
  COMMAND ${CMAKE_OBJCOPY} --wildcard --keep-global-symbol=flux1_* flux1_whole.o flux1_public.o
  COMMAND ${CMAKE_COMMAND} -E rm -f ${static_library}
  COMMAND ${CMAKE_AR} rcs ${static_library} flux1_public.o
  DEPENDS ${room_objects} ${library_objects}
  COMMAND_EXPAND_LISTS VERBATIM
  COMMENT "Linking libflux1.a")
add_custom_target(flux1_static_file ALL DEPENDS ${static_library})
add_library(flux1_static INTERFACE)
add_dependencies(flux1_static flux1_static_file)
target_include_directories(flux1_static INTERFACE include)
target_link_libraries(flux1_static INTERFACE ${static_library} ${library_needs})

# the command line sees the public headers and base, nothing else
file(GLOB cli_sources CONFIGURE_DEPENDS src/cli/*.c)
add_executable(flux1 ${cli_sources})
target_include_directories(flux1 PRIVATE src)
target_compile_definitions(flux1 PRIVATE FLUX1_SOURCE_MODELS="${CMAKE_SOURCE_DIR}/models")
target_link_libraries(flux1 PRIVATE flux1_static room_base)
set_property(TARGET flux1 APPEND PROPERTY LINK_DEPENDS ${static_library})

# the interface's first user
add_executable(example_generate examples/generate.c)
target_link_libraries(example_generate PRIVATE flux1_shared)

add_executable(contact_sheet examples/contact_sheet.c)
target_link_libraries(contact_sheet PRIVATE flux1_static)

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
install(DIRECTORY models/ DESTINATION ${CMAKE_INSTALL_DATADIR}/flux1/models OPTIONAL) # links stay links
