#include "cli/holders.h"

#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <climits>
#include <filesystem>
#include <fstream>
#include <functional>
#include <set>

#include "cli/mount_table.h"

namespace pcache {

namespace fs = std::filesystem;

namespace {

std::string first_line(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

// The target of a link, as text: looking through it would ask the filesystem that it leads to.
std::string link_target(const fs::path& link) {
  std::array<char, PATH_MAX> target{};
  const ssize_t length = readlink(link.c_str(), target.data(), target.size());
  return length > 0 ? std::string(target.data(), static_cast<std::size_t>(length)) : std::string();
}

template <typename Use>
void for_each_entry(const std::string& directory, Use use) {
  std::error_code error;
  for (fs::directory_iterator entry(directory, error); !error && entry != fs::directory_iterator();
       entry.increment(error)) {
    use(entry->path());
  }
}

// The processes with an open file, working directory or root for which `holds` says so of its path.
std::vector<std::string> processes(const std::function<bool(const std::string& path)>& holds) {
  std::vector<std::string> found;
  for_each_entry("/proc", [&](const fs::path& process) {
    const std::string pid = process.filename();
    if (!std::all_of(pid.begin(), pid.end(), [](char c) { return c >= '0' && c <= '9'; })) return;
    bool is_holder = holds(link_target(process / "cwd")) || holds(link_target(process / "root"));
    for_each_entry(process / "fd", [&](const fs::path& fd) { is_holder = is_holder || holds(link_target(fd)); });
    if (is_holder) found.push_back("process " + pid + " (" + first_line(process / "comm") + ")");
  });
  return found;
}

// The device's number and those of its partitions.
std::set<dev_t> numbers_of(const std::string& device) {
  std::set<dev_t> numbers;
  const std::string sys = "/sys/block/" + fs::path(device).filename().string();
  const auto add = [&numbers](const fs::path& directory) {
    const std::string text = first_line(directory / "dev");
    unsigned high = 0;
    unsigned low = 0;
    const char* const end = text.data() + text.size();
    const auto [colon, wrong] = std::from_chars(text.data(), end, high);
    if (wrong != std::errc() || colon == end || *colon != ':') return;
    if (std::from_chars(colon + 1, end, low).ec == std::errc()) numbers.insert(makedev(high, low));
  };
  add(sys);
  for_each_entry(sys, [&](const fs::path& part) {
    std::error_code error;
    if (fs::exists(part / "partition", error)) add(part);
  });
  return numbers;
}

}  // namespace

std::vector<std::string> holders_of_device(const std::string& device) {
  std::vector<std::string> holders;
  const std::set<dev_t> numbers = numbers_of(device);
  for (const std::string& point : mount_points_of(numbers)) holders.push_back("mounted at " + point);
  const auto is_it = [&](const std::string& path) {
    struct stat st {};
    return path.starts_with("/dev/") && stat(path.c_str(), &st) == 0 && S_ISBLK(st.st_mode) &&
           numbers.contains(st.st_rdev);
  };
  std::ifstream swaps("/proc/swaps");
  for (std::string line; std::getline(swaps, line);) {
    if (is_it(line.substr(0, line.find_first_of(" \t")))) holders.emplace_back("swap");
  }
  for_each_entry("/sys/block/" + fs::path(device).filename().string() + "/holders",
                 [&](const fs::path& holder) { holders.push_back("/dev/" + holder.filename().string()); });
  const auto opened_by = processes(is_it);
  holders.insert(holders.end(), opened_by.begin(), opened_by.end());
  return holders;
}

std::vector<std::string> holders_of_mount(const std::string& mount_point) {
  const auto is_in = [&](const std::string& path) {
    return path == mount_point || path.starts_with(mount_point + "/");
  };
  std::vector<std::string> holders;
  for_each_entry("/sys/block", [&](const fs::path& device) {
    if (!is_in(first_line(device / "loop/backing_file"))) return;
    const std::string node = "/dev/" + device.filename().string();
    const auto its_own = holders_of_device(node);
    holders.push_back(node + (its_own.empty() ? "" : " (" + holders_text(its_own) + ")"));
  });
  const auto opened_by = processes(is_in);
  holders.insert(holders.end(), opened_by.begin(), opened_by.end());
  return holders;
}

std::string holders_text(const std::vector<std::string>& holders) {
  constexpr std::size_t kNamed = 5;
  std::string text;
  for (std::size_t i = 0; i < std::min(holders.size(), kNamed); ++i) text += (i == 0 ? "" : ", ") + holders[i];
  if (holders.size() > kNamed) text += ", and " + std::to_string(holders.size() - kNamed) + " more";
  return text;
}

}  // namespace pcache
