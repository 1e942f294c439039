// Instruction sets: what was built, what the machine has, which one runs.
#pragma once
#include <string>
#include <vector>

#include "core/kernel.h"

namespace cnnmath {

// The instruction sets this library was built for, best first.
const std::vector<std::string>& isas_built();

// Those of them that this machine can run, best first.
const std::vector<std::string>& isas_available();

// The one in use: the environment variable CNNMATH_ISA where it is set, else the best available.
// Throws std::runtime_error where CNNMATH_ISA names one that was not built or that the machine lacks.
const std::string& isa_in_use();

// The kernel of that name and dtype ("f32", "f64", ...; "" kernels match any dtype) in the instruction set in
// use. Throws std::invalid_argument where there is none.
const Kernel& find_kernel(const std::string& name, const std::string& dtype);

// All kernels of the instruction set in use.
std::vector<const Kernel*> all_kernels();

}  // namespace cnnmath
