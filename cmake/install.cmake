# What find_package(nalab) finds: the library nalab::core, its public headers, and the package files. Component "core".
include(CMakePackageConfigHelpers)

set(package_folder ${CMAKE_INSTALL_LIBDIR}/cmake/nalab)
install(TARGETS nalab_core EXPORT nalabTargets ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT core)
# nalab.h and what it includes; nothing of the kernels.
foreach(header
    nalab.h attention.h context.h error.h machine.h parallel.h plan.h problem.h tensor_set.h tensors.h
    tiling.h
    geometry/axis.h geometry/bias.h geometry/permutation.h geometry/tiles.h geometry/token.h
    operators/merge_attention.h operators/permute_tokens.h operators/split_attention.h simd/isa.h
    tensor/buffer.h tensor/element.h tensor/tensor.h)
  cmake_path(GET header PARENT_PATH folder)
  install(FILES ${PROJECT_SOURCE_DIR}/core/${header} DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/nalab/${folder}
          COMPONENT core)
endforeach()
install(EXPORT nalabTargets NAMESPACE nalab:: DESTINATION ${package_folder} COMPONENT core)
configure_package_config_file(${CMAKE_CURRENT_LIST_DIR}/nalabConfig.cmake.in ${PROJECT_BINARY_DIR}/nalabConfig.cmake
                              INSTALL_DESTINATION ${package_folder})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/nalabConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/nalabConfig.cmake ${PROJECT_BINARY_DIR}/nalabConfigVersion.cmake
        DESTINATION ${package_folder} COMPONENT core)
