#include "core/arena.h"

#include <sys/mman.h>

#include <cstdint>
#include <cstdlib>
#include <new>
#include <stdexcept>

#include "core/sanitize.h"

namespace cnnmath {

Arena::Arena(std::size_t bytes) : data_(nullptr), size_(bytes), rounded_(0) {
  constexpr std::size_t huge = std::size_t{2} << 20;
  const bool large = bytes >= 2 * huge;
  const std::size_t align = large ? huge : 64;
  if (bytes > SIZE_MAX - align) throw std::bad_alloc();
  rounded_ = bytes == 0 ? align : (bytes + align - 1) / align * align;
  data_ = static_cast<char*>(std::aligned_alloc(align, rounded_));
  if (data_ == nullptr) throw std::bad_alloc();
#ifdef MADV_HUGEPAGE
  if (large) madvise(data_, rounded_, MADV_HUGEPAGE);
#endif
  forbid(data_ + bytes, rounded_ - bytes);
}

Arena::~Arena() {
  allow(data_, rounded_);
  std::free(data_);
}

void Arena::fence(const std::vector<std::pair<std::size_t, std::size_t>>& zones) {
  forbid(data_, rounded_);
  for (const auto& [offset, bytes] : zones) {
    if (offset > size_ || bytes > size_ - offset) throw std::invalid_argument("the zone leaves the arena");
    allow_uninitialised(data_ + offset, bytes);
  }
}

}  // namespace cnnmath
