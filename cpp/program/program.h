// The planned program and its executor.
//
// A Program is a list of kernel calls on (slot, offset). A run binds the slots (arena, parameters, inputs,
// outputs, cells) to base pointers, so many runs may share one Program. One parallel region serves a whole
// run; kernels get their tasks and their barriers from here.
#pragma once
#include <cstdint>
#include <limits>
#include <memory>
#include <mutex>
#include <vector>

#include "core/kernel.h"

namespace cnnmath {

// A place in a slot. Slot -1 is a null pointer (an optional argument left out).
struct Ref {
  int slot;
  int64_t offset;
};

class Program {
 public:
  explicit Program(int slots);
  ~Program();

  // Appends a call, or the part of its phases from `begin` to `end`. `workspace` says where the kernel's shared workspace
  // lies. Throws std::invalid_argument where the numbers of parameters or arguments do not fit the kernel, or a slot does
  // not exist.
  void add(const Kernel& kernel, std::vector<int64_t> params, std::vector<Ref> args, Ref workspace,
           int begin = 0, int end = std::numeric_limits<int>::max());

  // Runs all calls on at most `threads` threads. `slots` holds one base pointer for each slot. Where `seconds`
  // is given, the time of each call is added to its entry there, by the clock of the calling thread: until all
  // threads are done with the call.
  void run(void* const* slots, int threads, double* seconds = nullptr) const;

  int slots() const { return slots_; }
  int64_t calls() const { return static_cast<int64_t>(calls_.size()); }
  int64_t scratch_bytes() const { return scratch_; }  // a thread

 private:
  struct Call {
    const Kernel* kernel;
    std::vector<int64_t> params;
    std::size_t first_arg;  // its arguments in args_, the workspace behind them
    std::size_t num_args;
  };
  struct Step {  // one phase of one call
    std::size_t call;
    int phase;
    int64_t tasks;
  };
  struct RunState;
  friend struct RunState;

  void run_task(const Step& step, int64_t index, const RunState& state, void* scratch) const;
  void run_thread(RunState& state, int thread, int threads) const;
  std::unique_ptr<RunState> acquire(int threads) const;
  void release(std::unique_ptr<RunState> state) const;

  int slots_;
  std::vector<Call> calls_;
  std::vector<Ref> args_;
  std::vector<Step> steps_;
  int64_t scratch_ = 0;
  int64_t most_tasks_ = 0;

  // States of earlier runs, kept so that a run allocates nothing; concurrent runs take several.
  mutable std::mutex mutex_;
  mutable std::vector<std::unique_ptr<RunState>> idle_;
};

}  // namespace cnnmath
