#include "bindings/bindings.h"

PYBIND11_MODULE(_core, m) {
  m.doc() = "The C++ core of cnnmath: kernels, programs, threads. Private: use the cnnmath package.";
  bind_machine(m);
  bind_program(m);
}
