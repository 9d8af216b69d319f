# The Python package (docs/python.md), where there is a python3: build/python/flux1 with every build (PYTHONPATH=build/python), and by "cmake --build build -t wheel"
# a wheel in build/dist.
find_program(FLUX1_PYTHON python3)
set(version "")
if(FLUX1_PYTHON)
  execute_process(COMMAND ${FLUX1_PYTHON} -c "import sys; print('%d.%d' % sys.version_info[:2])" OUTPUT_VARIABLE version OUTPUT_STRIP_TRAILING_WHITESPACE)
endif()
if(version VERSION_LESS 3.9)
  message(STATUS "Python package: left out (no python3 of version 3.9 or later)")
  return()
endif()
set(python_folder ${PROJECT_SOURCE_DIR}/python)
set(python_sources
  ${python_folder}/NOTICE.libraries
  ${python_folder}/build_wheel.py
  ${python_folder}/make_interface.py
  ${python_folder}/flux1/__init__.py
  ${python_folder}/flux1/_handles.py
  ${python_folder}/flux1/_library.py
  ${python_folder}/flux1/_request.py
  ${python_folder}/flux1/_stream.py
  ${python_folder}/flux1/errors.py
  ${python_folder}/flux1/picture.py
  ${python_folder}/flux1/pipeline.py
  ${python_folder}/flux1/py.typed
  ${PROJECT_SOURCE_DIR}/include/flux1.h
  ${PROJECT_SOURCE_DIR}/include/flux1_tools.h)
set(python_command ${FLUX1_PYTHON} -B ${python_folder}/build_wheel.py)
set(python_package ${CMAKE_BINARY_DIR}/python/flux1/_interface.py)
add_custom_command(OUTPUT ${python_package} COMMAND ${python_command} --library $<TARGET_FILE:flux1_shared> --stage ${CMAKE_BINARY_DIR}/python
                   DEPENDS ${python_sources} flux1_shared VERBATIM)
add_custom_target(flux1_python ALL DEPENDS ${python_package})

# The wheel's library contains what libflux1.so would ask the system for, from Debian's static libraries: one file that runs wherever glibc is as new. Their symbols
# stay inside, as all but flux1_*. Where a static library is missing the wheel has libflux1.so, and a tag for systems like this one.
set(wheel_needs "")
foreach(name png16 jpeg webpmux webp z utf8proc)
  find_library(FLUX1_STATIC_${name} lib${name}.a)
  mark_as_advanced(FLUX1_STATIC_${name})
  list(APPEND wheel_needs ${FLUX1_STATIC_${name}})
endforeach()
if(wheel_needs MATCHES NOTFOUND OR FLUX1_SANITIZE)
  message(STATUS "Python wheel: for systems like this one only (a static library of libpng, libjpeg, libwebp, zlib, utf8proc is missing)")
  add_custom_target(flux1_wheel DEPENDS flux1_shared)
  set(wheel_library $<TARGET_FILE:flux1_shared>)
else()
  add_library(flux1_wheel SHARED EXCLUDE_FROM_ALL ${library_objects} ${python_folder}/wheel_stderr.c)
  set_target_properties(flux1_wheel PROPERTIES OUTPUT_NAME flux1 LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/wheel LINKER_LANGUAGE C)
  target_link_libraries(flux1_wheel PRIVATE ${wheel_needs} Threads::Threads m ${CMAKE_DL_LIBS})
  target_link_options(flux1_wheel PRIVATE -Wl,--version-script=${PROJECT_SOURCE_DIR}/cmake/flux1.map -Wl,--wrap=stderr -s)
  set(wheel_library $<TARGET_FILE:flux1_wheel>)
endif()
add_custom_target(wheel COMMAND ${python_command} --library ${wheel_library} --out ${CMAKE_BINARY_DIR}/dist DEPENDS flux1_wheel VERBATIM)
