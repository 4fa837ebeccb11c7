// Names of block devices that stay, and those that do not.
#pragma once

#include <string>

namespace pcache {

// Why `path` is no name to rely on, and which is: "/dev/sdb may be another device after the next boot; use ...". Empty
// where it is none of the names that the kernel gives in the order in which it finds disks. `dev` stands for /dev.
std::string stable_name_advice(const std::string& path, const std::string& dev = "/dev");

}  // namespace pcache
