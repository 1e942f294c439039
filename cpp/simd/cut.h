// A task's scratch, cut into arrays.
#pragma once
#include "simd/whole.h"

namespace cnnmath::CNNMATH_ISA {

// Each array begins at a multiple of 64 bytes. Without memory the bytes are only counted.
class Cut {
 public:
  explicit Cut(char* memory) : memory_(memory) {}
  template <class T>
  void take(T*& array, int64_t count) {
    array = memory_ ? reinterpret_cast<T*>(memory_ + bytes_) : nullptr;
    bytes_ += round_up(count * static_cast<int64_t>(sizeof(T)), 64);
  }
  int64_t bytes() const { return bytes_; }

 private:
  char* memory_;
  int64_t bytes_ = 0;
};

}  // namespace cnnmath::CNNMATH_ISA
