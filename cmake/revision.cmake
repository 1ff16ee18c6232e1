# cmake -DSOURCE_DIR=... -DOUTPUT=... -P revision.cmake: writes a header with the git revision of the source tree,
# "-dirty" where tracked files were changed, "unknown" where there is no git. Left as it is where nothing changed, so
# that nothing is compiled again.
set(revision "")
find_program(GIT git)
if(GIT AND EXISTS "${SOURCE_DIR}/.git")
  # A clean clone may belong to another user than the one who builds (a container): that is no danger for reading.
  execute_process(COMMAND ${GIT} -c safe.directory=* describe --always --dirty --abbrev=12 --exclude=*
                  WORKING_DIRECTORY "${SOURCE_DIR}" OUTPUT_VARIABLE revision OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
endif()
if(revision STREQUAL "")
  set(revision "unknown")
endif()
file(CONFIGURE OUTPUT "${OUTPUT}" @ONLY CONTENT [[
// Generated at each build.
#pragma once

namespace nalab::environment {

inline constexpr const char* kRevision = "@revision@";

}  // namespace nalab::environment
]])
