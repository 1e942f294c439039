#include "core/isa.h"

#include <cstdlib>
#include <stdexcept>
#include <unordered_map>

#if defined(__x86_64__)
#include <cpuid.h>
#endif
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

// The tables of kernels, one for each family and instruction set.
#define FAMILY(family) extern const KernelList family##_kernels;
#if defined(__x86_64__)
namespace cnnmath::amx {
#include "families.def"
}
namespace cnnmath::avx512 {
#include "families.def"
}
namespace cnnmath::avx2 {
#include "families.def"
}
#elif defined(__aarch64__)
namespace cnnmath::neon {
#include "families.def"
}
#endif
namespace cnnmath::baseline {
#include "families.def"
}
#undef FAMILY

namespace cnnmath {
namespace {

using Tables = std::vector<KernelList>;

Tables tables_of(const std::string& isa) {
#if defined(__x86_64__)
  if (isa == "amx") {
    return {
#define FAMILY(family) amx::family##_kernels,
#include "families.def"
#undef FAMILY
    };
  }
  if (isa == "avx512") {
    return {
#define FAMILY(family) avx512::family##_kernels,
#include "families.def"
#undef FAMILY
    };
  }
  if (isa == "avx2") {
    return {
#define FAMILY(family) avx2::family##_kernels,
#include "families.def"
#undef FAMILY
    };
  }
#elif defined(__aarch64__)
  if (isa == "neon") {
    return {
#define FAMILY(family) neon::family##_kernels,
#include "families.def"
#undef FAMILY
    };
  }
#endif
  return {
#define FAMILY(family) baseline::family##_kernels,
#include "families.def"
#undef FAMILY
  };
}

#if defined(__x86_64__)
// AMX with bfloat16, and the kernel's leave to use its registers, which it wants to be asked for once.
bool has_amx() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return false;
  constexpr unsigned bf16 = 1u << 22, tile = 1u << 24;
  if ((d & bf16) == 0 || (d & tile) == 0) return false;
#if defined(__linux__)
  constexpr long request = 0x1023, tile_data = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILE_DATA
  return syscall(SYS_arch_prctl, request, tile_data) == 0;
#else
  return false;
#endif
}
#endif

bool machine_has([[maybe_unused]] const std::string& isa) {
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (isa == "amx") return machine_has("avx512") && has_amx();
  if (isa == "avx512") {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("bmi2") &&
           __builtin_cpu_supports("fma");
  }
  if (isa == "avx2") {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
  }
#endif
  return true;
}

std::string join(const std::vector<std::string>& names) {
  std::string all;
  for (const auto& name : names) all += (all.empty() ? "" : ", ") + name;
  return all;
}

std::string choose() {
  const char* forced = std::getenv("CNNMATH_ISA");
  if (forced == nullptr || *forced == '\0') return isas_available().front();
  for (const auto& isa : isas_available())
    if (isa == forced) return isa;
  for (const auto& isa : isas_built())
    if (isa == forced)
      throw std::runtime_error("CNNMATH_ISA=" + isa + ": this machine lacks that instruction set (it has " +
                               join(isas_available()) + ")");
  throw std::runtime_error(std::string("CNNMATH_ISA=") + forced +
                           ": no such instruction set in this build (it has " + join(isas_built()) + ")");
}

using Index = std::unordered_map<std::string, const Kernel*>;

const Index& index() {
  static const Index kernels = [] {
    Index found;
    for (const KernelList& list : tables_of(isa_in_use()))
      for (int i = 0; i < list.count; ++i)
        found[std::string(list.first[i].name) + "." + list.first[i].dtype] = list.first + i;
    return found;
  }();
  return kernels;
}

}  // namespace

const std::vector<std::string>& isas_built() {
  static const std::vector<std::string> names = {
#define ISA(isa) #isa,
#include "isas.def"
#undef ISA
  };
  return names;
}

const std::vector<std::string>& isas_available() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> found;
    for (const auto& isa : isas_built())
      if (machine_has(isa)) found.push_back(isa);
    return found;
  }();
  return names;
}

const std::string& isa_in_use() {
  static const std::string isa = choose();
  return isa;
}

const Kernel& find_kernel(const std::string& name, const std::string& dtype) {
  auto found = index().find(name + "." + dtype);
  if (found == index().end()) found = index().find(name + ".");
  if (found == index().end())
    throw std::invalid_argument("no kernel '" + name + "' for dtype '" + dtype + "'");
  return *found->second;
}

std::vector<const Kernel*> all_kernels() {
  std::vector<const Kernel*> kernels;
  for (const auto& entry : index()) kernels.push_back(entry.second);
  return kernels;
}

}  // namespace cnnmath
