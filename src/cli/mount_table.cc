#include "cli/mount_table.h"

#include <libmount/libmount.h>

#include <cstring>
#include <memory>

namespace pcache {
namespace {

auto mount_table() {
  return std::unique_ptr<libmnt_table, decltype(&mnt_unref_table)>(mnt_new_table_from_file("/proc/self/mountinfo"),
                                                                   &mnt_unref_table);
}

}  // namespace

std::optional<std::string> mount_options(const std::string& path) {
  const auto table = mount_table();
  if (!table) return std::nullopt;
  libmnt_fs* fs = mnt_table_find_target(table.get(), path.c_str(), MNT_ITER_BACKWARD);
  const char* type = fs != nullptr ? mnt_fs_get_fstype(fs) : nullptr;
  if (type == nullptr || std::strcmp(type, "fuse.pcachefs") != 0) return std::nullopt;
  const char* options = mnt_fs_get_options(fs);
  return options != nullptr ? options : "";
}

std::vector<std::string> mount_points_of(const std::set<dev_t>& devices) {
  std::vector<std::string> points;
  const auto table = mount_table();
  const std::unique_ptr<libmnt_iter, decltype(&mnt_free_iter)> all(mnt_new_iter(MNT_ITER_FORWARD), &mnt_free_iter);
  libmnt_fs* mounted = nullptr;
  while (table && all && mnt_table_next_fs(table.get(), all.get(), &mounted) == 0) {
    if (devices.contains(mnt_fs_get_devno(mounted))) points.emplace_back(mnt_fs_get_target(mounted));
  }
  return points;
}

}  // namespace pcache
