// What each file NAME.cc of this folder is: one function that makes what it can of any bytes, and ends the process
// (PCACHE_CHECK) where the program did with them what it must not.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>

// libFuzzer calls it under this name; so does replay_main.cc. Always returns 0.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace pcache {

// The input, taken from its front piece by piece; where it has ended, zeroes follow.
class FuzzInput {
 public:
  FuzzInput(const std::uint8_t* data, std::size_t size) : data_(data), left_(size) {}

  bool empty() const { return left_ == 0; }

  template <typename T>
  T take() {
    T value{};
    const std::size_t length = std::min(sizeof value, left_);
    if (length != 0) std::memcpy(&value, data_, length);
    skip(length);
    return value;
  }
  std::uint8_t byte() { return take<std::uint8_t>(); }
  bool flag() { return byte() % 2 != 0; }
  std::uint32_t below(std::uint32_t limit) { return take<std::uint16_t>() % limit; }

  // A number as the world sends them: small, about a power of two, or anything.
  std::uint64_t number() {
    const std::uint8_t kind = byte();
    if (kind < 96) return kind;
    if (kind < 160) return (std::uint64_t{1} << (kind - 96)) + std::uint64_t{byte()} - 4;
    if (kind < 224) return std::uint64_t{take<std::uint16_t>()} << (kind - 160);
    return take<std::uint64_t>();
  }

  std::string text(std::size_t length) {
    length = std::min(length, left_);
    std::string text(reinterpret_cast<const char*>(data_), length);
    skip(length);
    return text;
  }
  std::string rest() { return text(left_); }

 private:
  void skip(std::size_t length) {
    data_ += length;
    left_ -= length;
  }

  const std::uint8_t* data_;
  std::size_t left_;
};

}  // namespace pcache
