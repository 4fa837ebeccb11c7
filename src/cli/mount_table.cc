#include "cli/mount_table.h"

#include <libmount/libmount.h>

#include <cstring>
#include <memory>

namespace pcache {

std::optional<std::string> mount_options(const std::string& path) {
  const std::unique_ptr<libmnt_table, decltype(&mnt_unref_table)> table(mnt_new_table_from_file("/proc/self/mountinfo"),
                                                                        &mnt_unref_table);
  if (!table) return std::nullopt;
  libmnt_fs* fs = mnt_table_find_target(table.get(), path.c_str(), MNT_ITER_BACKWARD);
  const char* type = fs != nullptr ? mnt_fs_get_fstype(fs) : nullptr;
  if (type == nullptr || std::strcmp(type, "fuse.pcachefs") != 0) return std::nullopt;
  const char* options = mnt_fs_get_options(fs);
  return options != nullptr ? options : "";
}

}  // namespace pcache
