#include "tests/unit/mount/system_resources.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <filesystem>
#include <iterator>
#include <memory>

#include "base/check.h"

namespace pcache {
namespace {

std::atomic<int> threads{0};
std::atomic<bool> counting_down{false};
std::atomic<Resource> scarce{Resource::thread};
std::atomic<std::int64_t> left{0};
std::atomic<bool> refused{false};

bool is_refused(Resource resource) {
  if (!counting_down || scarce != resource || left.fetch_sub(1) != 0) return false;
  refused = true;
  return true;
}

// The library's own function of the name that this program has taken.
template <typename Function>
Function library(const char* name) {
  void* const found = dlsym(RTLD_NEXT, name);
  PCACHE_CHECK(found != nullptr, "the library has what this program has in its place");
  return reinterpret_cast<Function>(found);
}

struct Start {
  void* (*body)(void*);
  void* argument;
};

void* counted(void* context) {
  const std::unique_ptr<Start> start(static_cast<Start*>(context));
  void* const result = start->body(start->argument);
  --threads;
  return result;
}

}  // namespace

int live_threads() { return threads; }

FailingResource::FailingResource(Resource resource, std::uint64_t after) {
  scarce = resource;
  left = static_cast<std::int64_t>(after);
  refused = false;
  counting_down = true;
}

bool FailingResource::stop() {
  counting_down = false;
  return refused;
}

std::size_t open_descriptors() {
  const std::filesystem::directory_iterator all("/proc/self/fd");
  return static_cast<std::size_t>(std::distance(begin(all), end(all))) - 1;  // without the one that looks
}

// The limit is on numbers: so many unused ones stay below it.
FewDescriptors::FewDescriptors(std::size_t more) {
  PCACHE_CHECK(getrlimit(RLIMIT_NOFILE, &before_) == 0, "there is a limit");
  int end = 0;
  for (std::size_t unused = 0; unused < more; ++end) unused += fcntl(end, F_GETFD) < 0 ? 1 : 0;
  // Those that are in use at the limit may stay.
  while (fcntl(end, F_GETFD) >= 0) ++end;
  const rlimit few{static_cast<rlim_t>(end), before_.rlim_max};
  PCACHE_CHECK(setrlimit(RLIMIT_NOFILE, &few) == 0, "the limit can be lowered");
}

FewDescriptors::~FewDescriptors() { setrlimit(RLIMIT_NOFILE, &before_); }

}  // namespace pcache

// Both stand before the library's own.
extern "C" int pthread_create(pthread_t* thread, const pthread_attr_t* attributes, void* (*body)(void*),
                              void* argument) {
  using Function = int (*)(pthread_t*, const pthread_attr_t*, void* (*)(void*), void*);
  static const auto create = pcache::library<Function>("pthread_create");
  if (pcache::is_refused(pcache::Resource::thread)) return EAGAIN;
  auto start = std::make_unique<pcache::Start>(pcache::Start{body, argument});
  ++pcache::threads;
  const int error = create(thread, attributes, pcache::counted, start.get());
  if (error == 0) {
    (void)start.release();  // the thread's
  } else {
    --pcache::threads;
  }
  return error;
}

extern "C" int mlock(const void* memory, size_t length) noexcept {
  static const auto lock = pcache::library<int (*)(const void*, size_t)>("mlock");
  if (!pcache::is_refused(pcache::Resource::locked_memory)) return lock(memory, length);
  errno = ENOMEM;
  return -1;
}
