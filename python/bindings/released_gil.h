// Computing while other threads of Python run.
#pragma once

#include <Python.h>
#include <unistd.h>

namespace nalab::python {

/// The GIL is released as long as this lives. Where the interpreter ends meanwhile, as with a daemon thread that still
/// computes, the thread waits for the end of the process. Python before 3.14 ends it by pthread_exit instead, whose
/// unwinding no destructor lets pass: nanobind's gil_scoped_release would abort the process.
class ReleasedGil {
 public:
  ReleasedGil() : state_(PyEval_SaveThread()) {}
  ~ReleasedGil() {
    try {
      PyEval_RestoreThread(state_);
    } catch (...) {
      for (;;) ::pause();
    }
  }
  ReleasedGil(const ReleasedGil&) = delete;
  ReleasedGil& operator=(const ReleasedGil&) = delete;

 private:
  PyThreadState* state_;
};

}  // namespace nalab::python
