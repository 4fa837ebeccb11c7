// Exclusive use of a file or device node by one open descriptor.
#pragma once

namespace pcache {

// Takes both kinds of lock, since another opener may know only one of them, without waiting; they last as long as the
// open file. `is_char_device`: such a node takes the first kind alone. Returns 0, EWOULDBLOCK when another has it, or
// what else went wrong as a positive errno. A descriptor that is only for reading excludes the others just the same.
int try_lock_exclusively(int fd, bool is_char_device = false);

}  // namespace pcache
