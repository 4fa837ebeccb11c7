#include "cli/progress.h"

#include <algorithm>
#include <utility>

#include "base/size_text.h"

namespace pcache {
namespace {

constexpr std::chrono::seconds kQuiet{10};

std::string time_text(std::uint64_t seconds) {
  if (seconds < 120) return std::to_string(seconds) + " s";
  if (seconds < 7200) return std::to_string(seconds / 60) + " min";
  return std::to_string(seconds / 3600) + " h";
}

}  // namespace

Progress::Progress(std::ostream& out, bool is_terminal, std::string name, Time now)
    : out_(out), is_terminal_(is_terminal), name_(std::move(name)), begun_(now), said_(now) {}

void Progress::update(std::uint64_t left_bytes, Time now) {
  if (!first_left_) first_left_ = left_bytes;
  if (!is_terminal_) {
    if (now - said_ < kQuiet) return;
    said_ = now;
    out_ << name_ << ": " << text(left_bytes, now) << std::endl;
    return;
  }
  std::string line = name_ + ": " + text(left_bytes, now);
  const std::size_t length = line.size();
  line.resize(std::max(length, line_), ' ');
  line_ = length;
  out_ << '\r' << line << std::flush;
}

void Progress::end() {
  if (line_ != 0) out_ << std::endl;
  line_ = 0;
}

// The rate since the beginning; what is written meanwhile counts as not yet gone.
std::string Progress::text(std::uint64_t left_bytes, Time now) const {
  std::string text = (left_bytes == 0 ? "nothing" : format_size(left_bytes)) + std::string(" left");
  const auto ms =
      static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::milliseconds>(now - begun_).count());
  if (ms == 0 || !first_left_ || *first_left_ <= left_bytes) return text;
  const std::uint64_t rate =
      static_cast<std::uint64_t>(static_cast<double>(*first_left_ - left_bytes) * 1000.0 / static_cast<double>(ms));
  if (rate == 0) return text;
  return text + ", " + format_size(rate) + "/s, " + time_text((left_bytes + rate - 1) / rate) + " to go";
}

}  // namespace pcache
