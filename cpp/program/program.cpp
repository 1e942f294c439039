#include "program/program.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <stdexcept>
#include <string>

#include "core/arena.h"
#include "core/parallel.h"
#include "core/sanitize.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace cnnmath {
namespace {

// Denormals are slow and carry nothing here: flushed inside kernels, the caller's setting restored.
class FlushDenormals {
 public:
#if defined(__x86_64__)
  FlushDenormals() : saved_(_mm_getcsr()) { _mm_setcsr(saved_ | 0x8040u); }
  ~FlushDenormals() { _mm_setcsr(saved_); }

 private:
  unsigned saved_;
#elif defined(__aarch64__)
  FlushDenormals() {
    asm volatile("mrs %0, fpcr" : "=r"(saved_));
    asm volatile("msr fpcr, %0" : : "r"(saved_ | (uint64_t{1} << 24)));
  }
  ~FlushDenormals() { asm volatile("msr fpcr, %0" : : "r"(saved_)); }

 private:
  uint64_t saved_;
#endif
};

// A space-separated list of names: how many there are, and whether the last one repeats.
struct Names {
  int64_t count = 0;
  bool repeats = false;

  explicit Names(const std::string& list) {
    std::size_t at = 0;
    while ((at = list.find_first_not_of(' ', at)) != std::string::npos) {
      ++count;
      at = std::min(list.find(' ', at), list.size());
    }
    repeats = !list.empty() && list.back() == '*';
  }

  bool fit(std::size_t n) const {
    const auto given = static_cast<int64_t>(n);
    return repeats ? given >= count - 1 : given == count;
  }
};

// A thread's share of the tasks of a step: the next one to take. Those who are done with theirs help the
// others.
struct alignas(64) Share {
  std::atomic<int64_t> next{0};
};

int64_t share_begin(int64_t tasks, int thread, int threads) { return tasks * thread / threads; }

double seconds_now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace

struct Program::RunState {
  const Program* program = nullptr;
  std::vector<void*> args;
  int threads = 0;
  std::size_t stride = 0;  // of the threads' scratch
  std::unique_ptr<Arena> scratch;
  std::unique_ptr<Share[]> shares;  // three sets in turn: in use, drained, being refilled
  std::unique_ptr<int[]> cpus;      // that the threads were on at the start
  int caller = 0;                   // the thread that called
  Barrier barrier;
  double* seconds = nullptr;  // of each call, where somebody wants to know
  double since = 0;

  // What has passed since the last time goes to the step that has just ended.
  void took(const Step& step) {
    const double now = seconds_now();
    seconds[step.call] += now - since;
    since = now;
  }

  Share& share(std::size_t step, int thread) const {
    return shares[step % 3 * static_cast<std::size_t>(threads) + static_cast<std::size_t>(thread)];
  }
};

Program::Program(int slots) : slots_(slots) {}
Program::~Program() = default;

void Program::add(const Kernel& kernel, std::vector<int64_t> params, std::vector<Ref> args, Ref workspace,
                  int begin, int end) {
  const std::string name = std::string(kernel.name) + "." + kernel.dtype;
  if (!Names(kernel.args).fit(args.size()))
    throw std::invalid_argument(name + ": got " + std::to_string(args.size()) + " arguments for '" +
                                kernel.args + "'");
  if (!Names(kernel.fields).fit(params.size()))
    throw std::invalid_argument(name + ": got " + std::to_string(params.size()) + " parameters for '" +
                                kernel.fields + "'");
  args.push_back(workspace);
  for (const Ref& ref : args)
    if (ref.slot < -1 || ref.slot >= slots_ || ref.offset < 0)
      throw std::invalid_argument(name + ": no place " + std::to_string(ref.slot) + ":" +
                                  std::to_string(ref.offset));

  const int64_t* p = params.data();
  for (int phase = begin; phase < std::min(end, kernel.phases(p)); ++phase) {
    const int64_t tasks = kernel.tasks(p, phase);
    if (tasks <= 0) continue;
    steps_.push_back({calls_.size(), phase, tasks});
    most_tasks_ = std::max(most_tasks_, tasks);
  }
  scratch_ = std::max(scratch_, kernel.scratch(p));
  const std::size_t first = args_.size();
  args_.insert(args_.end(), args.begin(), args.end());
  calls_.push_back({&kernel, std::move(params), first, args.size() - 1});
}

std::unique_ptr<Program::RunState> Program::acquire(int threads) const {
  std::unique_ptr<RunState> state;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (!idle_.empty()) {
      state = std::move(idle_.back());
      idle_.pop_back();
    }
  }
  if (!state) {
    state = std::make_unique<RunState>();
    state->program = this;
    state->args.resize(args_.size());
  }
  if (state->threads != threads) {
    const auto n = static_cast<std::size_t>(threads);
    state->threads = threads;
    // The odd cache line keeps the threads' scratch from lying at the same distance from a page's start.
    state->stride = (static_cast<std::size_t>(scratch_) + 4095) / 4096 * 4096 + 64;
    state->scratch = std::make_unique<Arena>(state->stride * n);
    state->shares = std::make_unique<Share[]>(3 * n);
    state->cpus = std::make_unique<int[]>(n);
  }
  return state;
}

void Program::release(std::unique_ptr<RunState> state) const {
  const std::lock_guard<std::mutex> lock(mutex_);
  idle_.push_back(std::move(state));
}

void Program::run(void* const* slots, int threads, double* seconds) const {
  if (steps_.empty()) return;
  if (most_tasks_ <= 1) threads = 1;
  auto state = acquire(threads);
  for (std::size_t i = 0; i < args_.size(); ++i)
    state->args[i] = args_[i].slot < 0 ? nullptr : static_cast<char*>(slots[args_[i].slot]) + args_[i].offset;
  state->seconds = seconds;
  state->caller = thread_id();
  run_team(
      threads,
      [](void* context, int thread, int team) {
        auto& run = *static_cast<RunState*>(context);
        run.program->run_thread(run, thread, team);
      },
      state.get());
  release(std::move(state));
}

void Program::run_task(const Step& step, int64_t index, const RunState& state, void* scratch) const {
  const Call& call = calls_[step.call];
  void* const* args = state.args.data() + call.first_arg;
  if constexpr (sanitized) {  // scratch as large as this kernel asked for, and nothing in it
    forbid(scratch, state.stride);
    allow_uninitialised(scratch, static_cast<std::size_t>(call.kernel->scratch(call.params.data())));
  }
  call.kernel->run(Task{call.params.data(), args, args[call.num_args], scratch, step.phase, index});
}

void Program::run_thread(RunState& state, int thread, int threads) const {
  const FlushDenormals guard;
  void* scratch = state.scratch->data() + state.stride * static_cast<std::size_t>(thread);
  const bool timed = state.seconds != nullptr;
  if (timed && thread == 0) state.since = seconds_now();
  if (threads == 1) {
    for (const Step& step : steps_) {
      for (int64_t i = 0; i < step.tasks; ++i) run_task(step, i, state, scratch);
      if (timed) state.took(step);
    }
    return;
  }

  // The shares of the first step; those of each later one are filled while the step before it runs.
  state.share(0, thread).next.store(share_begin(steps_[0].tasks, thread, threads), std::memory_order_relaxed);
  state.cpus[static_cast<std::size_t>(thread)] = current_cpu();
  state.barrier.wait(threads);
  part(state.cpus.get(), thread, threads, state.caller);
  for (std::size_t s = 0; s < steps_.size(); ++s) {
    const Step& step = steps_[s];
    const bool last = s + 1 == steps_.size();
    if (!last)
      state.share(s + 1, thread)
          .next.store(share_begin(steps_[s + 1].tasks, thread, threads), std::memory_order_relaxed);
    if (step.tasks == 1) {
      if (thread == 0) {
        run_task(step, 0, state, scratch);
        if (timed) state.took(step);
      }
      // A row of single tasks needs one barrier, behind its last.
      if (!last && steps_[s + 1].tasks == 1) continue;
    } else {
      for (int help = 0; help < threads; ++help) {
        const int owner = (thread + help) % threads;
        const int64_t end = share_begin(step.tasks, owner + 1, threads);
        auto& next = state.share(s, owner).next;
        for (int64_t i; (i = next.fetch_add(1, std::memory_order_relaxed)) < end;)
          run_task(step, i, state, scratch);
      }
    }
    if (!last || timed) state.barrier.wait(threads);
    if (timed) {  // the others begin the next step when the clock has been read
      if (thread == 0) state.took(step);
      state.barrier.wait(threads);
    }
  }
}

}  // namespace cnnmath
