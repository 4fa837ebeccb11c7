#include "mount/request_pool.h"

#include <sys/mman.h>

#include <cstring>
#include <utility>

namespace pcache {
namespace {

thread_local RequestPool* serving_pool = nullptr;
thread_local std::vector<std::unique_ptr<Request>> kept;
thread_local bool holding = false;
thread_local std::vector<std::unique_ptr<Request>> held;  // answered, and not sent yet

}  // namespace

RequestPool::RequestPool(const Sizes& sizes) : kept_by_thread_(sizes.kept_by_thread) {
  spare_.reserve(256);
  for (std::size_t i = 0; i < sizes.prefaulted; ++i) {
    auto request = std::make_unique<Request>(*this);
    std::memset(request->memory().data(), 0, request->memory().size());
    (void)mlock(request->memory().data(),
                request->memory().size());  // a small RLIMIT_MEMLOCK is no reason not to serve
    spare_.push_back(std::move(request));
  }
}

void RequestPool::join() {
  serving_pool = this;
  kept.reserve(kept_by_thread_);
  held.reserve(kept_by_thread_);
}

void RequestPool::leave() {
  serving_pool = nullptr;
  for (auto& request : kept) give_back_shared(std::move(request));
  kept.clear();
}

std::unique_ptr<Request> RequestPool::take() {
  if (serving_pool != this || kept.empty()) return take_shared();
  auto request = std::move(kept.back());
  kept.pop_back();
  return request;
}

void RequestPool::hold_answers() { holding = true; }

void RequestPool::send_answers() {
  holding = false;
  for (auto& request : held) give_back(std::move(request));
  held.clear();
}

void RequestPool::give_back(std::unique_ptr<Request> request) {
  if (holding) return held.push_back(std::move(request));
  request->send();
  RequestPool& home = request->home();
  if (serving_pool == &home && kept.size() < home.kept_by_thread_) {
    kept.push_back(std::move(request));
  } else {
    home.give_back_shared(std::move(request));
  }
}

std::unique_ptr<Request> RequestPool::take_shared() {
  {
    const std::lock_guard lock(mutex_);
    if (!spare_.empty()) {
      auto request = std::move(spare_.back());
      spare_.pop_back();
      ++taken_;
      return request;
    }
  }
  auto request = std::make_unique<Request>(*this);
  const std::lock_guard lock(mutex_);
  ++taken_;
  return request;
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
