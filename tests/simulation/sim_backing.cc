#include "tests/simulation/sim_backing.h"

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "base/units.h"

namespace pcache {

void SimDisk::power_cut(std::mt19937_64& random) {
  const std::uint64_t likelihood = random() % 5;
  for (const std::uint64_t block : unflushed) {
    const std::size_t end = std::min<std::size_t>((block + 1) * kBlockSize, current.size());
    for (std::size_t at = block * kBlockSize; at < end; at += kSectorSize) {
      if (random() % 4 < likelihood) std::memcpy(&durable[at], &current[at], kSectorSize);
    }
    std::memcpy(&current[block * kBlockSize], &durable[block * kBlockSize], end - block * kBlockSize);
  }
  unflushed.clear();
}

void SimDisk::make_durable(const std::vector<std::uint64_t>& blocks) {
  for (const std::uint64_t block : blocks) {
    const std::size_t begin = block * kBlockSize;
    std::memcpy(&durable[begin], &current[begin], std::min<std::size_t>(kBlockSize, current.size() - begin));
    unflushed.erase(block);
  }
}

SimBacking::SimBacking(SimDisk& disk, SimFaults& faults, EventQueue& events, std::mt19937_64& random, std::string path)
    : disk_(disk),
      faults_(faults),
      events_(events),
      random_(random),
      path_(std::move(path)),
      identity_{path_, disk.current.size()} {}

SimBacking::~SimBacking() {
  if (!operations_.empty()) std::abort();  // the engine closes a backing only when all it asked for is done
  if (on_closed) on_closed();
}

void SimBacking::read(std::uint64_t offset, std::span<std::byte> buffer, Completion done) {
  submit({Kind::read, offset, buffer.size(), buffer, {}, done});
}

void SimBacking::write(std::uint64_t offset, std::span<const iovec> parts, Completion done) {
  std::uint64_t length = 0;
  for (const iovec& part : parts) length += part.iov_len;
  submit({Kind::write, offset, length, {}, {parts.begin(), parts.end()}, done});
}

void SimBacking::flush(Completion done) { submit({Kind::flush, 0, 0, {}, {}, done}); }

void SimBacking::write_zeroes(std::uint64_t offset, std::uint64_t length, Completion done) {
  submit({Kind::zeroes, offset, length, {}, {}, done});
}

std::size_t SimBacking::changing() const {
  return static_cast<std::size_t>(
      std::count_if(operations_.begin(), operations_.end(), [](const auto& o) { return o->kind != Kind::read; }));
}

void SimBacking::submit(Operation operation) {
  if (dead_) return operation.done(EIO);
  if (immediate_ && operation.kind == Kind::read) {
    take_effect(operation, 0, operation.length);
    return operation.done(0);
  }
  operation.first_part = below(operation.length / kSectorSize + 1) * kSectorSize;
  const auto handle = std::make_shared<Operation>(std::move(operation));
  operations_.push_back(handle);
  std::uint64_t latency = 1 + below(20);
  if (below(20) == 0) latency += 100 + below(2000);
  if (faults_.stalled_until_ms > events_.now_ms()) latency += faults_.stalled_until_ms - events_.now_ms();
  events_.after(below(latency), [this, handle] {
    if (handle->over || handle->begun) return;
    handle->begun = true;
    take_effect(*handle, 0, handle->first_part);
  });
  events_.after(latency, [this, handle] {
    if (!handle->over) finish(handle);
  });
}

bool SimBacking::fails(Kind kind) {
  const std::uint32_t likelihood = kind == Kind::read    ? faults_.reads
                                   : kind == Kind::flush ? faults_.flushes
                                                         : faults_.writes;
  return likelihood != 0 && below(1000) < likelihood;
}

void SimBacking::finish(Handle operation) {
  operation->over = true;
  std::erase(operations_, operation);
  int error = 0;
  if (fails(operation->kind)) {
    error = EIO;
    if (on_failure) on_failure(operation->kind);
  }
  if (operation->kind == Kind::flush) {
    std::vector<std::uint64_t> blocks(disk_.unflushed.begin(), disk_.unflushed.end());
    if (error != 0) std::erase_if(blocks, [this](std::uint64_t) { return below(2) == 0; });
    disk_.make_durable(blocks);
    if (error != 0 && below(2) == 0) drop_unflushed();
    if (error == 0 && on_flushed) on_flushed();
  } else {
    if (!operation->begun) take_effect(*operation, 0, operation->first_part);
    if (error == 0) take_effect(*operation, operation->first_part, operation->length);
  }
  operation->done(error);
}

// What a system could not write it may drop, and the next flush succeeds without it. Not of what is being written: its
// end is still to come.
void SimBacking::drop_unflushed() {
  for (const std::uint64_t block : disk_.unflushed) {
    const std::size_t begin = block * kBlockSize;
    const std::size_t end = std::min<std::size_t>(begin + kBlockSize, disk_.current.size());
    const bool in_use = std::any_of(operations_.begin(), operations_.end(), [&](const Handle& operation) {
      return operation->kind != Kind::read && operation->offset < end && begin < operation->offset + operation->length;
    });
    for (std::size_t at = begin; at < end && !in_use; at += kSectorSize) {
      if (below(2) == 0) std::memcpy(&disk_.current[at], &disk_.durable[at], kSectorSize);
    }
  }
}

void SimBacking::take_effect(Operation& operation, std::uint64_t begin, std::uint64_t end) {
  if (operation.kind == Kind::read) {
    if (begin < end) std::memcpy(&operation.buffer[begin], &disk_.current[operation.offset + begin], end - begin);
    return;
  }
  std::byte* const to = disk_.current.data() + operation.offset;
  if (operation.kind == Kind::zeroes) {
    std::memset(to + begin, 0, end - begin);
  } else {
    std::uint64_t at = 0;
    for (const iovec& part : operation.parts) {
      const std::uint64_t from = std::max(begin, at);
      const std::uint64_t to_end = std::min(end, at + part.iov_len);
      if (from < to_end) std::memcpy(to + from, static_cast<std::byte*>(part.iov_base) + (from - at), to_end - from);
      at += part.iov_len;
    }
  }
  for (std::uint64_t at = operation.offset + begin; at < operation.offset + end; at += kSectorSize) {
    disk_.unflushed.insert(at / kBlockSize);
  }
}

void SimBacking::finish_all() {
  while (!operations_.empty()) finish(operations_.front());
}

void SimBacking::die() {
  if (std::exchange(dead_, true)) return;
  for (const Handle& operation : operations_) {
    operation->over = true;
    const bool changes = operation->kind == Kind::write || operation->kind == Kind::zeroes;
    if (changes && below(2) == 0) take_effect(*operation, 0, operation->first_part);
    if (changes && below(2) == 0) take_effect(*operation, operation->first_part, operation->length);
  }
}

void SimBacking::abandon() {
  for (const Handle& operation : std::exchange(operations_, {})) {
    operation->done(EIO);
  }
}

}  // namespace pcache
