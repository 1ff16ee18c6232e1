#!/bin/sh
# Runs the compiler that is named by its arguments, and fails if ptxas has serialized matrix products (wgmma) or ignored
# the division of registers (setmaxnreg): codes C7500 to C7599, but for C7519, which tells of a fence that it has added.
# It reports them as information: the program is right without, and much slower.
report=$("$@" 2>&1)
status=$?
[ -z "$report" ] || printf '%s\n' "$report" | grep -v 'C7519' >&2
if printf '%s\n' "$report" | grep -v 'C7519' | grep -q '(C75[0-9][0-9])'; then
  exit 1
fi
exit $status
