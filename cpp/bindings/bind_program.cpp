#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <limits>
#include <memory>
#include <stdexcept>

#include "bindings/bindings.h"
#include "core/arena.h"
#include "core/isa.h"
#include "core/parallel.h"
#include "core/sanitize.h"
#include "program/program.h"

namespace py = pybind11;
using cnnmath::Arena;
using cnnmath::Kernel;
using cnnmath::Program;
using cnnmath::Ref;

namespace {

using Place = std::pair<int, int64_t>;
using Params = std::vector<int64_t>;

// The pointer of a bound slot: an array's data, an arena, or None.
void* pointer_of(const py::handle& slot) {
  if (py::detail::npy_api::get().PyArray_Check_(slot.ptr())) return py::detail::array_proxy(slot.ptr())->data;
  if (slot.is_none()) return nullptr;
  if (py::isinstance<Arena>(slot)) return slot.cast<Arena&>().data();
  throw py::type_error("a slot is bound to an ndarray, an Arena or None, got " +
                       std::string(py::str(py::type::handle_of(slot))));
}

void run(const Program& program, const py::list& slots, double* seconds = nullptr) {
  if (static_cast<int>(slots.size()) != program.slots())
    throw py::value_error("expected " + std::to_string(program.slots()) + " slots, got " +
                          std::to_string(slots.size()));
  std::vector<void*> pointers;
  pointers.reserve(slots.size());
  for (const auto& slot : slots) pointers.push_back(pointer_of(slot));
  const int threads = cnnmath::num_threads();
  // Kernels touch no Python object, and the caller holds every array: other Python threads may go on.
  const py::gil_scoped_release release;
  program.run(pointers.data(), threads, seconds);
}

// The same, with the seconds that each call took.
std::vector<double> run_timed(const Program& program, const py::list& slots) {
  std::vector<double> seconds(static_cast<std::size_t>(program.calls()));
  run(program, slots, seconds.data());
  return seconds;
}

// Bytes of an array, or -1 where there is no such array.
py::ssize_t bytes_of(const std::vector<py::ssize_t>& shape, const py::dtype& dtype) {
  py::ssize_t bytes = dtype.itemsize();
  for (const auto n : shape)
    if (n < 0 || __builtin_mul_overflow(bytes, n, &bytes)) return -1;
  return bytes;
}

// An array on a 64-byte aligned buffer of its own, filled with zeros.
py::array aligned_zeros(const std::vector<py::ssize_t>& shape, const py::dtype& dtype) {
  const py::ssize_t bytes = bytes_of(shape, dtype);
  if (bytes < 0) throw py::value_error("no array has that shape");
  auto arena = std::make_unique<Arena>(static_cast<std::size_t>(bytes));
  std::fill_n(arena->data(), bytes, char{0});
  Arena* raw = arena.release();
  const py::capsule owner(raw, [](void* p) { delete static_cast<Arena*>(p); });
  return py::array(dtype, shape, raw->data(), owner);
}

}  // namespace

void bind_program(py::module_& m) {
  py::class_<Kernel>(m, "Kernel", "A kernel of the instruction set in use.")
      .def_property_readonly("name", [](const Kernel& k) { return k.name; })
      .def_property_readonly("dtype", [](const Kernel& k) { return k.dtype; })
      .def_property_readonly("args", [](const Kernel& k) { return k.args; })
      .def_property_readonly("fields", [](const Kernel& k) { return k.fields; })
      .def(
          "phases", [](const Kernel& k, const Params& p) { return k.phases(p.data()); }, py::arg("params"))
      .def(
          "tasks", [](const Kernel& k, const Params& p, int phase) { return k.tasks(p.data(), phase); },
          py::arg("params"), py::arg("phase"))
      .def(
          "workspace", [](const Kernel& k, const Params& p) { return k.workspace(p.data()); },
          py::arg("params"))
      .def(
          "scratch", [](const Kernel& k, const Params& p) { return k.scratch(p.data()); }, py::arg("params"))
      .def(
          "packing", [](const Kernel& k, const Params& p) { return k.packing ? k.packing(p.data()) : 0; },
          py::arg("params"))
      .def(
          "takes", [](const Kernel& k, const Params& p) { return !k.takes || k.takes(p.data()); },
          py::arg("params"));
  m.def("find_kernel", &cnnmath::find_kernel, py::arg("name"), py::arg("dtype"),
        py::return_value_policy::reference);
  m.def("kernels", &cnnmath::all_kernels, py::return_value_policy::reference);

  py::class_<Arena>(m, "Arena", "Aligned, uninitialised memory for the temporaries of a program.")
      .def(py::init([](int64_t bytes) {
             if (bytes < 0) throw py::value_error("negative size");
             return std::make_unique<Arena>(static_cast<std::size_t>(bytes));
           }),
           py::arg("nbytes"))
      .def_property_readonly("nbytes", &Arena::size)
      .def(
          "view",
          [](const py::object& self, int64_t offset, const std::vector<py::ssize_t>& shape,
             const py::dtype& dtype) {
            const auto& arena = self.cast<const Arena&>();
            const py::ssize_t bytes = bytes_of(shape, dtype);
            const auto size = static_cast<py::ssize_t>(arena.size());
            if (offset < 0 || bytes < 0 || offset > size || bytes > size - offset)
              throw py::value_error("the view leaves the arena");
            return py::array(dtype, shape, arena.data() + offset, self);
          },
          py::arg("offset"), py::arg("shape"), py::arg("dtype"))
      .def("fence", &Arena::fence, py::arg("zones"),
           "Under AddressSanitizer: of this memory only these (offset, nbytes) may be touched.");

  m.attr("sanitized") = cnnmath::sanitized;

  py::class_<Program>(m, "Program", "A list of kernel calls on (slot, offset).")
      .def(py::init<int>(), py::arg("slots"))
      .def(
          "add",
          [](Program& program, const Kernel& kernel, Params params, const std::vector<Place>& args,
             const Place& workspace, int begin, int end) {
            std::vector<Ref> refs;
            for (const auto& [slot, offset] : args) refs.push_back({slot, offset});
            program.add(kernel, std::move(params), std::move(refs), {workspace.first, workspace.second},
                        begin, end);
          },
          py::arg("kernel"), py::arg("params"), py::arg("args"), py::arg("workspace"), py::arg("begin") = 0,
          py::arg("end") = std::numeric_limits<int>::max())
      .def_property_readonly("calls", &Program::calls)
      .def_property_readonly("scratch_bytes", &Program::scratch_bytes,
                             "Bytes of scratch that each thread needs.")
      .def(
          "run", [](const Program& program, const py::list& slots) { run(program, slots); }, py::arg("slots"),
          "Runs the program on the arrays bound to its slots.")
      .def("run_timed", &run_timed, py::arg("slots"),
           "Runs the program; gives the seconds that each call took.");

  m.def("aligned_zeros", &aligned_zeros, py::arg("shape"), py::arg("dtype"));
}
