# Cross-building for arm64 on Debian: gcc-aarch64-linux-gnu, and qemu-aarch64 (qemu-user) to run tests with. scripts/check-arm64 uses it:
#   cmake -S . -B build-arm64 -DCMAKE_TOOLCHAIN_FILE=cmake/aarch64.cmake -DFLUX1_ARM64_LIBRARIES=FOLDER
# FLUX1_ARM64_LIBRARIES: arm64 packages, unpacked (FOLDER/usr/include, FOLDER/usr/lib/aarch64-linux-gnu); scripts/check-arm64 makes one. Left out: this
# system's own, where Debian's arm64 packages are installed beside the others.
# FLUX1_ARM64_CPU: the processor that qemu plays (default: max, with bf16, i8mm and dot products; cortex-a76 has dot products, cortex-a72 neither).
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)
set(CMAKE_TRY_COMPILE_PLATFORM_VARIABLES FLUX1_ARM64_LIBRARIES)

set(CMAKE_FIND_ROOT_PATH /usr/aarch64-linux-gnu)
if(FLUX1_ARM64_LIBRARIES)
  get_filename_component(FLUX1_ARM64_LIBRARIES "${FLUX1_ARM64_LIBRARIES}" ABSOLUTE)
  list(PREPEND CMAKE_FIND_ROOT_PATH "${FLUX1_ARM64_LIBRARIES}")
  set(ENV{PKG_CONFIG_SYSROOT_DIR} "${FLUX1_ARM64_LIBRARIES}")
  set(ENV{PKG_CONFIG_LIBDIR} "${FLUX1_ARM64_LIBRARIES}/usr/lib/aarch64-linux-gnu/pkgconfig:${FLUX1_ARM64_LIBRARIES}/usr/share/pkgconfig")
  set(CMAKE_C_FLAGS_INIT "-isystem ${FLUX1_ARM64_LIBRARIES}/usr/include/aarch64-linux-gnu")
  # what a library links is looked for beside it: some packages have theirs in /lib; and with the old tag also when it runs
  set(CMAKE_EXE_LINKER_FLAGS_INIT "-Wl,--disable-new-dtags,-rpath-link,${FLUX1_ARM64_LIBRARIES}/usr/lib/aarch64-linux-gnu:${FLUX1_ARM64_LIBRARIES}/lib/aarch64-linux-gnu")
  set(CMAKE_BUILD_RPATH "${FLUX1_ARM64_LIBRARIES}/usr/lib/aarch64-linux-gnu;${FLUX1_ARM64_LIBRARIES}/lib/aarch64-linux-gnu")
else()
  set(ENV{PKG_CONFIG_LIBDIR} "/usr/lib/aarch64-linux-gnu/pkgconfig:/usr/share/pkgconfig")
  list(APPEND CMAKE_FIND_ROOT_PATH /usr/lib/aarch64-linux-gnu)
endif()
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY BOTH)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)

set(FLUX1_ARM64_CPU max CACHE STRING "Processor that qemu-aarch64 plays")
set(CMAKE_CROSSCOMPILING_EMULATOR qemu-aarch64 -cpu ${FLUX1_ARM64_CPU} -L /usr/aarch64-linux-gnu)
