// Who keeps something from being taken down, in words for people: "process 4711 (fio)", "mounted at /mnt/demo".
#pragma once

#include <string>
#include <vector>

namespace pcache {

// Of a whole block device such as "/dev/loop0" and its partitions: mounts, swap, devices built on it, processes.
std::vector<std::string> holders_of_device(const std::string& device);

// Of the filesystem that is mounted at `mount_point`, which is not touched, as its daemon may be dead: processes with
// an open file or their working directory in it, and loop devices on its files.
std::vector<std::string> holders_of_mount(const std::string& mount_point);

// "a, b, and 3 more".
std::string holders_text(const std::vector<std::string>& holders);

}  // namespace pcache
