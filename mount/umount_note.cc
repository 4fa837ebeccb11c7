#include "mount/umount_note.h"

#include <libmount/libmount.h>

#include <memory>

namespace pcache {
namespace {

using Update = std::unique_ptr<libmnt_update, decltype(&mnt_free_update)>;
using Fs = std::unique_ptr<libmnt_fs, decltype(&mnt_unref_fs)>;

// Stores in the table of libmount what `fs` says; null: that there is nothing at `gone` any more.
void store(const char* gone, libmnt_fs* fs) {
  const Update update(mnt_new_update(), &mnt_free_update);
  if (update && mnt_update_set_fs(update.get(), 0, gone, fs) == 0) mnt_update_table(update.get(), nullptr);
}

}  // namespace

void note_for_umount(const std::string& source, const std::string& mount_point) {
  forget_for_umount(mount_point);  // of a daemon that was killed
  const Fs fs(mnt_new_fs(), &mnt_unref_fs);
  if (fs && mnt_fs_set_source(fs.get(), source.c_str()) == 0 && mnt_fs_set_target(fs.get(), mount_point.c_str()) == 0 &&
      mnt_fs_set_fstype(fs.get(), "fuse.pcachefs") == 0 && mnt_fs_set_options(fs.get(), "uhelper=fuse.pcachefs") == 0) {
    store(nullptr, fs.get());
  }
}

void forget_for_umount(const std::string& mount_point) { store(mount_point.c_str(), nullptr); }

}  // namespace pcache
