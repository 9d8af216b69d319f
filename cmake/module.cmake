# flux1_module(NAME SOURCES file… [FUZZED file…] USES target…): the library module_NAME of src/NAME/CMakeLists.txt. It sees the public headers, its own folder and
# the modules that it uses; all modules' objects together are libflux1 (library.cmake). FUZZED: of SOURCES those that harnesses of tests/fuzz call, where these are few;
# a build of the fuzzers compiles no others (a link that fails names what is missing here).
function(flux1_module name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "SOURCES;FUZZED;USES")
  if(FLUX1_FUZZ AND arg_FUZZED)
    set(arg_SOURCES ${arg_FUZZED})
  endif()
  add_library(module_${name} STATIC ${arg_SOURCES})
  target_include_directories(module_${name} PUBLIC ${PROJECT_SOURCE_DIR}/include ${PROJECT_SOURCE_DIR}/src)
  target_link_libraries(module_${name} PUBLIC ${arg_USES} Threads::Threads m)
endfunction()
