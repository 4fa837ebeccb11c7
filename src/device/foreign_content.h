// Whether a path holds something that formatting would destroy.
#pragma once

#include <string>

#include "pcache/result.h"

namespace pcache {

// A few words for what the file or device open as `fd` holds ("an ext4 filesystem", "data"), or an empty text when it
// holds nothing: no signature that libblkid knows, and only zeroes in its first and last MiB. Errors: failed.
Result<std::string> describe_content(int fd, const std::string& path);

}  // namespace pcache
