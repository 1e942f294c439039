#include <pybind11/stl.h>

#include <stdexcept>

#include "bindings/bindings.h"
#include "core/isa.h"
#include "core/parallel.h"

namespace py = pybind11;

void bind_machine(py::module_& m) {
  cnnmath::isa_in_use();  // a CNNMATH_ISA that cannot run fails the import, not the first call
  m.attr("version") = CNNMATH_VERSION;
#ifdef __clang__
  m.attr("compiler") = "clang++ " __clang_version__;
#else
  m.attr("compiler") = "g++ " __VERSION__;
#endif
  m.def("isas_built", &cnnmath::isas_built, "Instruction sets this build holds, best first.");
  m.def("isas_available", &cnnmath::isas_available, "Those of them that this machine has.");
  m.def("isa", &cnnmath::isa_in_use, "The instruction set in use.");
  m.def("num_cpus", &cnnmath::num_cpus, "CPUs that this process may run on.");
  m.def("cpus_of_quota", &cnnmath::cpus_of_quota, py::arg("cpu_max"),
        "CPUs that a cgroup's cpu.max line grants, rounded up; 0 where it sets no limit.");
  m.def(
      "quota_cpus", &cnnmath::quota_cpus, py::arg("membership"), py::arg("mount"),
      "CPUs that a process's cgroups grant, by a file like /proc/self/cgroup and the folder of the cgroups.");
  m.def(
      "part",
      [](const std::vector<int>& cpus, int thread, int caller) {
        if (thread < 0 || thread >= static_cast<int>(cpus.size()))
          throw std::invalid_argument("part: expected a thread of " + std::to_string(cpus.size()) + ", got " +
                                      std::to_string(thread));
        cnnmath::part(cpus.data(), thread, static_cast<int>(cpus.size()), caller);
      },
      py::arg("cpus"), py::arg("thread"), py::arg("caller"),
      "Moves the calling thread of a team where none of the team is, if one before it is on its CPU.");
  m.def("current_cpu", &cnnmath::current_cpu, "The CPU that the calling thread runs on.");
  m.def("get_num_threads", &cnnmath::num_threads);
  m.def("set_num_threads", &cnnmath::set_num_threads, py::arg("n"));
}
