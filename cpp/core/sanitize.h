// Under AddressSanitizer, memory that the core cuts up itself is fenced: what a kernel may not touch is poisoned.
// In other builds all of this is empty.
#pragma once
#include <cstddef>

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define CNNMATH_ASAN 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__)
#define CNNMATH_ASAN 1
#endif

#ifdef CNNMATH_ASAN
#include <sanitizer/asan_interface.h>

#include <cstring>
#endif

namespace cnnmath {

#ifdef CNNMATH_ASAN
inline constexpr bool sanitized = true;

// Any access to these bytes is reported.
inline void forbid(void* data, std::size_t bytes) { __asan_poison_memory_region(data, bytes); }

inline void allow(void* data, std::size_t bytes) { __asan_unpoison_memory_region(data, bytes); }

// The same, holding what shows in a result that uses it: NaN in floating point, -1 in integers.
inline void allow_uninitialised(void* data, std::size_t bytes) {
  allow(data, bytes);
  std::memset(data, 0xff, bytes);
}
#else
inline constexpr bool sanitized = false;
inline void forbid(void*, std::size_t) {}
inline void allow(void*, std::size_t) {}
inline void allow_uninitialised(void*, std::size_t) {}
#endif

}  // namespace cnnmath
