// Generated traces of 4 KiB requests to one logical device. The same numbers give the same trace on every machine.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace pcache {

struct Access {
  std::uint32_t block = 0;
  bool write = false;
  bool scan = false;  // of a scan that runs beside the load whose hits are counted
};

struct Trace {
  std::string name;
  std::uint32_t blocks = 0;  // of the device
  std::size_t warm_up = 0;   // accesses at its beginning of which hits are not counted
  std::vector<Access> accesses;
};

// Of `blocks` blocks, the one of rank r is asked for with a probability that goes with 1 / r^0.99; ranks lie anywhere
// on the device. `write_percent` of the accesses are writes.
Trace zipf_trace(std::uint32_t blocks, std::size_t length, std::uint32_t write_percent = 0);

// The same accesses in the same order, and between them scans that read on from where the last one ended: half of the
// device's blocks after each run of so many accesses, a third of all in the end.
Trace scanned_trace(const Trace& trace);

// Reads `loop` blocks of the device over and over, in order.
Trace loop_trace(std::uint32_t blocks, std::uint32_t loop, std::size_t length);

}  // namespace pcache
