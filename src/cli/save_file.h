// A result that goes into a file which somebody relies on.
#pragma once

#include <string>

#include "pcache/status.h"

namespace pcache {

// Makes `text` the content of the file `path`, the whole of it or nothing: what is there is replaced when the new file
// is on its disk, and owner and mode stay. A link is followed. What is no ordinary file, such as /dev/stdout or a pipe,
// is written into. Errors: those of the system, naming the file; where one is returned, an ordinary file is what it
// was.
Status save_file(const std::string& path, const std::string& text);

}  // namespace pcache
