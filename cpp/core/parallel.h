// Threads: how many, and the only parallel region of the library.
#pragma once
#include <atomic>
#include <cstdint>
#include <string>

namespace cnnmath {

// The number of threads that programs run on: as set, else OMP_NUM_THREADS, else the CPUs that affinity and
// the cgroup's quota leave to this process. 1 in a child forked after threads were started, whose team is
// gone.
int num_threads();
void set_num_threads(int n);

// CPUs that a cgroup's quota ("max 100000" or "150000 100000", as in cpu.max) grants, rounded up; 0 where
// unlimited.
int cpus_of_quota(const std::string& cpu_max);

// The tightest quota on the paths from a process's cgroups to the root, in versions 1 and 2; 0 where
// unlimited. `membership` is a file like /proc/self/cgroup, `mount` the folder of the cgroups.
int quota_cpus(const std::string& membership, const std::string& mount);

// Waits for all threads of a team: spins for 0.1 to 0.3 ms, then blocks. Where there are more
// threads than CPUs a spinning thread only keeps the one that it waits for from running, so it blocks at
// once.
class Barrier {
 public:
  void wait(int threads);

 private:
  alignas(64) std::atomic<int> arrived_{0};
  alignas(64) std::atomic<uint32_t> epoch_{0};
};

// Runs body(context, thread, threads) on `threads` threads and waits for them. The team may be smaller than
// asked.
void run_team(int threads, void (*body)(void* context, int thread, int threads), void* context);

// CPUs available to this process.
int num_cpus();

// The CPU that the calling thread runs on.
int current_cpu();

// The calling thread, as the kernel counts them.
int thread_id();

// If a thread of a team before `thread`, the calling one, is on its CPU, moves it to one where none of the team is, if there is any, and
// keeps it from coming back. `cpus` is where each was a moment ago, `caller` the thread of the team that called: its affinity, which stays
// as it is, says what is allowed. A virtual machine's scheduler may take an idle CPU for one that the host has taken away, and wake a thread
// beside the one that waits for it: they would run in turns, and sleep too often to be parted.
void part(const int* cpus, int thread, int threads, int caller);

}  // namespace cnnmath
