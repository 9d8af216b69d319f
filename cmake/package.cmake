# "cmake --build build -t package": Debian packages, one for each component of install.cmake. docs/releases.md describes them.
set(FLUX1_MAINTAINER "flux1 maintainers <flux1@example.org>" CACHE STRING "Maintainer of the Debian packages, Name <address>")
set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME flux1)
set(CPACK_PACKAGE_CONTACT "${FLUX1_MAINTAINER}")
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_COMPONENTS_ALL program library development)
set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_STRIP_FILES ON)
set(CPACK_THREADS 1)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_RELEASE 1)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)
set(version "${PROJECT_VERSION}-${CPACK_DEBIAN_PACKAGE_RELEASE}")
set(library_package libflux1-${PROJECT_VERSION_MAJOR})

# What a component's package is called and says of itself; further fields behind.
set(package_names "")
macro(debian_package component name section summary)
  string(TOUPPER ${component} key)
  set(CPACK_DEBIAN_${key}_PACKAGE_NAME ${name})
  set(CPACK_DEBIAN_${key}_PACKAGE_SECTION ${section})
  set(CPACK_COMPONENT_${key}_DESCRIPTION "${summary}\n${ARGN}")
  list(APPEND package_names ${component}=${name})
endmacro()

debian_package(program flux1 graphics "FLUX.1 text to image, the program"
  "It makes pictures from text with FLUX.1 schnell or dev, on CPUs, NVIDIA GPUs\nand meshes of them. It reads diffusers folders, single files, GGUF and LoRAs.")
set(CPACK_DEBIAN_PROGRAM_PACKAGE_RECOMMENDS "flux1-models, libcurl4, libssl3")
debian_package(library ${library_package} libs "FLUX.1 text to image, the library"
  "libflux1 makes pictures from text with FLUX.1 schnell or dev. This package has\nwhat programs need that use it.")
# What packages depend on that link it, and that dpkg renews the linker's cache. CPack writes scripts for that as well, which policy finds superfluous.
file(WRITE ${CMAKE_BINARY_DIR}/debian/shlibs "libflux1 ${PROJECT_VERSION_MAJOR} ${library_package} (>= ${PROJECT_VERSION})\n")
file(WRITE ${CMAKE_BINARY_DIR}/debian/triggers "activate-noawait ldconfig\n")
set(CPACK_DEBIAN_LIBRARY_PACKAGE_CONTROL_EXTRA ${CMAKE_BINARY_DIR}/debian/shlibs ${CMAKE_BINARY_DIR}/debian/triggers)
debian_package(development libflux1-dev libdevel "FLUX.1 text to image, to compile with the library"
  "Headers, static library, pkg-config file and CMake package of libflux1.")
set(CPACK_DEBIAN_DEVELOPMENT_PACKAGE_DEPENDS "${library_package} (= ${version})")
set(CPACK_DEBIAN_DEVELOPMENT_PACKAGE_SUGGESTS "libpng-dev, libjpeg-dev, libwebp-dev, zlib1g-dev, libutf8proc-dev")
if(EXISTS ${PROJECT_SOURCE_DIR}/models/mini-schnell/model_index.json)
  list(APPEND CPACK_COMPONENTS_ALL models)
  debian_package(models flux1-models graphics "FLUX.1 text to image, the mini models"
    "Two complete FLUX.1 pipelines with 7 million parameters each, for a first\npicture and for tests: 48 objects, 14 scenes, at 128x128.")
  set(CPACK_DEBIAN_MODELS_PACKAGE_ARCHITECTURE all)
endif()
if(FLUX1_HAS_MPI)
  list(APPEND CPACK_COMPONENTS_ALL mpi)
  debian_package(mpi flux1-mpi graphics "FLUX.1 text to image, on several processes"
    "The plug-in with which flux1 and libflux1 compute on a mesh of processes and\nhosts by Open MPI.")
  set(CPACK_DEBIAN_MPI_PACKAGE_DEPENDS "flux1 (= ${version}) | ${library_package} (= ${version})")
  set(CPACK_DEBIAN_MPI_PACKAGE_RECOMMENDS openmpi-bin)
endif()

configure_file(cmake/package_files.cmake.in ${CMAKE_BINARY_DIR}/package_files.cmake @ONLY)
set(CPACK_PRE_BUILD_SCRIPTS ${CMAKE_BINARY_DIR}/package_files.cmake)
include(CPack)
