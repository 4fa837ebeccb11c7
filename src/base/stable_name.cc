#include "base/stable_name.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <string_view>
#include <vector>

namespace pcache {

namespace fs = std::filesystem;

namespace {

// Disks and their partitions. The other ones are named by somebody (dm by /dev/mapper), or are something else that has
// a name of its own (loop devices).
constexpr std::array<std::string_view, 7> kNumbered = {"sd", "hd", "vd", "xvd", "nvme", "mmcblk", "nbd"};

// Best first: what the disk calls itself, what its partition table does, where it is plugged in.
constexpr std::array<const char*, 3> kStable = {"by-id", "by-partuuid", "by-path"};

// The link to `device` in a directory, the first by name; empty if there is none.
std::string link_in(const fs::path& directory, const fs::path& device) {
  std::vector<std::string> links;
  std::error_code error;
  for (fs::directory_iterator entry(directory, error); !error && entry != fs::directory_iterator();
       entry.increment(error)) {
    std::error_code unresolved;
    if (fs::canonical(entry->path(), unresolved) == device) links.push_back(entry->path());
  }
  // A World Wide Name says less to people than maker, model and serial number do.
  const auto rank = [](const std::string& link) {
    const std::string name = fs::path(link).filename();
    return name.starts_with("wwn-") || name.starts_with("nvme-eui.");
  };
  const auto best = std::min_element(links.begin(), links.end(), [&](const std::string& a, const std::string& b) {
    return std::pair(rank(a), a) < std::pair(rank(b), b);
  });
  return best == links.end() ? "" : *best;
}

}  // namespace

std::string stable_name_advice(const std::string& path, const std::string& dev) {
  const fs::path given(path);
  if (given.parent_path() != dev) return "";
  std::error_code error;
  if (fs::is_symlink(given, error)) return "";
  const std::string name = given.filename();
  const auto numbered = [&](std::string_view prefix) {
    return name.size() > prefix.size() && name.starts_with(prefix) &&
           std::all_of(name.begin() + static_cast<std::ptrdiff_t>(prefix.size()), name.end(),
                       [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); });
  };
  if (std::none_of(kNumbered.begin(), kNumbered.end(), numbered)) return "";
  const std::string warning = path + " may be another device after the next boot; use ";
  const fs::path device = fs::weakly_canonical(given, error);
  for (const char* kind : kStable) {
    if (const std::string link = link_in(fs::path(dev) / "disk" / kind, device); !link.empty()) return warning + link;
  }
  return warning + "a link below " + dev + "/disk/by-id, of which it has none now";
}

}  // namespace pcache
