// What is written back between two flushes of the backing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "index/slot_table.h"

namespace pcache {

// What one epoch, or several in a row, did to the device, overwrites collapsed.
struct EpochContent {
  struct Block {
    std::uint64_t block = 0;
    SlotId slot = 0;
    std::uint32_t crc = 0;
  };
  struct Zero {
    std::uint64_t begin = 0;
    std::uint64_t end = 0;
    std::uint32_t streams = 0;  // as bits
  };
  std::uint64_t epoch = 0;              // the last one
  std::uint64_t slots = 0;              // that its records take in the log
  std::vector<Block> blocks;            // by block, each once; every run of neighbours can be written as one
  std::vector<Zero> zeroes;             // to be applied before the blocks; no two overlap
  std::vector<std::uint64_t> end_lsns;  // by stream: everything before is covered
};

// How far that has come; it may take several steps.
struct WritebackPass {
  EpochContent content;
  bool zeroed = false;
  std::size_t next = 0;              // of content.blocks
  bool at_full_speed = true;         // so far: tells how fast the backing is
  std::uint64_t failed_flushes = 0;  // of the backing, when it began
  std::uint64_t noted_ms = 0;        // up to when its speed was noted, and up to which of its slots
  std::uint64_t noted_slots = 0;

  bool written() const { return zeroed && next == content.blocks.size(); }
  // Of the slots that become clean at its end, the part that is written.
  std::uint64_t slots_written() const {
    return content.blocks.empty() ? content.slots : content.slots * next / content.blocks.size();
  }
};

}  // namespace pcache
