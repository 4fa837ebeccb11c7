// Makes the states that a backing had, or that a power cut could have left it in, out of a recording.
//
// usage: replay RECORDING BASE                                   prints the number of flushes
//        replay RECORDING BASE OUT FLUSHES BETWEENS SEED         makes states, one after the other
//
// BASE is the image before the recording began. The states are FLUSHES of the states at a flush, the last one among
// them (0: all), and BETWEENS of those in between, both evenly spread. For each one OUT is made anew, a line that says
// which one it is goes to standard output, and the next one is made after a line came on standard input.
//
// In between is after every 10th write behind a flush, and after the last one before the next flush. What was not
// flushed then is there, or there in part: a disk with a volatile cache keeps any of it. Losing little of it shows
// most, as a filesystem takes no notice of what comes after a gap in its log.

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <iterator>
#include <map>
#include <random>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "tests/witness/recording.h"

namespace {

using witness::Entry;
using witness::EntryKind;

constexpr std::uint64_t kBlock = 4096;
constexpr std::uint64_t kStep = 10;

[[noreturn]] void die(const std::string& what) {
  std::cerr << "replay: " << what << std::endl;
  std::exit(1);
}

std::span<std::byte> map_file(const char* path) {
  const int fd = open(path, O_RDONLY | O_CLOEXEC);
  struct stat st {};
  if (fd < 0 || fstat(fd, &st) != 0 || st.st_size == 0) die(std::string("cannot read ") + path);
  const auto size = static_cast<std::size_t>(st.st_size);
  void* data = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE, fd, 0);
  if (data == MAP_FAILED) die(std::string("cannot map ") + path);
  close(fd);
  return {static_cast<std::byte*>(data), size};
}

struct Operation {
  Entry entry;
  const std::byte* data = nullptr;  // null: zeroes
};

// The recording cut at its flushes: intervals[k] is what came after k flushes. The last one has no flush behind it.
struct Recording {
  std::uint64_t size_bytes = 0;
  std::vector<std::vector<Operation>> intervals{1};
  std::uint64_t flushes() const { return intervals.size() - 1; }
};

Recording read_recording(const char* path) {
  const std::span<std::byte> bytes = map_file(path);
  witness::RecordingHeader header;
  if (bytes.size() < sizeof header) die("the recording has no header");
  std::memcpy(&header, bytes.data(), sizeof header);
  if (header.magic != witness::kMagic) die("this is no recording");
  Recording recording;
  recording.size_bytes = header.size_bytes;
  for (std::size_t at = sizeof header; at != bytes.size();) {
    Entry entry;
    if (bytes.size() - at < sizeof entry) die("the recording ends inside an entry");
    std::memcpy(&entry, bytes.data() + at, sizeof entry);
    at += sizeof entry;
    if (entry.offset > header.size_bytes || entry.length > header.size_bytes - entry.offset) {
      die("an entry is outside of the backing");
    }
    switch (entry.kind) {
      case EntryKind::write:
        if (bytes.size() - at < entry.length) die("the recording ends inside a write");
        recording.intervals.back().push_back({entry, bytes.data() + at});
        at += entry.length;
        break;
      case EntryKind::zero:
        recording.intervals.back().push_back({entry, nullptr});
        break;
      case EntryKind::flush:
        recording.intervals.emplace_back();
        break;
      default:
        die("an entry of unknown kind");
    }
  }
  return recording;
}

// The image as of the last flush, in memory. What is written next is remembered by block, all of its values, until it
// is flushed.
class Image {
 public:
  explicit Image(const char* base) : bytes_(map_file(base)) {
    if (bytes_.size() % kBlock != 0) die("the image is no multiple of 4 KiB");
    for (std::uint64_t block = 0; block < bytes_.size() / kBlock; ++block) note_content(block);
  }

  std::uint64_t size() const { return bytes_.size(); }

  using Block = std::vector<std::byte>;
  using Values = std::map<std::uint64_t, std::vector<Block>>;  // by block, in the order of writing

  // Adds to `values` what `operation` makes of each block that it touches.
  void add(const Operation& operation, Values& values) const {
    const std::uint64_t begin = operation.entry.offset;
    const std::uint64_t end = begin + operation.entry.length;
    for (std::uint64_t at = begin; at < end;) {
      const std::uint64_t block = at / kBlock;
      const std::uint64_t length = std::min(end, (block + 1) * kBlock) - at;
      std::vector<Block>& list = values[block];
      Block value = list.empty() ? flushed(block) : list.back();
      if (operation.data != nullptr) {
        std::memcpy(value.data() + at % kBlock, operation.data + (at - begin), length);
      } else {
        std::memset(value.data() + at % kBlock, 0, length);
      }
      list.push_back(std::move(value));
      at += length;
    }
  }

  void flush(const Values& values) {
    for (const auto& [block, list] : values) {
      std::memcpy(bytes_.data() + block * kBlock, list.back().data(), kBlock);
      note_content(block);
    }
  }

  // The flushed state, but for the blocks in `chosen`.
  void write_to(const std::string& path, const std::map<std::uint64_t, const Block*>& chosen) const {
    unlink(path.c_str());
    const int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0 || ftruncate(fd, static_cast<off_t>(bytes_.size())) != 0) die("cannot make " + path);
    for (auto it = content_.begin(); it != content_.end();) {
      const std::uint64_t first = *it;
      std::uint64_t count = 0;
      for (; it != content_.end() && *it == first + count; ++it) ++count;
      put(fd, bytes_.data() + first * kBlock, count * kBlock, first * kBlock, path);
    }
    for (const auto& [block, value] : chosen) put(fd, value->data(), kBlock, block * kBlock, path);
    close(fd);
  }

 private:
  Block flushed(std::uint64_t block) const {
    const std::byte* begin = bytes_.data() + block * kBlock;
    return Block(begin, begin + kBlock);
  }

  void note_content(std::uint64_t block) {
    const std::byte* begin = bytes_.data() + block * kBlock;
    if (std::all_of(begin, begin + kBlock, [](std::byte b) { return b == std::byte{}; })) {
      content_.erase(block);
    } else {
      content_.insert(block);
    }
  }

  static void put(int fd, const std::byte* data, std::uint64_t length, std::uint64_t offset, const std::string& path) {
    while (length != 0) {
      const ssize_t n = pwrite(fd, data, length, static_cast<off_t>(offset));
      if (n <= 0) die("cannot write " + path);
      data += n;
      offset += static_cast<std::uint64_t>(n);
      length -= static_cast<std::uint64_t>(n);
    }
  }

  const std::span<std::byte> bytes_;
  std::set<std::uint64_t> content_;  // blocks that are not all zeroes
};

// `wanted` of 0..count-1, evenly spread, the last one among them.
std::vector<std::uint64_t> spread(std::uint64_t count, std::uint64_t wanted) {
  std::vector<std::uint64_t> chosen;
  if (wanted == 0 || wanted > count) wanted = count;
  for (std::uint64_t i = 1; i <= wanted; ++i) chosen.push_back(i * count / wanted - 1);
  return chosen;
}

// OUT is complete: waits until it has been looked at.
void show(const std::string& line) {
  std::cout << line << std::endl;
  std::string answer;
  if (!std::getline(std::cin, answer)) std::exit(0);
}

class States {
 public:
  States(const Recording& recording, const char* base, std::string out, std::uint64_t seed)
      : recording_(recording), image_(base), out_(std::move(out)), random_(seed) {
    if (image_.size() != recording.size_bytes) die("the base has another size than what was recorded");
  }

  void make(std::uint64_t flushes, std::uint64_t betweens) {
    std::set<std::uint64_t> at_flush;
    for (const std::uint64_t index : spread(recording_.flushes(), flushes)) at_flush.insert(index + 1);
    const std::set<Between> in_between = choose_betweens(betweens);
    for (std::uint64_t k = 0; k < recording_.intervals.size(); ++k) {
      if (at_flush.contains(k)) {
        image_.write_to(out_, {});
        show("at flush " + std::to_string(k));
      }
      const std::vector<Operation>& interval = recording_.intervals[k];
      Image::Values values;
      for (std::uint64_t n = 0; n < interval.size(); ++n) {
        image_.add(interval[n], values);
        if (in_between.contains({k, n + 1})) between(k, {interval.data(), n + 1}, values);
      }
      if (k < recording_.flushes()) image_.flush(values);
    }
  }

 private:
  using Between = std::pair<std::uint64_t, std::uint64_t>;  // flushes, and writes after the last one

  std::set<Between> choose_betweens(std::uint64_t wanted) const {
    std::vector<Between> all;
    for (std::uint64_t k = 0; k < recording_.intervals.size(); ++k) {
      const std::uint64_t writes = recording_.intervals[k].size();
      for (std::uint64_t n = kStep; n < writes; n += kStep) all.push_back({k, n});
      if (writes != 0) all.push_back({k, writes});
    }
    std::set<Between> chosen;
    if (wanted == 0) return chosen;
    for (const std::uint64_t index : spread(all.size(), wanted)) chosen.insert(all[index]);
    return chosen;
  }

  void between(std::uint64_t k, std::span<const Operation> unflushed, const Image::Values& values) {
    Image::Values kept;  // owns what is chosen, where that is not one of `values`
    std::map<std::uint64_t, const Image::Block*> chosen;
    std::string how;
    switch (kinds_++ % 6) {
      case 0:
        how = "with half of the blocks, any of their values";
        for (const auto& [block, list] : values) {
          const std::uint64_t pick = random_() % (list.size() + 1);
          if (pick != 0) chosen[block] = &list[pick - 1];
        }
        break;
      case 1:
        how = "with half of the writes";
        keep(
            unflushed, [this](std::size_t) { return random_() % 2 == 0; }, kept, chosen);
        break;
      case 2: {
        const std::size_t lost = random_() % unflushed.size();
        how = "without write " + std::to_string(lost + 1);
        keep(
            unflushed, [lost](std::size_t i) { return i != lost; }, kept, chosen);
        break;
      }
      case 3: {
        const std::size_t lost = random_() % unflushed.size() + 1;
        how = "without the first " + std::to_string(lost);
        keep(
            unflushed, [lost](std::size_t i) { return i >= lost; }, kept, chosen);
        break;
      }
      case 4: {
        const auto lost = std::next(values.begin(), static_cast<std::ptrdiff_t>(random_() % values.size()));
        how = "without block " + std::to_string(lost->first);
        for (const auto& [block, list] : values) {
          if (block != lost->first) chosen[block] = &list.back();
        }
        break;
      }
      default:
        how = "with all of them";
        for (const auto& [block, list] : values) chosen[block] = &list.back();
    }
    image_.write_to(out_, chosen);
    show("after flush " + std::to_string(k) + " and " + std::to_string(unflushed.size()) + " writes, " + how);
  }

  template <typename Wanted>
  void keep(std::span<const Operation> unflushed, Wanted wanted, Image::Values& kept,
            std::map<std::uint64_t, const Image::Block*>& chosen) {
    for (std::size_t i = 0; i < unflushed.size(); ++i) {
      if (wanted(i)) image_.add(unflushed[i], kept);
    }
    for (const auto& [block, list] : kept) chosen[block] = &list.back();
  }

  const Recording& recording_;
  Image image_;
  const std::string out_;
  std::mt19937_64 random_;
  std::uint64_t kinds_ = 0;
};

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3 && argc != 7) {
    std::cerr << "usage: replay RECORDING BASE [OUT FLUSHES BETWEENS SEED]" << std::endl;
    return 2;
  }
  const Recording recording = read_recording(argv[1]);
  if (argc == 3) {
    std::cout << recording.flushes() << std::endl;
    return 0;
  }
  States states(recording, argv[2], argv[3], std::strtoull(argv[6], nullptr, 10));
  states.make(std::strtoull(argv[4], nullptr, 10), std::strtoull(argv[5], nullptr, 10));
}
