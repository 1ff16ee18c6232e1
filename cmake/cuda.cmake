# NALAB_CUDA: whether the kernels for GPUs are built (core/gpu/). Sets NALAB_WITH_CUDA.
#
# They need CUDA 12.3 or newer. AUTO builds them where such a compiler is found. What is installed never needs CUDA.
set(NALAB_CUDA AUTO CACHE STRING "Build the kernels for GPUs: AUTO, ON or OFF")
set_property(CACHE NALAB_CUDA PROPERTY STRINGS AUTO ON OFF)

set(NALAB_WITH_CUDA OFF)
if(NALAB_CUDA STREQUAL "AUTO")
  include(CheckLanguage)
  check_language(CUDA)
  if(CMAKE_CUDA_COMPILER)
    execute_process(COMMAND ${CMAKE_CUDA_COMPILER} --version OUTPUT_VARIABLE nvcc_text)
    string(REGEX MATCH "release ([0-9]+\\.[0-9]+)" nvcc_release "${nvcc_text}")
    if(CMAKE_MATCH_1 VERSION_GREATER_EQUAL 12.3)
      set(NALAB_WITH_CUDA ON)
    else()
      message(STATUS "No kernels for GPUs: they need CUDA 12.3, found ${CMAKE_MATCH_1}")
    endif()
  endif()
elseif(NALAB_CUDA)
  set(NALAB_WITH_CUDA ON)
endif()

if(NALAB_WITH_CUDA)
  set(CMAKE_CUDA_ARCHITECTURES OFF)  # those of each source: core/gpu/hopper/CMakeLists.txt
  enable_language(CUDA)
  if(NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION)  # CMake 3.25 does not know that nvcc has it
    set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION -std=c++20)
    set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION -std=c++20)
  endif()
  find_package(CUDAToolkit 12.3 REQUIRED)
endif()
