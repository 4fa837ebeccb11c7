#include "tests/support/engine_rig.h"

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <utility>

#include "base/units.h"
#include "media/device_record.h"

namespace pcache {
namespace {

constexpr std::array<std::uint8_t, 16> kUuid = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};

void must(const Status& status) {
  if (status.ok()) return;
  std::fprintf(stderr, "engine rig: %s\n", status.message().c_str());
  std::abort();
}

}  // namespace

std::string RigShape::name() const {
  return std::string(to_string(granularity)) + "_" + std::to_string(cache_bytes / kKiB) + "k_" +
         std::to_string(device_bytes / kKiB) + "k" + (ack ? std::string("_") + to_string(*ack) : "");
}

void PrintTo(const RigShape& shape, std::ostream* out) { *out << shape.name(); }

EngineRig::EngineRig(const RigShape& shape)
    : shape_(shape),
      cache_image_(MemorySpace::make_image(shape.cache_bytes)),
      synced_image_(cache_image_),
      backing_image_(std::make_shared<BackingImage>(shape.device_bytes)) {
  MemorySpace space(cache_image_, shape_.granularity);
  must(CacheDev::format(space, {kUuid, "rig", shape_.segment_bytes}));
  open();
}

std::unique_ptr<BackingDev> EngineRig::make_backing() {
  auto backing = std::make_unique<FakeBackingDev>(backing_image_);
  backing_ = backing.get();
  return backing;
}

void EngineRig::open() {
  auto space = std::make_unique<MemorySpace>(cache_image_, shape_.granularity, "memory", synced_image_.get());
  space_ = space.get();
  backing_at_cut_.reset();
  space_->on_cut = [this] { backing_at_cut_ = std::make_shared<BackingImage>(*backing_image_); };
  auto cache_dev = CacheDev::open(std::move(space));
  must(cache_dev.status());
  CacheOptions options;
  options.ack = shape_.ack;
  options.settings = shape_.settings;
  auto cache = shape_.own_clock ? Cache::open(std::move(cache_dev).value(), options, [this] { return now_ms_; })
                                : Cache::open(std::move(cache_dev).value(), options);
  must(cache.status());
  cache_ = std::move(cache).value();
  const auto held = cache_->cache_dev().devices();
  const bool parked = !held.empty() && is_parked(held.front().record);
  auto device = held.empty() ? cache_->add("dev", make_backing())
                             : cache_->attach(held.front(), parked ? nullptr : make_backing());
  must(device.status());
  device_ = std::move(device).value();
  if (!parked) backing_->reset_counts();  // what bringing it up took is no test's
}

void EngineRig::close() {
  device_.reset();
  cache_.reset();
  synced_image_ = cache_image_;
}

void EngineRig::reopen() {
  close();
  open();
}

void EngineRig::kill() {
  auto cache_image = MemorySpace::copy_image(*cache_image_);
  auto synced_image = space_->durable_image();
  auto backing_image = std::make_shared<BackingImage>(*backing_image_);
  close();  // in order, but on images that are thrown away
  cache_image_ = std::move(cache_image);
  synced_image_ = std::move(synced_image);
  backing_image_ = std::move(backing_image);
  open();
}

void EngineRig::power_cut(const std::function<bool(std::size_t page)>& keep_page) {
  auto cache_image = MemorySpace::copy_image(*cache_image_);
  if (shape_.granularity == Granularity::page) {
    const auto synced = space_->durable_image();
    for (std::size_t page = 0; page < cache_image->size() / kBlockSize; ++page) {
      if (keep_page(page)) continue;
      std::copy_n(synced->begin() + static_cast<std::ptrdiff_t>(page * kBlockSize), kBlockSize,
                  cache_image->begin() + static_cast<std::ptrdiff_t>(page * kBlockSize));
    }
  }
  auto backing_image = std::make_shared<BackingImage>(backing_at_cut_ ? *backing_at_cut_ : *backing_image_);
  backing_image->power_cut();
  close();
  synced_image_ = cache_image_ = std::move(cache_image);
  backing_image_ = std::move(backing_image);
  open();
}

int EngineRig::finish(const Outcome& outcome) {
  while (!outcome.done) {
    if (!step()) return -1;
  }
  return outcome.error;
}

int EngineRig::read(std::uint64_t offset, std::span<std::byte> buffer) {
  Outcome outcome;
  device_->read(offset, buffer, outcome.completion());
  return finish(outcome);
}

int EngineRig::write(std::uint64_t offset, std::span<const std::byte> data) {
  Outcome outcome;
  device_->write(offset, data, outcome.completion());
  return finish(outcome);
}

int EngineRig::discard(std::uint64_t offset, std::uint64_t length) {
  Outcome outcome;
  device_->discard(offset, length, outcome.completion());
  return finish(outcome);
}

int EngineRig::flush() {
  if (on_epoch_closed) on_epoch_closed();
  Outcome outcome;
  device_->flush(outcome.completion());
  return finish(outcome);
}

Status EngineRig::commit() {
  if (on_epoch_closed) on_epoch_closed();
  return cache_->commit({device_.get()});
}

int EngineRig::drain() {
  if (on_epoch_closed) on_epoch_closed();
  return device_->drain(0);
}

Status EngineRig::switch_mode(const ModeChoice& to) {
  if (on_epoch_closed) on_epoch_closed();
  if (Status status = device_->begin_switch(to); !status.ok()) return status;
  return device_->await_switch(0).value_or(Status(Errc::failed, "the switch does not end"));
}

Status EngineRig::park() {
  if (on_epoch_closed) on_epoch_closed();
  return cache_->park(device_);
}

Status EngineRig::unpark() {
  auto device = cache_->unpark(device_, make_backing());
  if (device) device_ = std::move(device).value();
  return device.status();
}

Status EngineRig::remove_and_add() {
  if (Status status = cache_->remove(device_); !status.ok()) return status;
  auto device = cache_->add("dev", make_backing());
  if (device) device_ = std::move(device).value();
  return device.status();
}

bool EngineRig::step() {
  const auto write_back = [this] {
    const CachedDevice::WriteBack done = device_->write_back(step_bytes);
    return done.step == CachedDevice::WriteBack::Step::whole || done.step == CachedDevice::WriteBack::Step::part;
  };
  bool progress = write_back();
  const bool may_be_used = device_->dirty_bytes() != 0 || is_direct(device_->mode());
  if (!progress && may_be_used && commit().ok()) progress = write_back();
  while (cache_->reclaim_step()) progress = true;
  return progress;
}

bool EngineRig::make_room(std::uint32_t segments) {
  while (cache_->pool().free_count() < cache_->reserve() + segments) {
    if (!step()) return false;
  }
  return true;
}

}  // namespace pcache
