// Cached content held in place while somebody reads it.
#pragma once

#include <sys/uio.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace pcache {

// What LogicDev::view() found, in the mapping of the cache device. It stays as it is until the view is destroyed, which
// should be soon: space that is looked at cannot be reused. The logical device outlives the view. A medium that fails
// in the meantime raises SIGBUS in whoever touches it, or EFAULT in a system call that is given the pieces.
// Not thread-safe.
class ReadView {
 public:
  static constexpr std::size_t kMaxPieces = 32;

  // Who keeps a piece in place; `token` is its own. Called once for each piece, on the thread that destroys the view.
  class Keeper {
   public:
    virtual void release_piece(std::uint32_t token) = 0;

   protected:
    ~Keeper() = default;
  };

  ReadView() = default;
  ReadView(const ReadView&) = delete;
  ReadView& operator=(const ReadView&) = delete;
  ~ReadView() { clear(); }

  std::span<const iovec> pieces() const { return {pieces_.data(), count_}; }
  bool full() const { return count_ == kMaxPieces; }

  // Takes over one more piece; the view is not full.
  void add(const std::byte* data, std::size_t length, Keeper& keeper, std::uint32_t token) {
    pieces_[count_] = {const_cast<std::byte*>(data), length};
    tokens_[count_] = token;
    keeper_ = &keeper;
    ++count_;
  }

  // Lets go of all pieces.
  void clear() {
    for (std::size_t i = 0; i < count_; ++i) keeper_->release_piece(tokens_[i]);
    count_ = 0;
  }

 private:
  std::size_t count_ = 0;
  Keeper* keeper_ = nullptr;
  std::array<iovec, kMaxPieces> pieces_;
  std::array<std::uint32_t, kMaxPieces> tokens_;
};

}  // namespace pcache
