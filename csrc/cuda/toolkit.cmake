# Whether csrc/cuda is built, and with what. Sets NEMOTRON_H_CUDA_VERSION to the toolkit's version, or to nothing,
# and enables the CUDA language. At run time only the driver is needed: CUDA's runtime is linked statically.
set(NEMOTRON_H_CUDA AUTO CACHE STRING "AUTO: where nvcc 12.4 or newer is found; ON; OFF")
set(NEMOTRON_H_CUDA_VERSION "")
if(NOT NEMOTRON_H_CUDA MATCHES "^(AUTO|ON|OFF)$")
  message(FATAL_ERROR "nemotron-h: NEMOTRON_H_CUDA is ${NEMOTRON_H_CUDA}, expected AUTO, ON or OFF")
endif()
if(NEMOTRON_H_CUDA STREQUAL OFF)
  return()
endif()

function(nemotron_h_without_cuda reason)
  if(NEMOTRON_H_CUDA STREQUAL ON)
    message(FATAL_ERROR "nemotron-h: ${reason}, and NEMOTRON_H_CUDA is ON")
  endif()
  message(STATUS "nemotron-h: ${reason}: building for the CPU only")
endfunction()

# CUDACXX names the compiler itself; then come CUDA_HOME and CUDA_PATH, then PATH.
get_filename_component(cudacxx_folder "$ENV{CUDACXX}" DIRECTORY)
find_program(NEMOTRON_H_NVCC nvcc
             HINTS ${cudacxx_folder} ENV CUDA_HOME ENV CUDA_PATH PATHS /usr/local/cuda PATH_SUFFIXES bin)
set(nvcc_version 0)
if(NEMOTRON_H_NVCC)
  execute_process(COMMAND ${NEMOTRON_H_NVCC} --version OUTPUT_VARIABLE nvcc_says ERROR_QUIET)
  if(nvcc_says MATCHES ", V([0-9.]+)")
    set(nvcc_version ${CMAKE_MATCH_1})
  endif()
endif()
if(nvcc_version VERSION_LESS 12.4)
  nemotron_h_without_cuda("nvcc 12.4 or newer not found")
  return()
endif()

# The runtime's header: the emulator needs it, and the C++ files of csrc/cuda.
execute_process(COMMAND ${NEMOTRON_H_NVCC} --dryrun -x cu -E ${CMAKE_CURRENT_LIST_FILE} ERROR_VARIABLE nvcc_plan
                OUTPUT_QUIET)
string(REGEX MATCH "TOP=([^\r\n]+)" top "${nvcc_plan}")
get_filename_component(toolkit_root "${CMAKE_MATCH_1}" REALPATH)
find_path(NEMOTRON_H_CUDA_INCLUDE cuda_runtime_api.h REQUIRED
          HINTS ${toolkit_root}/include ${toolkit_root}/targets/x86_64-linux/include)
if(NEMOTRON_H_SIMT)
  set(NEMOTRON_H_CUDA_VERSION ${nvcc_version})
  return()
endif()

# nvcc refuses C++ compilers newer than it knows.
set(trial ${CMAKE_BINARY_DIR}/CMakeFiles/nemotron_h_cuda.cu)
file(WRITE ${trial} "#include <string>\n")
execute_process(COMMAND ${NEMOTRON_H_NVCC} -std=c++20 -ccbin ${CMAKE_CXX_COMPILER} -c ${trial} -o ${trial}.o
                RESULT_VARIABLE failed OUTPUT_QUIET ERROR_QUIET)
if(failed)
  set(compiler "${CMAKE_CXX_COMPILER} ${CMAKE_CXX_COMPILER_VERSION}")
  nemotron_h_without_cuda("nvcc ${nvcc_version} does not work with ${compiler}")
  return()
endif()

if(DEFINED ENV{CUDAARCHS})
  set(CMAKE_CUDA_ARCHITECTURES $ENV{CUDAARCHS})
elseif(nvcc_version VERSION_LESS 12.8)
  set(CMAKE_CUDA_ARCHITECTURES 80 90a) # the PTX of 80 serves newer GPUs
else()
  set(CMAKE_CUDA_ARCHITECTURES 80 90a 120)
endif()
set(CMAKE_CUDA_COMPILER ${NEMOTRON_H_NVCC})
set(CMAKE_CUDA_HOST_COMPILER ${CMAKE_CXX_COMPILER})
set(CMAKE_CUDA_RUNTIME_LIBRARY Static)
enable_language(CUDA)
if(NOT CMAKE_CUDA_COMPILER_LAUNCHER)
  set(CMAKE_CUDA_COMPILER_LAUNCHER ${CMAKE_CURRENT_LIST_DIR}/ptxas-check)
endif()
if(NOT CMAKE_CUDA20_EXTENSION_COMPILE_OPTION) # nvcc takes C++20 since 12.0; CMake knows only later
  set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION -std=c++20)
endif()
set(NEMOTRON_H_CUDA_VERSION ${nvcc_version})
message(STATUS "nemotron-h: building with CUDA ${nvcc_version} for ${CMAKE_CUDA_ARCHITECTURES}")
