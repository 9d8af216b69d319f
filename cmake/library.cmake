# libflux1 in both kinds, shared and static. Both export flux1_* only.
set(library_objects "")
set(library_modules "")
foreach(module ${FLUX1_MODULES})
  list(APPEND library_modules module_${module})
  list(APPEND library_objects $<TARGET_OBJECTS:module_${module}>)
endforeach()
set(library_needs Threads::Threads m ${CMAKE_DL_LIBS} PkgConfig::PNG ${FLUX1_PICTURE_NEEDS} PkgConfig::ZLIB PkgConfig::UTF8PROC)

# shared: the version script hides everything else
add_library(flux1_shared SHARED ${library_objects})
set_target_properties(flux1_shared PROPERTIES OUTPUT_NAME flux1 LINKER_LANGUAGE C VERSION ${PROJECT_VERSION} SOVERSION ${PROJECT_VERSION_MAJOR}
                      LINK_DEPENDS ${CMAKE_CURRENT_LIST_DIR}/flux1.map)
target_include_directories(flux1_shared INTERFACE ${PROJECT_SOURCE_DIR}/include)
target_link_libraries(flux1_shared PRIVATE ${library_needs})
target_link_options(flux1_shared PRIVATE -Wl,--version-script=${CMAKE_CURRENT_LIST_DIR}/flux1.map)

# static: one object out of all modules, in which every other symbol is made local
set(static_library ${CMAKE_BINARY_DIR}/libflux1.a)
add_custom_command(
  OUTPUT ${static_library}
  COMMAND ${CMAKE_LINKER} -r -o flux1_whole.o ${library_objects}
  COMMAND ${CMAKE_OBJCOPY} --wildcard --keep-global-symbol=flux1_* flux1_whole.o flux1_public.o
  COMMAND ${CMAKE_COMMAND} -E rm -f ${static_library}
  COMMAND ${CMAKE_AR} rcs ${static_library} flux1_public.o
  DEPENDS ${library_modules} ${library_objects}
  COMMAND_EXPAND_LISTS VERBATIM
  COMMENT "Linking libflux1.a")
add_custom_target(flux1_static_file ALL DEPENDS ${static_library})
add_library(flux1_static INTERFACE)
add_dependencies(flux1_static flux1_static_file)
target_include_directories(flux1_static INTERFACE ${PROJECT_SOURCE_DIR}/include)
target_link_libraries(flux1_static INTERFACE ${static_library} ${library_needs})
set_property(TARGET flux1_static PROPERTY INTERFACE_LINK_DEPENDS ${static_library})
