// System calls of which a test must see the order, or bring about the failure: it puts functions of its own in their
// place.
#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <cstdio>

namespace nalab::store {

struct SystemCalls {
  int (*open)(const char* path, int flags, mode_t mode) = [](const char* path, int flags, mode_t mode) {
    return ::open(path, flags, mode);
  };
  ssize_t (*pwrite)(int descriptor, const void* data, std::size_t size, off_t offset) = &::pwrite;
  int (*fsync)(int descriptor) = &::fsync;
  int (*rename)(const char* from, const char* to) = &std::rename;
};

inline SystemCalls system_calls;

}  // namespace nalab::store
