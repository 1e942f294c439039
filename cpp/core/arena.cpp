#include "core/arena.h"

#include <sys/mman.h>

#include <cstdint>
#include <cstdlib>
#include <new>

namespace cnnmath {

Arena::Arena(std::size_t bytes) : data_(nullptr), size_(bytes) {
  constexpr std::size_t huge = std::size_t{2} << 20;
  const bool large = bytes >= 2 * huge;
  const std::size_t align = large ? huge : 64;
  if (bytes > SIZE_MAX - align) throw std::bad_alloc();
  const std::size_t rounded = bytes == 0 ? align : (bytes + align - 1) / align * align;
  data_ = static_cast<char*>(std::aligned_alloc(align, rounded));
  if (data_ == nullptr) throw std::bad_alloc();
#ifdef MADV_HUGEPAGE
  if (large) madvise(data_, rounded, MADV_HUGEPAGE);
#endif
}

Arena::~Arena() { std::free(data_); }

}  // namespace cnnmath
