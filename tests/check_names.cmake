# Fails if the test EXECUTABLE lists a test whose name is not the same in every build and run, or does not say the case:
# bytes or an address of a parameter, or nothing but its number.
execute_process(COMMAND ${EXECUTABLE} --gtest_list_tests OUTPUT_VARIABLE listing COMMAND_ERROR_IS_FATAL ANY)
string(REPEAT "[0-9a-f]" 6 six_digits)
if(listing MATCHES "[^\n]*(byte object|0x${six_digits}|/[0-9]+ +# GetParam)[^\n]*")
  message(FATAL_ERROR "the name of a parameterized test does not say its case: ${CMAKE_MATCH_0}")
endif()
