# cmake -DSOURCE_DIR=... -DOUTPUT=... -P revision.cmake: writes a header with the git revision of the source tree,
# "-dirty-" and a hash of the changes where tracked files were changed, "unknown" where there is no git. Left as it is
# where nothing changed, so that nothing is compiled again.
set(revision "")
find_program(GIT git)
if(GIT AND EXISTS "${SOURCE_DIR}/.git")
  # A clean clone may belong to another user than the one who builds (a container): that is no danger for reading.
  execute_process(COMMAND ${GIT} -c safe.directory=* describe --always --dirty --abbrev=12 --exclude=*
                  WORKING_DIRECTORY "${SOURCE_DIR}" OUTPUT_VARIABLE revision OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
  # Two builds with different changes are different builds.
  if(revision MATCHES "-dirty$")
    execute_process(COMMAND ${GIT} -c safe.directory=* diff --no-ext-diff --no-color --binary HEAD
                    WORKING_DIRECTORY "${SOURCE_DIR}" OUTPUT_VARIABLE changes ERROR_QUIET)
    string(SHA1 hash "${changes}")
    string(SUBSTRING ${hash} 0 8 hash)
    string(APPEND revision "-${hash}")
  endif()
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
