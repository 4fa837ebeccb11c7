// Threads, locked memory and descriptors of this test program: counted, and refused where a test wants it to be.
#pragma once

#include <sys/resource.h>

#include <cstddef>
#include <cstdint>

namespace pcache {

enum class Resource { thread, locked_memory };

// Threads that were made and have not returned yet.
int live_threads();

// One thread or one mlock() of the program fails while it lives: the one after `after` others.
class FailingResource {
 public:
  FailingResource(Resource resource, std::uint64_t after);
  ~FailingResource() { stop(); }
  FailingResource(const FailingResource&) = delete;
  FailingResource& operator=(const FailingResource&) = delete;

  // It is there again. Returns whether it was refused to anybody.
  bool stop();
};

std::size_t open_descriptors();

// While it lives the process can have `more` descriptors beyond those that it has.
class FewDescriptors {
 public:
  explicit FewDescriptors(std::size_t more);
  ~FewDescriptors();
  FewDescriptors(const FewDescriptors&) = delete;
  FewDescriptors& operator=(const FewDescriptors&) = delete;

 private:
  rlimit before_{};
};

}  // namespace pcache
