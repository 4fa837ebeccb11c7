#include "cli/progress.h"

#include <algorithm>
#include <utility>

#include "base/size_text.h"

namespace pcache {
namespace {

constexpr std::chrono::seconds kQuiet{10};
constexpr std::size_t kBar = 24;

std::string time_text(std::uint64_t seconds) {
  if (seconds < 120) return std::to_string(seconds) + " s";
  if (seconds < 7200) return std::to_string(seconds / 60) + " min";
  return std::to_string(seconds / 3600) + " h";
}

std::string bar(const JobProgress& progress) {
  if (progress.total_bytes == 0) return "";
  const double part = static_cast<double>(progress.done_bytes) / static_cast<double>(progress.total_bytes);
  const auto full = std::min(kBar, static_cast<std::size_t>(part * static_cast<double>(kBar)));
  return "[" + std::string(full, '#') + std::string(kBar - full, ' ') + "] ";
}

}  // namespace

std::string progress_text(const JobProgress& progress) {
  if (progress.total_bytes == 0) return "nothing to write back";
  std::string text = format_size(progress.done_bytes) + " of " + format_size(progress.total_bytes);
  if (progress.bytes_per_second == 0) return text;
  return text + ", " + format_size(progress.bytes_per_second) + "/s, " + time_text((progress.left_ms + 999) / 1000) +
         " to go";
}

ProgressLine::ProgressLine(std::ostream& out, bool is_terminal, std::string name, Time now)
    : out_(out), is_terminal_(is_terminal), name_(std::move(name)), said_(now) {}

void ProgressLine::update(const JobProgress& progress, Time now) {
  if (!is_terminal_) {
    if (now - said_ < kQuiet) return;
    said_ = now;
    out_ << name_ << ": " << progress_text(progress) << std::endl;
    return;
  }
  std::string line = name_ + ": " + bar(progress) + progress_text(progress);
  const std::size_t length = line.size();
  line.resize(std::max(length, line_), ' ');
  line_ = length;
  out_ << '\r' << line << std::flush;
}

void ProgressLine::end() {
  if (line_ != 0) out_ << std::endl;
  line_ = 0;
}

}  // namespace pcache
