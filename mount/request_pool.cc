#include "mount/request_pool.h"

#include <sys/mman.h>

#include <cstring>
#include <utility>

namespace pcache {
namespace {

thread_local RequestPool* serving_pool = nullptr;
thread_local std::unique_ptr<Request> kept;

}  // namespace

RequestPool::RequestPool(std::size_t prefaulted) {
  spare_.reserve(256);
  for (std::size_t i = 0; i < prefaulted; ++i) {
    auto request = std::make_unique<Request>(*this);
    std::memset(request->memory().data(), 0, request->memory().size());
    (void)mlock(request->memory().data(),
                request->memory().size());  // a small RLIMIT_MEMLOCK is no reason not to serve
    spare_.push_back(std::move(request));
  }
}

void RequestPool::join() { serving_pool = this; }

void RequestPool::leave() {
  serving_pool = nullptr;
  if (kept) give_back_shared(std::move(kept));
}

std::unique_ptr<Request> RequestPool::take() {
  if (serving_pool == this && kept) return std::move(kept);
  return take_shared();
}

void RequestPool::give_back(std::unique_ptr<Request> request) {
  RequestPool& home = request->home();
  if (serving_pool == &home && !kept) {
    kept = std::move(request);
  } else {
    home.give_back_shared(std::move(request));
  }
}

std::unique_ptr<Request> RequestPool::take_shared() {
  {
    const std::lock_guard lock(mutex_);
    ++taken_;
    if (!spare_.empty()) {
      auto request = std::move(spare_.back());
      spare_.pop_back();
      return request;
    }
  }
  return std::make_unique<Request>(*this);
}

void RequestPool::give_back_shared(std::unique_ptr<Request> request) {
  const std::lock_guard lock(mutex_);
  spare_.push_back(std::move(request));
  if (--taken_ == 0) idle_.notify_all();
}

void RequestPool::wait_idle() {
  std::unique_lock lock(mutex_);
  idle_.wait(lock, [this] { return taken_ == 0; });
}

}  // namespace pcache
