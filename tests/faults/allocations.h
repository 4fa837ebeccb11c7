// The memory that this test program takes with operator new: counted, and refused where a test wants it to be.
#pragma once

#include <cstdint>

namespace pcache {

// How often the calling thread has taken memory.
std::uint64_t allocations_of_this_thread();

// One allocation of the program fails while it lives: the one after `after` others, in whatever thread.
class FailingAllocation {
 public:
  explicit FailingAllocation(std::uint64_t after);
  ~FailingAllocation() { stop(); }
  FailingAllocation(const FailingAllocation&) = delete;
  FailingAllocation& operator=(const FailingAllocation&) = delete;

  // Memory is there again. Returns whether it was refused to anybody.
  bool stop();
};

}  // namespace pcache
