// A backing device in simulated time: slow, out of order, failing and stalling as it is told. Its reads and writes take
// effect in two parts, at two moments, as those of real devices may.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <random>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "pcache/backing_dev.h"
#include "tests/simulation/event_queue.h"

namespace pcache {

// The medium, which outlives the engine.
struct SimDisk {
  explicit SimDisk(std::size_t bytes) : current(bytes), durable(bytes) {}

  // Each sector that was not flushed is as it was last flushed or as it is now.
  void power_cut(std::mt19937_64& random);
  // Makes `blocks` durable.
  void make_durable(const std::vector<std::uint64_t>& blocks);

  std::vector<std::byte> current;
  std::vector<std::byte> durable;
  std::set<std::uint64_t> unflushed;  // blocks
};

// What happens to operations; changed while they are under way. Failures in parts per thousand.
struct SimFaults {
  std::uint32_t reads = 0;
  std::uint32_t writes = 0;
  std::uint32_t flushes = 0;
  std::uint64_t stalled_until_ms = 0;
};

// One engine's hold on a disk.
class SimBacking final : public BackingDev {
 public:
  enum class Kind { read, write, zeroes, flush };

  SimBacking(SimDisk& disk, SimFaults& faults, EventQueue& events, std::mt19937_64& random, std::string path);
  ~SimBacking() override;

  std::uint64_t size_bytes() const override { return identity_.size_bytes; }
  const std::string& path() const override { return path_; }
  const BackingIdentity& identity() const override { return identity_; }
  void read(std::uint64_t offset, std::span<std::byte> buffer, Completion done) override;
  void write(std::uint64_t offset, std::span<const iovec> parts, Completion done) override;
  void flush(Completion done) override;
  void write_zeroes(std::uint64_t offset, std::uint64_t length, Completion done) override;

  // Operations under way that change the disk, and all.
  std::size_t changing() const;
  std::size_t pending() const { return operations_.size(); }
  // Completes what is under way, at once.
  void finish_all();
  // The process dies: what is under way takes effect in part, and from then on operations fail and change nothing.
  // Completes nothing, as the engine may be in the middle of something: that is for abandon().
  void die();
  void abandon();
  // While set, reads complete at once and never fail.
  void set_immediate(bool on) { immediate_ = on; }

  // Called when an operation failed, and when a flush succeeded.
  std::function<void(Kind kind)> on_failure;
  std::function<void()> on_flushed;
  std::function<void()> on_closed;

 private:
  struct Operation {
    Kind kind = Kind::read;
    std::uint64_t offset = 0;
    std::uint64_t length = 0;
    std::span<std::byte> buffer;  // of a read
    std::vector<iovec> parts;     // of a write
    Completion done;
    std::uint64_t first_part = 0;  // bytes that take effect at the first moment
    bool begun = false;
    bool over = false;
  };
  using Handle = std::shared_ptr<Operation>;

  void submit(Operation operation);
  void finish(Handle operation);
  void take_effect(Operation& operation, std::uint64_t begin, std::uint64_t end);
  void drop_unflushed();
  bool fails(Kind kind);
  std::uint64_t below(std::uint64_t limit) { return random_() % limit; }

  SimDisk& disk_;
  SimFaults& faults_;
  EventQueue& events_;
  std::mt19937_64& random_;
  const std::string path_;
  const BackingIdentity identity_;
  std::vector<Handle> operations_;
  bool dead_ = false;
  bool immediate_ = false;
};

}  // namespace pcache
