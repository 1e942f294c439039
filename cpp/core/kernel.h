// The contract between a kernel and the executor.
//
// A kernel is a list of phases; a phase is a number of independent tasks. The executor deals the tasks of a
// phase to its threads and puts a barrier after each phase. Everything that can change a bit of the result
// (number of tasks, chunks of a reduction, order of a sum) is a function of the parameters and the
// instruction set alone, so any number of threads gives the same bits.
//
// A kernel never allocates, never throws, never opens a parallel region, and reads and writes only through
// the pointers of its task. Unless its header says otherwise, inputs do not alias outputs, and no pointer but
// `workspace` and `scratch` is aligned to more than its element.
//
// This header holds plain data only: no inline function that an instruction set could leave to the linker.
#pragma once
#include <cstddef>
#include <cstdint>

namespace cnnmath {

// One task of one call.
struct Task {
  const int64_t* p;  // parameters: shapes and choices fixed when the program was planned
  void* const* a;    // arguments: arrays, and run-time scalars as 8-byte cells
  void* workspace;   // shared by all tasks of the call, not initialised, 64-byte aligned
  void* scratch;     // private to the thread, not initialised, 64-byte aligned
  int phase;
  int64_t index;  // 0 <= index < tasks(p, phase)
};

struct Kernel {
  const char* name;
  const char* dtype;   // "f32", "f64", "i64", "u8"; "" where it does not matter
  const char* args;    // argument names in order; "x?" may be null, a trailing "x*" repeats
  const char* fields;  // parameter names in order; a trailing "x*" takes the rest
  int (*phases)(const int64_t* p);
  int64_t (*tasks)(const int64_t* p, int phase);
  int64_t (*workspace)(const int64_t* p);  // bytes
  int64_t (*scratch)(const int64_t* p);    // bytes, a thread
  void (*run)(const Task& t);
  // How many of the first phases read nothing but the weights (the argument "w" or "b"). What they leave in the workspace
  // no later phase changes, so that it serves many runs.
  int (*packing)(const int64_t* p) = nullptr;
  // Whether it can be called with such parameters (shapes that it is made for); null where it can with all.
  bool (*takes)(const int64_t* p) = nullptr;
};

struct KernelList {
  const Kernel* first;
  int count;
};

}  // namespace cnnmath
