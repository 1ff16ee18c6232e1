# What find_package(nalab) finds: the library nalab::core, its headers, and the package files. Component "core".
include(CMakePackageConfigHelpers)

set(package_folder ${CMAKE_INSTALL_LIBDIR}/cmake/nalab)
install(TARGETS nalab_core EXPORT nalabTargets ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT core)
install(DIRECTORY ${PROJECT_SOURCE_DIR}/core DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/nalab COMPONENT core
        FILES_MATCHING PATTERN "*.h" PATTERN "*-inl.h" EXCLUDE)
install(EXPORT nalabTargets NAMESPACE nalab:: DESTINATION ${package_folder} COMPONENT core)
configure_package_config_file(${CMAKE_CURRENT_LIST_DIR}/nalabConfig.cmake.in ${PROJECT_BINARY_DIR}/nalabConfig.cmake
                              INSTALL_DESTINATION ${package_folder})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/nalabConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/nalabConfig.cmake ${PROJECT_BINARY_DIR}/nalabConfigVersion.cmake
        DESTINATION ${package_folder} COMPONENT core)
