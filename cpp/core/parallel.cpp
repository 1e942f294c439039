#include "core/parallel.h"

#include <omp.h>
#include <pthread.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <sstream>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace cnnmath {
namespace {

std::atomic<int> chosen{0};
std::atomic<bool> team_started{false};
std::atomic<bool> forked{false};

void pause_cpu() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

std::string first_line(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

// The CPUs that one cgroup grants; 0 where it sets no limit. Version 1 has quota and period in two files.
int cpus_of_cgroup(const std::string& folder) {
  const std::string line = first_line(folder + "/cpu.max");
  if (!line.empty()) return cpus_of_quota(line);
  return cpus_of_quota(first_line(folder + "/cpu.cfs_quota_us") + " " +
                       first_line(folder + "/cpu.cfs_period_us"));
}

int default_threads() {
  if (const char* value = std::getenv("OMP_NUM_THREADS")) {
    const int n = std::atoi(value);
    if (n > 0) return n;
  }
  int cpus = num_cpus();
  const int quota = quota_cpus("/proc/self/cgroup", "/sys/fs/cgroup");
  if (quota > 0) cpus = std::min(cpus, quota);
  return std::max(cpus, 1);
}

}  // namespace

int num_cpus() {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) return std::max(1, CPU_COUNT(&set));
  return std::max(1, omp_get_num_procs());
}

int cpus_of_quota(const std::string& cpu_max) {
  std::istringstream in(cpu_max);
  std::string quota;
  double period = 0;
  if (!(in >> quota >> period) || quota == "max" || period <= 0) return 0;
  const double cpus = std::atof(quota.c_str()) / period;
  return cpus > 0 ? std::max(1, static_cast<int>(std::ceil(cpus))) : 0;
}

int quota_cpus(const std::string& membership, const std::string& mount) {
  std::ifstream self(membership);
  std::string line;
  int least = 0;
  while (std::getline(self, line)) {  // "0::/path" of version 2, "4:cpu,cpuacct:/path" of version 1
    const std::size_t first = line.find(':'), second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = "," + line.substr(first + 1, second - first - 1) + ",";
    const bool cpu = controllers.find(",cpu,") != std::string::npos;
    if (!cpu && controllers != ",,") continue;
    const std::string top = cpu ? mount + "/cpu" : mount;
    std::string path = line.substr(second + 1);
    // In a container the path may be the host's, and the mount what is left of it: so up to the mount itself.
    while (true) {
      const int cpus = cpus_of_cgroup(top + path);
      if (cpus > 0 && (least == 0 || cpus < least)) least = cpus;
      if (path.empty()) break;
      path.erase(path.rfind('/') == std::string::npos ? 0 : path.rfind('/'));
    }
  }
  return least;
}

int num_threads() {
  if (chosen == 0) chosen = default_threads();
  return chosen;
}

void set_num_threads(int n) { chosen = n; }

void Barrier::wait(int threads) {
  if (threads == 1) return;
  const uint32_t now = epoch_.load(std::memory_order_relaxed);
  if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == threads) {
    arrived_.store(0, std::memory_order_relaxed);
    epoch_.store(now + 1, std::memory_order_release);
    epoch_.notify_all();
    return;
  }
  static const int cpus = num_cpus();
  const int spins = threads <= cpus ? 8000 : 0;
  for (int i = 0; i < spins; ++i) {
    if (epoch_.load(std::memory_order_acquire) != now) return;
    pause_cpu();
  }
  while (epoch_.load(std::memory_order_acquire) == now) epoch_.wait(now, std::memory_order_acquire);
}

int current_cpu() { return sched_getcpu(); }

int thread_id() {
  thread_local const int id = static_cast<int>(syscall(SYS_gettid));
  return id;
}

void part(const int* cpus, int thread, int threads, int caller) {
  const int here = cpus[thread];
  if (here < 0 || std::find(cpus, cpus + thread, here) == cpus + thread || current_cpu() != here) return;
  cpu_set_t allowed;
  if (sched_getaffinity(caller, sizeof allowed, &allowed) != 0) return;
  cpu_set_t free = allowed;
  for (int i = 0; i < threads; ++i)
    if (cpus[i] >= 0) CPU_CLR(static_cast<std::size_t>(cpus[i]), &free);
  if (CPU_COUNT(&free) == 0 || sched_setaffinity(0, sizeof free, &free) != 0) return;
  CPU_CLR(static_cast<std::size_t>(here), &allowed);
  sched_setaffinity(0, sizeof allowed, &allowed);
}

void run_team(int threads, void (*body)(void*, int, int), void* context) {
  // A child forked after the team was started has lost its threads: libgomp would wait for them for ever.
  if (threads <= 1 || forked) {
    body(context, 0, 1);
    return;
  }
  if (!team_started.exchange(true)) pthread_atfork(nullptr, nullptr, [] { forked = true; });
#pragma omp parallel num_threads(threads)
  body(context, omp_get_thread_num(), omp_get_num_threads());
}

}  // namespace cnnmath
