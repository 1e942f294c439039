// Aligned memory for programs: arenas shared by all plans, and the buffers that parameters own.
#pragma once
#include <cstddef>
#include <utility>
#include <vector>

namespace cnnmath {

// A block of memory aligned to 64 bytes (2 MiB, and backed by huge pages where the system grants them, if it
// is large). Not initialised beyond what the system does. Throws std::bad_alloc.
class Arena {
 public:
  explicit Arena(std::size_t bytes);
  ~Arena();
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;
  char* data() const { return data_; }
  std::size_t size() const { return size_; }

  // Under AddressSanitizer: of this block, only these (offset, bytes) may be touched, and hold nothing yet.
  // Does nothing in other builds.
  void fence(const std::vector<std::pair<std::size_t, std::size_t>>& zones);

 private:
  char* data_;
  std::size_t size_;
  std::size_t rounded_;
};

}  // namespace cnnmath
