# cmake -DBUILD=... -DFOLDER=... -DBIN=... -DDATA=... -DEXECUTABLE=... -DREADELF=... -DNM=... -P moved_tree.cmake
cmake_minimum_required(VERSION 3.25)
file(REMOVE_RECURSE ${FOLDER})
execute_process(COMMAND ${CMAKE_COMMAND} --install ${BUILD} --prefix ${FOLDER}/first
                OUTPUT_QUIET COMMAND_ERROR_IS_FATAL ANY)
file(RENAME ${FOLDER}/first ${FOLDER}/moved)
set(installed ${FOLDER}/moved/${BIN}/nalab)

# Configurations: those beside the executable, also if it is called by a link.
file(CREATE_LINK ${installed} ${FOLDER}/link SYMBOLIC)
foreach(command ${installed} ${FOLDER}/link)
  execute_process(COMMAND ${command} list configs WORKING_DIRECTORY ${FOLDER}
                  OUTPUT_VARIABLE listed COMMAND_ERROR_IS_FATAL ANY)
  string(FIND "${listed}" "${FOLDER}/moved/${DATA}/nalab/configs/smoke.yaml" found)
  if(found EQUAL -1)
    message(FATAL_ERROR "${command} list configs does not name the installed ones: ${listed}")
  endif()
endforeach()

# An empty element of the path of libraries stands for the current folder: anybody's.
foreach(file ${EXECUTABLE} ${installed})
  execute_process(COMMAND ${READELF} -d ${file} OUTPUT_VARIABLE dynamic COMMAND_ERROR_IS_FATAL ANY)
  if(NOT dynamic MATCHES "NEEDED")
    message(FATAL_ERROR "${READELF} says nothing of ${file}: ${dynamic}")
  endif()
  string(REGEX MATCH "R(UN)?PATH[^\n]*" path "${dynamic}")
  if(path MATCHES "\\[:" OR path MATCHES "::" OR path MATCHES ":]" OR path MATCHES "\\[]")
    message(FATAL_ERROR "${file}: ${path}")
  endif()
endforeach()

# What needs CUDA is in the executable alone, not in what other projects link.
file(GLOB_RECURSE packages ${FOLDER}/moved/*.cmake)
file(GLOB_RECURSE libraries ${FOLDER}/moved/*.a)
if(NOT packages OR NOT libraries)
  message(FATAL_ERROR "no package or no library in ${FOLDER}/moved")
endif()
foreach(file ${packages})
  file(READ ${file} text)
  if(text MATCHES "CUDA|cuda")
    message(FATAL_ERROR "${file} speaks of CUDA")
  endif()
endforeach()
foreach(file ${libraries})
  execute_process(COMMAND ${NM} -u ${file} OUTPUT_VARIABLE symbols COMMAND_ERROR_IS_FATAL ANY)
  if(symbols MATCHES "[^\n]* U cu[^\n]*")
    message(FATAL_ERROR "${file} needs ${CMAKE_MATCH_0}")
  endif()
endforeach()
