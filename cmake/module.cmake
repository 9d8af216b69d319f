# flux1_module(NAME SOURCES file… USES target…): the library module_NAME of src/NAME/CMakeLists.txt. It sees the public headers, its own folder and the
# modules that it uses; all modules' objects together are libflux1 (library.cmake).
function(flux1_module name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "SOURCES;USES")
  add_library(module_${name} STATIC ${arg_SOURCES})
  target_include_directories(module_${name} PUBLIC ${PROJECT_SOURCE_DIR}/include ${PROJECT_SOURCE_DIR}/src)
  target_link_libraries(module_${name} PUBLIC ${arg_USES} Threads::Threads m)
endfunction()
